//! Reads and writes the Lease. Every write names the version it was decided on, so of two that decide alike one wins.

use std::time::Duration;

use k8s_openapi::{
    api::coordination::v1::{Lease, LeaseSpec},
    apimachinery::pkg::apis::meta::v1::MicroTime,
};
use kube::{
    Api, Client,
    api::{ObjectMeta, PostParams},
};
use logging::chain;
use tokio::time::{Instant, timeout};

use super::{CALL_TIMEOUT, DURATION, GIVE_UP_AFTER, Move, Record, TRY_EVERY, decide};
use crate::clock::Clock;

/// The Lease could not be renewed in time, or somebody else holds it now.
#[derive(Debug, thiserror::Error)]
#[error("lost the lease {0}: another operator may act now")]
pub(crate) struct Lost(String);

pub(crate) struct Election {
    leases: Api<Lease>,
    name: String,
    me: String,
    clock: Clock,
    /// The record last seen, and since when it has been like this.
    seen: Option<(Record, Instant)>,
}

impl Election {
    pub(crate) fn new(client: Client, namespace: &str, name: &str, me: &str, clock: Clock) -> Self {
        let leases = Api::namespaced(client, namespace);
        Self { leases, name: name.to_owned(), me: me.to_owned(), clock, seen: None }
    }

    /// Returns once this process leads.
    pub(crate) async fn win(&mut self) {
        loop {
            if self.try_once().await {
                return;
            }
            tokio::time::sleep(TRY_EVERY).await;
        }
    }

    /// Renews until that fails for too long; returns only then.
    pub(crate) async fn keep(&mut self) -> Lost {
        let mut renewed = Instant::now();
        loop {
            tokio::time::sleep(TRY_EVERY).await;
            if self.try_once().await {
                renewed = Instant::now();
            } else if self.is_anothers() || renewed.elapsed() >= GIVE_UP_AFTER {
                return Lost(self.name.clone());
            }
        }
    }

    /// Lets the next one start at once. Errors are of no consequence: the Lease runs out by itself.
    pub(crate) async fn release(mut self) {
        let result = timeout(CALL_TIMEOUT, async {
            if let Some(lease) = self.look().await?
                && !self.is_anothers()
            {
                self.write(lease, None).await?;
            }
            Ok::<_, kube::Error>(())
        })
        .await;
        match result {
            Ok(Ok(())) => tracing::info!(lease = self.name, "released the lease"),
            Ok(Err(error)) => {
                tracing::warn!(lease = self.name, error = chain(&error), "cannot release the lease")
            }
            Err(_) => tracing::warn!(lease = self.name, "cannot release the lease: no answer"),
        }
    }

    fn is_anothers(&self) -> bool {
        self.seen
            .as_ref()
            .is_some_and(|(record, _)| record.holder.as_deref().is_some_and(|holder| holder != self.me))
    }

    async fn try_once(&mut self) -> bool {
        match timeout(CALL_TIMEOUT, self.step()).await {
            Ok(Ok(leads)) => leads,
            // Somebody else wrote in between: look again.
            Ok(Err(kube::Error::Api(answer))) if answer.code == 409 => false,
            Ok(Err(error)) => {
                tracing::warn!(lease = self.name, error = chain(&error), "cannot read or write the lease");
                false
            }
            Err(_) => {
                tracing::warn!(lease = self.name, "no answer about the lease in time");
                false
            }
        }
    }

    async fn step(&mut self) -> Result<bool, kube::Error> {
        let found = self.look().await?;
        let (record, unchanged_for) = match &self.seen {
            Some((record, since)) => (Some(record), since.elapsed()),
            None => (None, Duration::ZERO),
        };
        match (decide(&self.me, record, unchanged_for), found) {
            (Move::Create, _) => {
                let metadata = ObjectMeta { name: Some(self.name.clone()), ..ObjectMeta::default() };
                let lease = Lease { metadata, spec: Some(self.spec(None, Some(&self.me))) };
                self.leases.create(&PostParams::default(), &lease).await?;
                Ok(true)
            }
            (Move::Renew | Move::TakeOver, Some(lease)) => {
                let me = self.me.clone();
                self.write(lease, Some(&me)).await?;
                Ok(true)
            }
            (Move::Wait | Move::Renew | Move::TakeOver, _) => Ok(false),
        }
    }

    async fn look(&mut self) -> Result<Option<Lease>, kube::Error> {
        let found = self.leases.get_opt(&self.name).await?;
        match found.as_ref().map(record) {
            None => self.seen = None,
            Some(record) if self.seen.as_ref().is_some_and(|(seen, _)| *seen == record) => {}
            Some(record) => self.seen = Some((record, Instant::now())),
        }
        Ok(found)
    }

    async fn write(&mut self, mut lease: Lease, holder: Option<&str>) -> Result<(), kube::Error> {
        lease.spec = Some(self.spec(lease.spec.as_ref(), holder));
        self.leases.replace(&self.name, &PostParams::default(), &lease).await?;
        Ok(())
    }

    fn spec(&self, before: Option<&LeaseSpec>, holder: Option<&str>) -> LeaseSpec {
        let now = MicroTime(self.clock.now());
        let same_holder = before.is_some_and(|before| before.holder_identity.as_deref() == holder);
        let transitions = before.and_then(|before| before.lease_transitions).unwrap_or(0);
        LeaseSpec {
            holder_identity: holder.map(str::to_owned),
            lease_duration_seconds: i32::try_from(DURATION.as_secs()).ok(),
            acquire_time: before
                .and_then(|before| before.acquire_time.clone())
                .filter(|_| same_holder)
                .or(Some(now.clone())),
            lease_transitions: Some(if same_holder || holder.is_none() {
                transitions
            } else {
                transitions + 1
            }),
            renew_time: Some(now),
            ..LeaseSpec::default()
        }
    }
}

fn record(lease: &Lease) -> Record {
    let spec = lease.spec.clone().unwrap_or_default();
    let seconds = spec.lease_duration_seconds.and_then(|seconds| u64::try_from(seconds).ok());
    Record {
        holder: spec.holder_identity,
        duration: seconds.map_or(DURATION, Duration::from_secs),
        version: lease.metadata.resource_version.clone().unwrap_or_default(),
    }
}
