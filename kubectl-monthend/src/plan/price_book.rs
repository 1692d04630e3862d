//! Which price book a run uses for which none was given.

use api::BillingRun;
use api::billing_run::{Phase, PriceBookRef};
use api::run::Run as _;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::ResourceExt;

use super::PRICE_BOOK_LABEL;
use crate::exit::{Problem, Result};

const KEY: &str = "pricebook.yaml";

/// That of the last run of the month whose bills were issued, or else of any month. A run that waits
/// or has failed may name a wrong one.
pub(crate) fn of_runs(runs: &[BillingRun], month: &str) -> Option<PriceBookRef> {
    let issued =
        runs.iter().filter(|run| run.phase() == Some(Phase::Succeeded) && run.spec.price_book_ref.is_some());
    let last = issued.max_by_key(|run| {
        let created = run.metadata.creation_timestamp.as_ref().map(|at| at.0);
        (run.spec.month == month, created, run.name_any())
    });
    last.and_then(|run| run.spec.price_book_ref.clone())
}

/// The only ConfigMap that is labelled as a price book.
pub(crate) fn labelled(maps: &[ConfigMap]) -> Result<PriceBookRef> {
    let labelled: Vec<&ConfigMap> = maps
        .iter()
        .filter(|map| map.labels().get(PRICE_BOOK_LABEL).is_some_and(|value| value == "true"))
        .collect();
    match labelled.as_slice() {
        [map] => Ok(PriceBookRef { name: map.name_any(), key: KEY.to_owned() }),
        [] => Err(Problem::usage(format!("{NO_RUN}, {}", of_maps(maps)))),
        several => Err(Problem::usage(format!(
            "{NO_RUN}, and several ConfigMaps have the label {PRICE_BOOK_LABEL}=true: choose one of them with --price-book: {}",
            names(several.iter().copied())
        ))),
    }
}

/// What is said of a price book that is not there. The run waits for it, so it is no error.
pub(crate) fn missing(book: &PriceBookRef, maps: &[ConfigMap]) -> Option<String> {
    maps.iter().all(|map| map.name_any() != book.name).then(|| {
        format!(
            "there is no ConfigMap {}: the run waits (PriceBookNotFound), and starts by itself when it is there",
            book.name
        )
    })
}

const NO_RUN: &str = "no run says which price book to use";

fn of_maps(maps: &[ConfigMap]) -> String {
    let books: Vec<&ConfigMap> =
        maps.iter().filter(|map| map.data.as_ref().is_some_and(|data| data.contains_key(KEY))).collect();
    if books.is_empty() {
        return format!(
            "and no ConfigMap of the namespace has an entry {KEY}: create one with \
             `kubectl create configmap pricebook --from-file={KEY}`, and give --price-book pricebook"
        );
    }
    format!(
        "and no ConfigMap has the label {PRICE_BOOK_LABEL}=true: choose one with --price-book: {}",
        names(books)
    )
}

fn names<'a>(maps: impl IntoIterator<Item = &'a ConfigMap>) -> String {
    let mut names: Vec<String> = maps.into_iter().map(ResourceExt::name_any).collect();
    names.sort();
    names.join(", ")
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::plan::testing::{billing_run, rollback_run, time};

    fn map(name: &str, labels: Value, entry: &str) -> ConfigMap {
        let map = json!({"metadata": {"name": name, "labels": labels}, "data": {entry: "text"}});
        serde_json::from_value(map).unwrap()
    }

    #[test]
    fn the_last_run_that_issued_bills_has_the_price_book() {
        let run = |month: &str, phase: Phase, book: &str, created: &str| {
            let mut run = billing_run(book, month, phase, Some(1));
            run.metadata.creation_timestamp = Some(time(created));
            run.spec.price_book_ref =
                Some(PriceBookRef { name: book.to_owned(), key: "book.yaml".to_owned() });
            run
        };
        let mut back = rollback_run("back", "2026-10", Phase::Succeeded, 1);
        back.metadata.creation_timestamp = Some(time("2026-12-09T00:00:00Z"));
        let runs = [
            run("2026-09", Phase::Succeeded, "september", "2026-10-02T00:00:00Z"),
            run("2026-10", Phase::Succeeded, "october", "2026-11-01T00:00:00Z"),
            run("2026-10", Phase::Succeeded, "october-corrected", "2026-11-02T00:00:00Z"),
            run("2026-10", Phase::Failed, "failed", "2026-11-03T00:00:00Z"),
            run("2026-12", Phase::Pending, "mistyped", "2026-12-08T00:00:00Z"),
            back,
        ];
        let of = |month: &str| of_runs(&runs, month).map(|book| (book.name, book.key));
        let named = |name: &str| Some((name.to_owned(), "book.yaml".to_owned()));
        assert_eq!(of("2026-09"), named("september"));
        assert_eq!(of("2026-10"), named("october-corrected"));
        assert_eq!(of("2026-11"), named("october-corrected"));
        assert_eq!(of_runs(&runs[3..], "2026-10"), None);
    }

    #[test]
    fn without_a_run_the_labelled_config_map_is_the_price_book() {
        let yes = map("labelled", json!({"monthend.dev/price-book": "true"}), KEY);
        let other = map("other", json!({"monthend.dev/price-book": "false"}), KEY);
        assert_eq!(labelled(&[other, yes]).unwrap().name, "labelled");
    }

    #[test]
    fn a_price_book_that_is_not_there_is_remarked() {
        let book = |name: &str| PriceBookRef { name: name.to_owned(), key: KEY.to_owned() };
        let maps = [map("pricebook-2026", json!({}), KEY)];
        assert_eq!(missing(&book("pricebook-2026"), &maps), None);
        assert_eq!(
            missing(&book("pricebok-2026"), &maps).as_deref(),
            Some(
                "there is no ConfigMap pricebok-2026: the run waits (PriceBookNotFound), and starts by itself when it \
                 is there"
            )
        );
    }

    #[test]
    fn otherwise_the_error_names_what_there_is() {
        let book = |name: &str| map(name, json!({}), KEY);
        let chosen = |name: &str| map(name, json!({"monthend.dev/price-book": "true"}), KEY);
        for (maps, text) in [
            (
                vec![map("templates", json!({}), "en.subject.hbs")],
                "no run says which price book to use, and no ConfigMap of the namespace has an entry pricebook.yaml: \
                 create one with `kubectl create configmap pricebook --from-file=pricebook.yaml`, and give \
                 --price-book pricebook",
            ),
            (
                vec![book("b"), book("a")],
                "no run says which price book to use, and no ConfigMap has the label monthend.dev/price-book=true: \
                 choose one with --price-book: a, b",
            ),
            (
                vec![chosen("y"), chosen("x")],
                "no run says which price book to use, and several ConfigMaps have the label \
                 monthend.dev/price-book=true: choose one of them with --price-book: x, y",
            ),
        ] {
            assert_eq!(labelled(&maps), Err(Problem::usage(text)));
        }
    }
}
