//! Which price book a run uses for which none was given.

use api::BillingRun;
use api::billing_run::PriceBookRef;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::ResourceExt;

use super::PRICE_BOOK_LABEL;
use crate::exit::{Problem, Result};

const KEY: &str = "pricebook.yaml";

/// That of the last run; without one, the only ConfigMap that is labelled as a price book.
pub(crate) fn choose(runs: &[BillingRun], maps: &[ConfigMap]) -> Result<PriceBookRef> {
    let with_book = runs.iter().filter(|run| run.spec.price_book_ref.is_some());
    let last =
        with_book.max_by_key(|run| (run.metadata.creation_timestamp.as_ref().map(|at| at.0), run.name_any()));
    if let Some(book) = last.and_then(|run| run.spec.price_book_ref.clone()) {
        return Ok(book);
    }
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
    use api::billing_run::Phase;
    use serde_json::{Value, json};

    use super::*;
    use crate::plan::testing::{billing_run, rollback_run, time};

    fn map(name: &str, labels: Value, entry: &str) -> ConfigMap {
        let map = json!({"metadata": {"name": name, "labels": labels}, "data": {entry: "text"}});
        serde_json::from_value(map).unwrap()
    }

    #[test]
    fn the_last_run_has_the_price_book() {
        let mut old = billing_run("z-old", "2026-09", Phase::Succeeded, Some(1));
        old.metadata.creation_timestamp = Some(time("2026-10-02T00:00:00Z"));
        let mut new = billing_run("new", "2026-10", Phase::Failed, None);
        new.spec.price_book_ref =
            Some(PriceBookRef { name: "newer".to_owned(), key: "book.yaml".to_owned() });
        let mut back = rollback_run("back", "2026-10", Phase::Succeeded, 1);
        back.metadata.creation_timestamp = Some(time("2026-11-09T00:00:00Z"));
        let labelled = map("labelled", json!({"monthend.dev/price-book": "true"}), KEY);
        let book = choose(&[new, old, back], &[labelled]).unwrap();
        assert_eq!((book.name.as_str(), book.key.as_str()), ("newer", "book.yaml"));
    }

    #[test]
    fn without_a_run_the_labelled_config_map_is_the_price_book() {
        let labelled = map("labelled", json!({"monthend.dev/price-book": "true"}), KEY);
        let other = map("other", json!({"monthend.dev/price-book": "false"}), KEY);
        assert_eq!(choose(&[], &[other, labelled]).unwrap().name, "labelled");
    }

    #[test]
    fn otherwise_the_error_names_what_there_is() {
        let book = |name: &str| map(name, json!({}), KEY);
        let labelled = |name: &str| map(name, json!({"monthend.dev/price-book": "true"}), KEY);
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
                vec![labelled("y"), labelled("x")],
                "no run says which price book to use, and several ConfigMaps have the label \
                 monthend.dev/price-book=true: choose one of them with --price-book: x, y",
            ),
        ] {
            assert_eq!(choose(&[], &maps), Err(Problem::usage(text)));
        }
    }
}
