//! Leader election: of several operators, the holder of a Lease reconciles. [`lease_policy`]
//! decides, without a client; [`election`] reads and writes the Lease.

mod election;
mod lease_policy;

pub(crate) use self::election::Election;
