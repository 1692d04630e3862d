//! The BillingRuns of `bill`, `rebill` and `rollback`.

use api::billing_run::{
    AfterSent, ApprovalPolicy, Limits, OverRevision, PriceBookRef, Rebill, Scope, ScopeSelect,
};
use api::{BillingRun, BillingRunSpec, MemberRange};

use super::metadata;
use super::month_state::Live;
use super::names::{Existing, free_name};
use crate::args::{BillingOptions, ScopeOptions};
use crate::exit::{Problem, Result};

const KIND: &str = "BillingRun";

/// Where a run is created, and by whom.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Creation<'a> {
    pub(crate) namespace: &'a str,
    pub(crate) user: &'a str,
    /// The name, if one was given.
    pub(crate) name: Option<&'a str>,
}

/// The run that bills a month for the first time.
pub(crate) fn bill(
    creation: Creation<'_>,
    month: &str,
    options: &BillingOptions,
    sources: &[String],
    book: PriceBookRef,
    existing: &[BillingRun],
) -> Result<BillingRun> {
    if let Some(Live { revision, run }) = super::month_state::live(existing, month) {
        return Err(Problem::usage(format!(
            "{month} is billed: revision {revision} of {run} is live. To bill it again: \
             kubectl monthend rebill {month} --reason …"
        )));
    }
    let mut spec = of_options(month, options, Some(book))?;
    spec.require_sources = sources.to_vec();
    named(creation, &format!("billing-{month}"), spec, existing)
}

/// What a re-billing is for.
#[derive(Debug)]
pub(crate) struct Rebilling<'a> {
    pub(crate) of_revision: i32,
    pub(crate) reason: &'a str,
    pub(crate) after_sent: AfterSent,
    pub(crate) select: Option<ScopeSelect>,
    pub(crate) scope: &'a ScopeOptions,
}

/// The run that bills a live month again.
pub(crate) fn rebill(
    creation: Creation<'_>,
    month: &str,
    rebilling: &Rebilling<'_>,
    options: &BillingOptions,
    book: PriceBookRef,
    existing: &[BillingRun],
) -> Result<BillingRun> {
    let &Rebilling { of_revision, reason, after_sent, select, scope } = rebilling;
    let mut spec = of_options(month, options, Some(book))?;
    spec.rebill = Some(Rebill { of_revision, reason: reason_of(reason)?, after_sent });
    spec.scope = members(scope)?
        .map(|(member_range, member_ids)| Scope { member_range, member_ids, select: None })
        .or(select.map(|select| Scope { select: Some(select), ..Scope::default() }));
    let next = of_revision.saturating_add(1);
    named(creation, &format!("rebilling-{month}-r{next}"), spec, existing)
}

/// The run that takes a revision back.
pub(crate) fn rollback(
    creation: Creation<'_>,
    month: &str,
    of_revision: i32,
    reason: &str,
    existing: &[BillingRun],
) -> Result<BillingRun> {
    let mut spec = of_options(month, &BillingOptions::default(), None)?;
    spec.rollback = Some(OverRevision { of_revision, reason: reason_of(reason)? });
    named(creation, &format!("rollback-{month}-r{of_revision}"), spec, existing)
}

/// What is said of a revision that is not the live one as far as the runs know.
pub(crate) fn another_is_live(month: &str, of_revision: i32, live: &Live) -> Option<String> {
    (live.revision != of_revision).then(|| {
        format!(
            "the runs say that revision {} of {month} is live, made by {}: if it is, a run over revision {of_revision} \
             fails with RevisionConflict",
            live.revision, live.run
        )
    })
}

fn named(
    creation: Creation<'_>,
    base: &str,
    spec: BillingRunSpec,
    existing: &[BillingRun],
) -> Result<BillingRun> {
    let taken = Existing::all(existing);
    let name = match creation.name {
        Some(name) => name.to_owned(),
        None => free_name(KIND, base, &taken)?,
    };
    let mut run = BillingRun::new(&name, spec);
    run.metadata = metadata(&name, creation.namespace, creation.user);
    Ok(run)
}

