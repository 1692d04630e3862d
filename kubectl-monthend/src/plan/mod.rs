//! What a command creates or changes, as values: no client, no terminal.

pub(crate) mod billing;
pub(crate) mod find;
pub(crate) mod month_state;
pub(crate) mod names;
pub(crate) mod notification;
pub(crate) mod price_book;
#[cfg(test)]
pub(crate) mod testing;

use kube::core::ObjectMeta;

/// Who made a run, in the words of the API server. With `approval.byCreator: false` the chart's
/// policy asks for it, and keeps this user from approving the run.
const CREATED_BY: &str = "monthend.dev/created-by";
/// On a ConfigMap: it is the price book of runs that name none.
pub(crate) const PRICE_BOOK_LABEL: &str = "monthend.dev/price-book";

/// The metadata of a new run.
fn metadata(name: &str, namespace: &str, user: &str) -> ObjectMeta {
    ObjectMeta {
        name: Some(name.to_owned()),
        namespace: Some(namespace.to_owned()),
        annotations: Some([(CREATED_BY.to_owned(), user.to_owned())].into()),
        ..ObjectMeta::default()
    }
}
