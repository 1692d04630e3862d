//! A decision about a run: the status to write and the next step. Values without a client, so that
//! tests compare them.

use std::time::Duration;

/// The status to write, and what to do after that.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Decision<S, A> {
    pub(crate) status: S,
    pub(crate) next: Next<A>,
}

/// The next step of the reconcile loop.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Next<A> {
    AddFinalizer,
    RemoveFinalizer,
    /// Delete the run, whose time to live is over.
    DeleteRun,
    Apply(A),
    /// Reconcile again after this long, or when something changes.
    RequeueAfter(Duration),
    /// Something is unavailable: reconcile again after a delay that grows with every attempt.
    BackOff,
    /// Nothing to do until something changes.
    AwaitChange,
}

impl<A> Next<A> {
    pub(crate) fn map<B>(self, change: impl FnOnce(A) -> B) -> Next<B> {
        match self {
            Self::AddFinalizer => Next::AddFinalizer,
            Self::RemoveFinalizer => Next::RemoveFinalizer,
            Self::DeleteRun => Next::DeleteRun,
            Self::Apply(action) => Next::Apply(change(action)),
            Self::RequeueAfter(delay) => Next::RequeueAfter(delay),
            Self::BackOff => Next::BackOff,
            Self::AwaitChange => Next::AwaitChange,
        }
    }
}
