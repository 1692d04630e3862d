//! Access control: the operator's RBAC rules, the restricted profile of every pod, and the
//! privileges of the database roles.

use anyhow::{Context as _, Result, ensure};
use e2e::data::{self, Cohort};
use e2e::installation::Installation;
use e2e::runs::LIMIT;
use e2e::suite::Suite;
use e2e::{cluster, shell, wait};
use serde_json::{Value, json};
use sqlx::{Connection as _, PgConnection};

pub(crate) fn add(suite: &mut Suite) {
    suite.scenario("service_accounts_have_exactly_the_required_rights", service_account_rights);
    suite.scenario("the_clusters_roles_include_the_custom_resources", aggregated_roles);
    suite.scenario("every_pod_meets_the_restricted_profile", restricted_pods);
    suite.scenario("database_roles_have_exactly_the_required_privileges", database_roles);
}

async fn can_i(
    installation: &Installation,
    account: &str,
    verb: &str,
    resource: &str,
    namespace: &str,
) -> Result<bool> {
    let who = format!("system:serviceaccount:{}:{account}", installation.namespace);
    // A colon precedes a subresource here, because kubectl reads the part after a slash as an object's
    // name.
    let (resource, subresource) = resource.split_once(':').unwrap_or((resource, ""));
    let subresource = format!("--subresource={subresource}");
    let command = ["kubectl", "-n", namespace, "auth", "can-i", verb, resource, &subresource, "--as", &who];
    let output = shell::capture(&command, &[], None).await?;
    match output.stdout.trim() {
        "yes" => Ok(true),
        "no" => Ok(false),
        other => anyhow::bail!("kubectl auth can-i answered {other:?} {}", output.stderr),
    }
}

async fn service_account_rights(installation: &Installation) -> Result<()> {
    let here = installation.namespace.as_str();
    let there = installation.environment.namespace.as_str();
    for (wanted, account, verb, resource, namespace) in [
        (true, "monthend-operator", "patch", "billingruns.monthend.dev:status", here),
        (true, "monthend-operator", "delete", "billingruns.monthend.dev", here),
        (true, "monthend-operator", "patch", "notificationruns.monthend.dev:status", here),
        (true, "monthend-operator", "delete", "notificationruns.monthend.dev", here),
        (true, "monthend-operator", "patch", "deployments.apps:scale", here),
        (false, "monthend-operator", "patch", "deployments.apps", here),
        (false, "monthend-operator", "delete", "deployments.apps", here),
        (true, "monthend-operator", "create", "notificationruns.monthend.dev", here),
        (true, "monthend-operator", "watch", "billingschedules.monthend.dev", here),
        (true, "monthend-operator", "patch", "billingschedules.monthend.dev:status", here),
        (false, "monthend-operator", "patch", "billingschedules.monthend.dev", here),
        (false, "monthend-operator", "create", "billingschedules.monthend.dev", here),
        (false, "monthend-operator", "list", "notificationruns.monthend.dev", there),
        (false, "monthend-operator", "patch", "deployments.apps:scale", there),
        (true, "monthend-operator", "create", "jobs.batch", here),
        (true, "monthend-operator", "watch", "configmaps", here),
        (true, "monthend-operator", "list", "events", here),
        (false, "monthend-operator", "list", "events", there),
        (false, "monthend-operator", "list", "namespaces", here),
        (true, "monthend-operator", "update", "leases.coordination.k8s.io/monthend-operator", here),
        (false, "monthend-operator", "update", "leases.coordination.k8s.io/another", here),
        (true, "monthend-operator", "patch", "configmaps/monthend-high-water-marks", here),
        (false, "monthend-operator", "patch", "configmaps/another", here),
        (false, "monthend-operator", "get", "secrets", here),
        (true, "monthend-operator", "create", "billingruns.monthend.dev", here),
        (false, "monthend-operator", "approve", "billingruns.monthend.dev", here),
        (false, "monthend-operator", "update", "configmaps", here),
        (false, "monthend-operator", "create", "configmaps", here),
        (false, "monthend-operator", "create", "pods", here),
        (false, "monthend-operator", "delete", "pods", here),
        (false, "monthend-operator", "create", "pods:exec", here),
        (false, "monthend-operator", "create", "roles.rbac.authorization.k8s.io", here),
        (false, "monthend-operator", "list", "billingruns.monthend.dev", there),
        (false, "monthend-operator", "list", "nodes", here),
        (false, "monthend-worker", "get", "configmaps", here),
        (false, "monthend-worker", "get", "secrets", here),
        (false, "monthend-worker", "get", "billingruns.monthend.dev", here),
        (false, "monthend-worker", "get", "notificationruns.monthend.dev", here),
    ] {
        let allowed = can_i(installation, account, verb, resource, namespace).await?;
        ensure!(
            allowed == wanted,
            "{account} is allowed to {verb} {resource} in {namespace}: {allowed}, expected {wanted}"
        );
    }
    Ok(())
}

/// The installation that owns the CRDs adds the resources to the roles view and edit, without the verb
/// `approve`.
async fn aggregated_roles(installation: &Installation) -> Result<()> {
    for role in ["view", "edit"] {
        let (binding, user) = (format!("e2e-{role}"), format!("e2e-{role}er"));
        let role_option = format!("--clusterrole={role}");
        let user_option = format!("--user={user}");
        installation.kubectl(&["create", "rolebinding", &binding, &role_option, &user_option]).await?;
        for (verb, resource) in [
            ("list", "billingruns.monthend.dev"),
            ("list", "notificationruns.monthend.dev"),
            ("create", "billingruns.monthend.dev"),
            ("delete", "notificationruns.monthend.dev"),
            ("approve", "billingruns.monthend.dev"),
        ] {
            let wanted = verb == "list" || (role == "edit" && verb != "approve");
            let command =
                ["kubectl", "-n", &installation.namespace, "auth", "can-i", verb, resource, "--as", &user];
            let output = shell::capture(&command, &[], None).await?;
            let allowed = output.stdout.trim() == "yes";
            ensure!(allowed == wanted, "the role {role} may {verb} {resource}: {allowed}");
        }
        installation.kubectl(&["delete", "rolebinding", &binding]).await?;
    }
    Ok(())
}

