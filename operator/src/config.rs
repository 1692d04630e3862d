//! The command line. Every option can also be set by an environment variable, as the chart does.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};
use k8s_openapi::api::core::v1::ResourceRequirements;
use secrecy::SecretString;
use worker_cli::KafkaArgs;

/// Reconciles BillingRuns and NotificationRuns: bills months and e-mails the bills
#[derive(Parser)]
#[command(
    version,
    after_help = "The chart in charts/monthend installs the operator. To run it on your machine, with KUBECONFIG set:\n  \
                  operator run --database-url postgres://… --namespace monthend --worker-image monthend:dev \\\n    \
                  --brokers localhost:9092"
)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Subcommand)]
pub(crate) enum Command {
    /// Reconcile the runs of one namespace until SIGTERM
    Run(Box<RunArgs>),
    /// Stop the operator of a namespace, remove the finalizers of its runs and stop their workers, as
    /// before an uninstallation
    Release(ReleaseArgs),
    /// Print the custom resource definitions, or write them to files
    Crds(CrdsArgs),
}

#[derive(Args)]
pub(crate) struct ReleaseArgs {
    /// Namespace whose runs are released
    #[arg(long, env = "POD_NAMESPACE", value_name = "NAME")]
    pub(crate) namespace: String,

    /// Deployment of the operator, which is scaled to 0 first
    #[arg(long, default_value = "monthend-operator", value_name = "NAME")]
    pub(crate) deployment: String,

    /// Helm release of the operator, by which its pods are found
    #[arg(long, env = "INSTANCE", default_value = "monthend", value_name = "NAME")]
    pub(crate) instance: String,

    /// Log filter, such as `info` or `info,kube=debug`
    #[arg(long, env = "RUST_LOG", default_value = "info", value_name = "FILTER")]
    pub(crate) log: String,
}

#[derive(Args)]
pub(crate) struct CrdsArgs {
    /// Folder to write to, one file NAME.yaml for each definition; without this option, they are
    /// printed
    #[arg(long, value_name = "FOLDER")]
    pub(crate) out: Option<PathBuf>,
}

#[derive(Args, Clone)]
pub(crate) struct RunArgs {
    /// URL of the database, with the operator's role
    #[arg(long, env = "DATABASE_URL", hide_env_values = true, value_parser = secret, value_name = "URL")]
    pub(crate) database_url: SecretString,

    /// Namespace whose runs are reconciled
    #[arg(long, env = "POD_NAMESPACE", value_name = "NAME")]
    pub(crate) namespace: String,

    /// Name of this process for the leader election; must be unique among the replicas
    #[arg(long, env = "POD_NAME", default_value_t = default_identity(), value_name = "NAME")]
    pub(crate) identity: String,

    /// Helm release of this operator, for the labels of the Jobs that it creates
    #[arg(long, env = "INSTANCE", default_value = "monthend", value_name = "NAME")]
    pub(crate) instance: String,

    #[command(flatten)]
    pub(crate) worker: WorkerArgs,

    #[command(flatten)]
    pub(crate) kafka: KafkaArgs,

    #[command(flatten)]
    pub(crate) notify: NotifyArgs,

    /// Address that serves /metrics, /healthz and /readyz
    #[arg(long, env = "LISTEN", default_value = "0.0.0.0:8080", value_name = "ADDRESS")]
    pub(crate) listen: SocketAddr,

    /// Log filter, such as `info` or `info,kube=debug`
    #[arg(long, env = "RUST_LOG", default_value = "info", value_name = "FILTER")]
    pub(crate) log: String,
}

/// The options for the worker pods of a run.
#[derive(Args, Clone, Debug)]
pub(crate) struct WorkerArgs {
    /// Image of the workers, with /usr/local/bin/monthend
    #[arg(long = "worker-image", env = "WORKER_IMAGE", value_name = "IMAGE")]
    pub(crate) image: String,

    /// Image pull policy of the workers
    #[arg(
        long = "worker-image-pull-policy",
        env = "WORKER_IMAGE_PULL_POLICY",
        default_value = "IfNotPresent",
        value_parser = ["Always", "IfNotPresent", "Never"],
        value_name = "POLICY"
    )]
    pub(crate) image_pull_policy: String,

    /// Service account of the workers; it needs no permissions
    #[arg(
        long = "worker-service-account",
        env = "WORKER_SERVICE_ACCOUNT",
        default_value = "default",
        value_name = "NAME"
    )]
    pub(crate) service_account: String,

    /// Secret whose key `worker-url` is the URL of the database with the worker's role
    #[arg(
        long = "worker-database-secret",
        env = "WORKER_DATABASE_SECRET",
        default_value = "monthend-database",
        value_name = "NAME"
    )]
    pub(crate) database_secret: String,

    /// Resources of a worker's container, as JSON:
    /// {"requests":{"cpu":"500m"},"limits":{"memory":"256Mi"}}
    #[arg(
        long = "worker-resources",
        env = "WORKER_RESOURCES",
        default_value = "{}",
        value_parser = resources,
        value_name = "JSON"
    )]
    pub(crate) resources: ResourceRequirements,

    /// Log filter of the workers
    #[arg(
        id = "worker-log",
        long = "worker-log",
        env = "WORKER_LOG",
        default_value = "info",
        value_name = "FILTER"
    )]
    pub(crate) log: String,
}

/// The options for the e-mails.
#[derive(Args, Clone, Debug)]
pub(crate) struct NotifyArgs {
    /// ConfigMap with the templates of runs that have no templateRef
    #[arg(
        long = "notify-templates",
        env = "NOTIFY_TEMPLATES",
        default_value = "monthend-templates",
        value_name = "NAME"
    )]
    pub(crate) templates: String,

    /// Sender of the e-mails, as a mailbox
    #[arg(
        long = "notify-from",
        env = "NOTIFY_FROM",
        default_value = "Monthend <billing@example.com>",
        value_name = "MAILBOX"
    )]
    pub(crate) from: String,

    /// Secret with the keys that decrypt personal data, for rehearsals
    #[arg(
        long = "worker-encryption-secret",
        env = "WORKER_ENCRYPTION_SECRET",
        default_value = "monthend-encryption",
        value_name = "NAME"
    )]
    pub(crate) encryption_secret: String,
}

fn secret(text: &str) -> Result<SecretString, Infallible> {
    Ok(SecretString::from(text))
}

fn resources(text: &str) -> Result<ResourceRequirements, String> {
    serde_json::from_str(text)
        .map_err(|error| format!("{error}; write it like {{\"requests\":{{\"cpu\":\"500m\"}}}}"))
}

/// The name outside a pod: the host's name and the process id.
fn default_identity() -> String {
    let host = std::env::var("HOSTNAME").unwrap_or_else(|_| "operator".to_owned());
    format!("{host}-{}", std::process::id())
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_command_line_is_valid() {
        Cli::command().debug_assert();
    }

    #[test]
    fn resources_are_parsed_and_an_invalid_text_is_explained() {
        let read = resources(r#"{"limits":{"memory":"256Mi"}}"#).unwrap();
        assert_eq!(read.limits.unwrap()["memory"].0, "256Mi");
        let error = resources("cpu=1").unwrap_err();
        assert!(error.ends_with(r#"write it like {"requests":{"cpu":"500m"}}"#), "{error}");
    }
}
