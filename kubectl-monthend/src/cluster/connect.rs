//! From the kubeconfig to a client.

use kube::config::{KubeConfigOptions, Kubeconfig, KubeconfigError};
use kube::{Client, Config};

use super::Cluster;
use crate::args::GlobalOptions;
use crate::clock::Clock;
use crate::exit::{Problem, Result};

/// Connects as the kubeconfig and the options say.
pub(crate) async fn connect(options: &GlobalOptions) -> Result<Cluster> {
    let mut config = config(options).await.map_err(|error| kubeconfig_problem(options, &error))?;
    if let Some(user) = &options.impersonate {
        config.auth_info.impersonate = Some(user.clone());
    }
    let namespace = options.namespace.clone().unwrap_or_else(|| config.default_namespace.clone());
    let client = Client::try_from(config);
    let client = client.map_err(|error| Problem::usage(format!("the kubeconfig cannot be used: {error}")))?;
    Ok(Cluster { client, namespace, clock: Clock::SYSTEM })
}

async fn config(options: &GlobalOptions) -> std::result::Result<Config, KubeconfigError> {
    let of_kubeconfig = KubeConfigOptions { context: options.context.clone(), cluster: None, user: None };
    match &options.kubeconfig {
        Some(path) => Config::from_custom_kubeconfig(Kubeconfig::read_from(path)?, &of_kubeconfig).await,
        None => Config::from_kubeconfig(&of_kubeconfig).await,
    }
}

/// What to change so that the kubeconfig can be used.
fn kubeconfig_problem(options: &GlobalOptions, error: &KubeconfigError) -> Problem {
    Problem::usage(match error {
        KubeconfigError::ReadConfig(error, path) => format!(
            "the kubeconfig {} cannot be read ({error}): set KUBECONFIG, or give --kubeconfig",
            path.display()
        ),
        KubeconfigError::FindPath => {
            "there is no kubeconfig: set KUBECONFIG, or give --kubeconfig".to_owned()
        }
        KubeconfigError::CurrentContextNotSet => {
            "the kubeconfig has no current context: give --context, or choose one with \
             `kubectl config use-context NAME`"
                .to_owned()
        }
        KubeconfigError::LoadContext(_) => format!(
            "the kubeconfig has no context {}: `kubectl config get-contexts` lists them",
            options.context.as_deref().unwrap_or("of the name that is its current one")
        ),
        other => format!("the kubeconfig is invalid: {other}"),
    })
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    async fn refused(options: GlobalOptions) -> String {
        match connect(&options).await {
            Ok(_) => panic!("connected"),
            Err(problem) => problem.text,
        }
    }

    #[tokio::test]
    async fn a_kubeconfig_that_cannot_be_used_is_explained() {
        let folder = tempfile::tempdir().unwrap();
        let missing = folder.path().join("missing");
        let options = GlobalOptions { kubeconfig: Some(missing.clone()), ..GlobalOptions::default() };
        assert_eq!(
            refused(options).await,
            format!(
                "the kubeconfig {} cannot be read (No such file or directory (os error 2)): \
                 set KUBECONFIG, or give --kubeconfig",
                missing.display()
            )
        );
        let file = folder.path().join("config");
        fs::write(&file, "apiVersion: v1\nkind: Config\nclusters: []\ncontexts: []\nusers: []\n").unwrap();
        let options = GlobalOptions { kubeconfig: Some(file.clone()), ..GlobalOptions::default() };
        assert_eq!(
            refused(options.clone()).await,
            "the kubeconfig has no current context: give --context, or choose one with \
             `kubectl config use-context NAME`"
        );
        let options = GlobalOptions { context: Some("production".to_owned()), ..options };
        assert_eq!(
            refused(options).await,
            "the kubeconfig has no context production: `kubectl config get-contexts` lists them"
        );
    }
}