fn of_options(month: &str, options: &BillingOptions, book: Option<PriceBookRef>) -> Result<BillingRunSpec> {
    let minimal = serde_json::json!({ "month": month });
    let mut spec: BillingRunSpec = serde_json::from_value(minimal)
        .map_err(|error| Problem::failed(format!("the defaults of a BillingRun are wrong: {error}")))?;
    let BillingOptions {
        price_book: _,
        price_book_key: _,
        manual,
        data_cutoff,
        max_quarantined,
        max_changed_bills,
        max_total_delta,
        parallelism,
        shards,
    } = options;
    spec.price_book_ref = book;
    if *manual {
        spec.approval_policy = ApprovalPolicy::Manual;
    }
    spec.data_cutoff = *data_cutoff;
    let limits = Limits {
        max_quarantined: max_quarantined.clone(),
        max_changed_bills: max_changed_bills.clone(),
        max_total_delta: max_total_delta.clone(),
        versus_previous_month: None,
    };
    spec.limits = (limits != Limits::default()).then_some(limits);
    if let Some(parallelism) = parallelism {
        spec.parallelism = *parallelism;
    }
    if let Some(shards) = shards {
        spec.shards = *shards;
    }
    Ok(spec)
}

fn reason_of(reason: &str) -> Result<String> {
    if reason.trim().is_empty() || reason.chars().count() > 1024 {
        return Err(Problem::usage("--reason must say why, in 1 to 1024 characters"));
    }
    Ok(reason.to_owned())
}

/// A range or a list of members.
pub(super) type Members = (Option<MemberRange>, Option<Vec<i64>>);

/// The members that were given; none: all.
pub(super) fn members(scope: &ScopeOptions) -> Result<Option<Members>> {
    if scope.members.len() > 1000 {
        let given = scope.members.len();
        return Err(Problem::usage(format!(
            "--members has {given} ids, and a run takes 1000: give a --range, or create several runs with --name"
        )));
    }
    if let Some(range) = &scope.range {
        return Ok(Some((Some(range.clone()), None)));
    }
    Ok((!scope.members.is_empty()).then(|| (None, Some(scope.members.clone()))))
}

#[cfg(test)]
mod tests {
    use api::Limit;
    use api::billing_run::Phase;
    use serde_json::{Value, json};

    use super::*;
    use crate::plan::testing::{billing_run, rollback_run};

    const CREATION: Creation<'static> = Creation { namespace: "billing", user: "kim", name: None };

    fn book() -> PriceBookRef {
        PriceBookRef { name: "pricebook".to_owned(), key: "pricebook.yaml".to_owned() }
    }

    fn as_json(run: &BillingRun) -> Value {
        serde_json::to_value(run).unwrap()
    }

