//! The database as a whole: its state, its size, its jobs and loads, and the operator's connections.

use jiff::Timestamp;
use prometheus::{IntGauge, IntGaugeVec};
use store::job_log::JobKind;

use super::registrar::{Made, Registrar};

#[derive(Clone)]
pub(crate) struct DatabaseMetrics {
    pub(crate) up: IntGauge,
    pub(crate) writable: IntGauge,
    pub(crate) size: IntGauge,
    open_age: IntGaugeVec,
    last_success: IntGaugeVec,
    newest_load: IntGauge,
    pool: IntGaugeVec,
    pool_max: IntGauge,
}

impl DatabaseMetrics {
    pub(super) fn new(make: &Registrar<'_>) -> Made<Self> {
        let metrics = Self {
            up: make.gauge("monthend_database_up", "1 when the database could be read at the last attempt.")?,
            writable: make.gauge(
                "monthend_database_writable",
                "1 when the database took writes at the last attempt; 0 on a standby, while it is read-only, or out of reach.",
            )?,
            size: make.gauge(
                "monthend_database_size_bytes",
                "Bytes of the database on disk, read every five minutes; 0 before the first time.",
            )?,
            open_age: make.gauges(
                "monthend_job_log_open_age_seconds",
                "For how long the oldest running row of job_log has been open, by kind of batch; 0 if none is.",
                &["kind"],
            )?,
            last_success: make.gauges(
                "monthend_last_success_timestamp_seconds",
                "When the last batch of the kind ended SUCCEEDED in job_log, in Unix time; 0 if none ever did.",
                &["kind"],
            )?,
            newest_load: make.gauge(
                "monthend_newest_load_timestamp_seconds",
                "When the newest load or seed finished that was not taken back, in Unix time; 0 before the first.",
            )?,
            pool: make.gauges(
                "monthend_database_pool_connections",
                "The operator's connections to the database, by state: idle, in_use.",
                &["state"],
            )?,
            pool_max: make.gauge(
                "monthend_database_pool_connections_max",
                "The most connections that the operator opens to the database.",
            )?,
        };
        metrics.set_open_ages(&[]);
        metrics.set_last_successes(&[]);
        Ok(metrics)
    }

    pub(crate) fn set_open_ages(&self, ages: &[(JobKind, i64)]) {
        for kind in JobKind::ALL {
            let age = ages.iter().find(|(of, _)| *of == kind).map_or(0, |(_, age)| *age);
            self.open_age.with_label_values(&[kind.as_str()]).set(age);
        }
    }

    pub(crate) fn set_last_successes(&self, ends: &[(JobKind, Timestamp)]) {
        for kind in JobKind::ALL {
            let end = ends.iter().find(|(of, _)| *of == kind).map_or(0, |(_, end)| end.as_second());
            self.last_success.with_label_values(&[kind.as_str()]).set(end);
        }
    }

    pub(crate) fn set_newest_load(&self, finished: Option<Timestamp>) {
        self.newest_load.set(finished.map_or(0, Timestamp::as_second));
    }

    pub(crate) fn set_pool(&self, size: u32, idle: usize, max: u32) {
        let idle = u32::try_from(idle).unwrap_or(size).min(size);
        self.pool.with_label_values(&["idle"]).set(idle.into());
        self.pool.with_label_values(&["in_use"]).set((size - idle).into());
        self.pool_max.set(max.into());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_of_job_has_a_value_also_after_its_last_one() {
        let registry = prometheus::Registry::new();
        let metrics = DatabaseMetrics::new(&Registrar(&registry)).unwrap();
        let of = |gauges: &IntGaugeVec, kind| gauges.with_label_values(&[kind]).get();
        metrics.set_open_ages(&[(JobKind::Load, 90)]);
        metrics.set_last_successes(&[(JobKind::Send, Timestamp::from_second(1_000).unwrap())]);
        assert_eq!([of(&metrics.open_age, "LOAD"), of(&metrics.open_age, "SEED")], [90, 0]);
        assert_eq!([of(&metrics.last_success, "SEND"), of(&metrics.last_success, "LOAD")], [1_000, 0]);
        metrics.set_open_ages(&[]);
        assert_eq!(of(&metrics.open_age, "LOAD"), 0);
        let series = |name: &str| {
            let families = registry.gather();
            families.iter().find(|family| family.name() == name).unwrap().get_metric().len()
        };
        assert_eq!(series("monthend_job_log_open_age_seconds"), JobKind::ALL.len());
    }

    #[test]
    fn connections_are_idle_or_in_use() {
        let metrics = DatabaseMetrics::new(&Registrar(&prometheus::Registry::new())).unwrap();
        metrics.set_pool(5, 2, 21);
        let of = |state| metrics.pool.with_label_values(&[state]).get();
        assert_eq!((of("idle"), of("in_use"), metrics.pool_max.get()), (2, 3, 21));
        // Both numbers are read one after the other.
        metrics.set_pool(1, 2, 21);
        assert_eq!((of("idle"), of("in_use")), (1, 0));
    }
}