async fn restricted_pods(installation: &Installation) -> Result<()> {
    let month = data::month(20);
    // The namespace enforces the profile, so a pod that does not meet it is rejected.
    let pods = cluster::dynamic(&installation.client, &installation.namespace, "", "v1", "Pod");
    let plain = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "plain", "namespace": installation.namespace},
                       "spec": {"containers": [{"name": "c", "image": "monthend:none"}]}});
    let rejection =
        cluster::apply(&pods, &plain).await.err().context("a pod without a security context was accepted")?;
    ensure!(rejection.to_string().contains("PodSecurity \"restricted"), "{rejection}");

    installation.apply_run("restricted", &month, json!({"approvalPolicy": "Manual"})).await?;
    installation.wait_for_phase("restricted", "AwaitingApproval").await?;
    let cohort = Cohort::of(23);
    installation.notify("restricted-rehearsal", &cohort, json!({"rehearsal": true})).await?;
    installation.wait_until_finished("restricted-rehearsal").await?;
    installation.notify("restricted-notification", &cohort, json!({})).await?;
    let pods_of = async |component: &str| {
        let selector = format!("app.kubernetes.io/component={component}");
        wait::until(&format!("a pod of component {component}"), LIMIT, async || {
            let found = installation.kubectl(&["get", "pods", "-o", "json", "-l", &selector]).await?;
            let found: Value = serde_json::from_str(&found)?;
            Ok(found["items"].as_array().filter(|pods| !pods.is_empty()).cloned())
        })
        .await
    };
    // The publisher's first, as the operator deletes it once everything is published.
    let mut all = Vec::new();
    for component in ["publish", "operator", "worker", "migrate", "notify", "rehearse"] {
        all.extend(pods_of(component).await?);
    }
    installation.wait_until_all_sent("restricted-notification").await?;
    for pod in &all {
        let name = &pod["metadata"]["name"];
        let spec = &pod["spec"];
        let token = spec["volumes"].to_string().contains("serviceAccountToken");
        let operator = pod["metadata"]["labels"]["app.kubernetes.io/component"] == "operator";
        ensure!(token == operator, "{name} has a service account token: {token}");
        ensure!(spec["securityContext"]["runAsNonRoot"] == true, "{name} may run as root");
        for container in spec["containers"].as_array().into_iter().flatten() {
            let security = &container["securityContext"];
            ensure!(
                security["readOnlyRootFilesystem"] == true,
                "{name} may write its root file system: {security}"
            );
            ensure!(container["resources"]["limits"]["memory"].is_string(), "{name} has no memory limit");
        }
    }
    Ok(())
}

async fn database_roles(installation: &Installation) -> Result<()> {
    let mut connection =
        PgConnection::connect_with(&installation.pool.connect_options().as_ref().clone()).await?;
    for (role, statement, wanted) in [
        ("monthend_operator", "select name from member limit 1", false),
        ("monthend_operator", "select email from member limit 1", false),
        ("monthend_operator", "select * from member limit 1", false),
        ("monthend_operator", "delete from bill", false),
        ("monthend_operator", "select count(*) from live_bill", true),
        ("monthend_operator", "select count(*) from delivery", true),
        ("monthend_operator", "delete from delivery", false),
        ("monthend_operator", "delete from notice_target", false),
        ("monthend_operator", "delete from rollback", false),
        ("monthend_worker", "insert into rollback default values", false),
        ("monthend_worker", "update bill set total_amount = 0", false),
        ("monthend_worker", "delete from bill_item", false),
        ("monthend_worker", "delete from quarantined_member", false),
        ("monthend_worker", "delete from ineligible_member", false),
        ("monthend_worker", "delete from bill_change", false),
        ("monthend_worker", "update revision set state = 'LIVE'", false),
        ("monthend_worker", "delete from job_log", false),
        ("monthend_worker", "delete from delivery", false),
        ("monthend_worker", "delete from notice_target", false),
        ("monthend_worker", "update notification set state = 'OPEN'", false),
        ("monthend_worker", "create table mine (id int)", false),
        ("monthend_worker", "select count(name) from member", true),
    ] {
        let mut transaction = connection.begin().await?;
        let set_role = match role {
            "monthend_operator" => "set local role monthend_operator",
            _ => "set local role monthend_worker",
        };
        sqlx::query(set_role).execute(&mut *transaction).await?;
        let outcome = sqlx::query(statement).execute(&mut *transaction).await;
        transaction.rollback().await?;
        match outcome {
            Ok(_) => ensure!(wanted, "{role} is allowed to run: {statement}"),
            Err(error) => ensure!(
                !wanted && error.to_string().contains("permission denied"),
                "{role}, {statement}: {error}"
            ),
        }
    }
    let changed = sqlx::query("update job_log set total = total where status <> 'RUNNING'")
        .execute(&installation.pool)
        .await;
    ensure!(changed.is_err(), "a finished row of job_log can be changed");
    connection.close().await?;
    Ok(())
}