    fn rebilling<'a>(scope: &'a ScopeOptions) -> Rebilling<'a> {
        Rebilling { of_revision: 1, reason: "late", after_sent: AfterSent::Revise, select: None, scope }
    }

    #[test]
    fn a_month_is_billed_with_the_defaults_of_the_api_and_the_name_of_the_creator() {
        let run = bill(CREATION, "2026-10", &BillingOptions::default(), &[], book(), &[]).unwrap();
        assert_eq!(
            as_json(&run),
            json!({
                "apiVersion": "monthend.dev/v1alpha1", "kind": "BillingRun",
                "metadata": {"name": "billing-2026-10", "namespace": "billing",
                             "annotations": {"monthend.dev/created-by": "kim"}},
                "spec": {"month": "2026-10", "priceBookRef": {"name": "pricebook", "key": "pricebook.yaml"},
                         "approvalPolicy": "Automatic", "shards": 16, "parallelism": 2, "chunkSize": 1000,
                         "suspend": false},
            })
        );
    }

    #[test]
    fn every_option_becomes_its_field() {
        let options = BillingOptions {
            manual: true,
            data_cutoff: Some(7),
            max_quarantined: Some(Limit::Percent("0.1%".to_owned())),
            parallelism: Some(4),
            shards: Some(8),
            ..BillingOptions::default()
        };
        let creation = Creation { name: Some("october"), ..CREATION };
        let run = bill(creation, "2026-10", &options, &["cdr-a".to_owned()], book(), &[]).unwrap();
        assert_eq!(run.metadata.name.as_deref(), Some("october"));
        assert_eq!(
            as_json(&run)["spec"],
            json!({
                "month": "2026-10", "priceBookRef": {"name": "pricebook", "key": "pricebook.yaml"},
                "approvalPolicy": "Manual", "limits": {"maxQuarantined": "0.1%"}, "dataCutoff": 7,
                "requireSources": ["cdr-a"], "shards": 8, "parallelism": 4, "chunkSize": 1000, "suspend": false,
            })
        );
    }

    #[test]
    fn a_live_month_is_not_billed_as_if_it_were_new() {
        let live = billing_run("october", "2026-10", Phase::Succeeded, Some(1));
        let options = BillingOptions::default();
        let problem =
            bill(CREATION, "2026-10", &options, &[], book(), std::slice::from_ref(&live)).unwrap_err();
        assert_eq!(
            problem,
            Problem::usage(
                "2026-10 is billed: revision 1 of october is live. To bill it again: \
                 kubectl monthend rebill 2026-10 --reason …"
            )
        );
        // Once it is taken back, it is.
        let back = rollback_run("back", "2026-10", Phase::Succeeded, 1);
        assert!(bill(CREATION, "2026-10", &options, &[], book(), &[live, back]).is_ok());
    }

    #[test]
    fn a_rebilling_names_the_revision_the_reason_and_the_members() {
        let nobody = ScopeOptions::default();
        let whole = rebill(CREATION, "2026-10", &rebilling(&nobody), &BillingOptions::default(), book(), &[]);
        let whole = as_json(&whole.unwrap());
        assert_eq!(whole["metadata"]["name"], "rebilling-2026-10-r2");
        assert_eq!(
            whole["spec"]["rebill"],
            json!({"ofRevision": 1, "reason": "late", "afterSent": "Revise"})
        );
        assert_eq!(whole["spec"]["scope"], Value::Null);

        let list = ScopeOptions { members: vec![1042, 1043], range: None };
        let range = ScopeOptions { members: vec![], range: Some(MemberRange { from: 1, to: 9 }) };
        let late = Rebilling { select: Some(ScopeSelect::Late), ..rebilling(&nobody) };
        for (rebilling, scope) in [
            (rebilling(&list), json!({"memberIds": [1042, 1043]})),
            (rebilling(&range), json!({"memberRange": {"from": 1, "to": 9}})),
            (late, json!({"select": "Late"})),
        ] {
            let run =
                rebill(CREATION, "2026-10", &rebilling, &BillingOptions::default(), book(), &[]).unwrap();
            assert_eq!(as_json(&run)["spec"]["scope"], scope);
        }
    }

    #[test]
    fn more_members_than_a_run_takes_are_refused() {
        let many = ScopeOptions { members: (1..=1001).collect(), range: None };
        let problem = rebill(CREATION, "2026-10", &rebilling(&many), &BillingOptions::default(), book(), &[])
            .unwrap_err();
        assert_eq!(
            problem,
            Problem::usage(
                "--members has 1001 ids, and a run takes 1000: give a --range, or create several runs with --name"
            )
        );
    }

    #[test]
    fn a_rollback_has_no_price_book() {
        let run = rollback(CREATION, "2026-10", 2, "wrong price book", &[]).unwrap();
        let run = as_json(&run);
        assert_eq!(run["metadata"]["name"], "rollback-2026-10-r2");
        assert_eq!(run["spec"]["rollback"], json!({"ofRevision": 2, "reason": "wrong price book"}));
        assert_eq!(run["spec"]["priceBookRef"], Value::Null);
        let problem = rollback(CREATION, "2026-10", 2, "  ", &[]).unwrap_err();
        assert_eq!(problem, Problem::usage("--reason must say why, in 1 to 1024 characters"));
    }

    #[test]
    fn a_revision_that_is_not_live_is_remarked() {
        let live = Live { revision: 2, run: "rebilling-2026-10-r2".to_owned() };
        assert_eq!(another_is_live("2026-10", 2, &live), None);
        assert_eq!(
            another_is_live("2026-10", 1, &live).as_deref(),
            Some(
                "the runs say that revision 2 of 2026-10 is live, made by rebilling-2026-10-r2: if it is, a run over \
                 revision 1 fails with RevisionConflict"
            )
        );
    }
}
