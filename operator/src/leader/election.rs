//! Takes, renews and releases the Lease. Every write names the version that it was decided on, so
//! that of two operators that decide the same only one succeeds.

use std::time::Duration;

use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use kube::api::{ObjectMeta, PostParams};
use kube::{Api, Client};
use logging::chain;
use tokio::time::{Instant, timeout};

use super::lease_policy::{self, CALL_TIMEOUT, DURATION, GIVE_UP_AFTER, LeaseAction, LeaseRecord, TRY_EVERY};
use crate::clock::Clock;

/// The Lease could not be renewed in time, or another operator holds it.
#[derive(Debug, thiserror::Error)]
#[error("lost the lease {0}: another operator can become the leader")]
pub(crate) struct LeadershipLost(String);

pub(crate) struct Election {
    leases: Api<Lease>,
    name: String,
    identity: String,
    clock: Clock,
    /// The last record, and when it was first read.
    seen: Option<(LeaseRecord, Instant)>,
}

impl Election {
    pub(crate) fn new(client: Client, namespace: &str, name: &str, identity: &str, clock: Clock) -> Self {
        let leases = Api::namespaced(client, namespace);
        Self { leases, name: name.to_owned(), identity: identity.to_owned(), clock, seen: None }
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

    /// Renews the Lease; returns when that has failed for too long.
    pub(crate) async fn keep(&mut self) -> LeadershipLost {
        let mut renewed = Instant::now();
        loop {
            tokio::time::sleep(TRY_EVERY).await;
            if self.try_once().await {
                renewed = Instant::now();
            } else if self.held_by_another() || renewed.elapsed() >= GIVE_UP_AFTER {
                return LeadershipLost(self.name.clone());
            }
        }
    }

    /// Releases the Lease, so that another operator can take over at once. If that fails, the Lease
    /// expires.
    pub(crate) async fn release(mut self) {
        let result = timeout(CALL_TIMEOUT, async {
            if let Some(lease) = self.read().await?
                && !self.held_by_another()
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
            Err(_) => tracing::warn!(
                lease = self.name,
                "cannot release the lease: the API server did not answer in time"
            ),
        }
    }

    fn held_by_another(&self) -> bool {
        self.seen
            .as_ref()
            .is_some_and(|(record, _)| record.holder.as_deref().is_some_and(|holder| holder != self.identity))
    }

    async fn try_once(&mut self) -> bool {
        match timeout(CALL_TIMEOUT, self.step()).await {
            Ok(Ok(leads)) => leads,
            // Another operator wrote the Lease since it was read.
            Ok(Err(kube::Error::Api(answer))) if answer.code == 409 => false,
            Ok(Err(error)) => {
                tracing::warn!(lease = self.name, error = chain(&error), "cannot read or write the lease");
                false
            }
            Err(_) => {
                tracing::warn!(lease = self.name, "the API server did not answer in time about the lease");
                false
            }
        }
    }

    async fn step(&mut self) -> Result<bool, kube::Error> {
        let found = self.read().await?;
        let (record, unchanged_for) = match &self.seen {
            Some((record, since)) => (Some(record), since.elapsed()),
            None => (None, Duration::ZERO),
        };
        match (lease_policy::decide(&self.identity, record, unchanged_for), found) {
            (LeaseAction::Create, _) => {
                let metadata = ObjectMeta { name: Some(self.name.clone()), ..ObjectMeta::default() };
                let lease = Lease { metadata, spec: Some(self.spec(None, Some(&self.identity))) };
                self.leases.create(&PostParams::default(), &lease).await?;
                Ok(true)
            }
            (LeaseAction::Renew | LeaseAction::TakeOver, Some(lease)) => {
                let identity = self.identity.clone();
                self.write(lease, Some(&identity)).await?;
                Ok(true)
            }
            (LeaseAction::Wait | LeaseAction::Renew | LeaseAction::TakeOver, _) => Ok(false),
        }
    }

    async fn read(&mut self) -> Result<Option<Lease>, kube::Error> {
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

fn record(lease: &Lease) -> LeaseRecord {
    let spec = lease.spec.clone().unwrap_or_default();
    let seconds = spec.lease_duration_seconds.and_then(|seconds| u64::try_from(seconds).ok());
    LeaseRecord {
        holder: spec.holder_identity,
        duration: seconds.map_or(DURATION, Duration::from_secs),
        version: lease.metadata.resource_version.clone().unwrap_or_default(),
    }
}
