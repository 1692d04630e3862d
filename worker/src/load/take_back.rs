//! `monthend load --take-back NUMBER`: voids a load or seed as a whole, and says what follows.

use store::load::{self, TakeBackResult, TakenBack};
use tokio_util::sync::CancellationToken;

use super::{acquire_load_lock, remove_dead_loads};
use crate::database;
use crate::exit::{CommandError, CommandResult, ExitStatus};
use crate::global_options::GlobalOptions;
use crate::output::{group_digits, print_line};

pub(super) async fn take_back(
    global: &GlobalOptions,
    number: i64,
    reason: Option<&str>,
    stop: &CancellationToken,
) -> CommandResult {
    let mut connection = database::connect(global.database_url()?, "monthend load --take-back").await?;
    acquire_load_lock(&mut connection, stop).await?;
    remove_dead_loads(&mut connection).await?;
    match load::take_back_load(&mut connection, number, reason).await? {
        TakeBackResult::TakenBack(taken_back) => print(number, &taken_back),
        TakeBackResult::AlreadyTakenBack { by } => {
            print_line(format_args!(
                "load {number} was taken back before, by load {by}: nothing was changed"
            ));
        }
        TakeBackResult::Rejected(rejection) => return Err(CommandError::usage(rejection)),
    }
    Ok(ExitStatus::Success)
}

fn print(number: i64, taken_back: &TakenBack) {
    let TakenBack { by, kind, source, rows, billed, skipped_by } = taken_back;
    let kind = kind.to_lowercase();
    print_line(format_args!(
        "load {by} takes {kind} {number} of source {source} back: these rows no longer count"
    ));
    for (file, rows) in rows {
        print_line(format_args!("  {file:<14} {:>14}", group_digits(*rows)));
    }
    if !skipped_by.is_empty() {
        let loads: Vec<String> = skipped_by.iter().map(i64::to_string).collect();
        print_line(format_args!(
            "lines that later loads skipped because load {number} had brought them are gone with it: load the \
             folders of these loads again: {}",
            loads.join(", ")
        ));
    }
    if billed.is_empty() {
        print_line("no live month was billed with it");
        return;
    }
    print_line("these live months were billed with it and stay as they are until you bill them again:");
    for (month, revision) in billed {
        print_line(format_args!(
            "  {month}: apply a BillingRun with spec.rebill.ofRevision: {revision} (kubectl -n monthend apply -f FILE)"
        ));
    }
}
