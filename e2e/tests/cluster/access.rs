//! Who may do what: the operator's rights in the cluster, the roles in the database, the profile of every pod, and
//! personal data in nothing that anyone reads.

use anyhow::{Context as _, Result, ensure};
use e2e::{
    cluster,
    data::{self, Slice},
    installation::Installation,
    shell,
    suite::Suite,
};
use serde_json::{Value, json};
use sqlx::{Connection as _, PgConnection};

pub(crate) fn add(suite: &mut Suite) {
    suite.scenario("the_operator_may_do_what_it_does_and_no_more", operator_rights);
    suite.scenario("every_pod_meets_the_restricted_profile", restricted_pods);
    suite.scenario("database_roles_keep_what_is_not_theirs", database_roles);
    suite.scenario("personal_data_is_in_no_log_event_or_status", no_personal_data);
}

async fn can_i(
    on: &Installation,
    account: &str,
    verb: &str,
    resource: &str,
    namespace: &str,
) -> Result<bool> {
    let who = format!("system:serviceaccount:{}:{account}", on.namespace);
    // Behind a colon a subresource; kubectl reads what is behind a slash as an object's name.
    let (resource, subresource) = resource.split_once(':').unwrap_or((resource, ""));
    let subresource = format!("--subresource={subresource}");
    let command = ["kubectl", "-n", namespace, "auth", "can-i", verb, resource, &subresource, "--as", &who];
    let said = shell::attempt(&command, &[], None).await?;
    match said.stdout.trim() {
        "yes" => Ok(true),
        "no" => Ok(false),
        other => anyhow::bail!("kubectl auth can-i says {other:?} {}", said.stderr),
    }
}

async fn operator_rights(on: &Installation) -> Result<()> {
    let here = on.namespace.as_str();
    let there = on.environment.namespace.as_str();
    for (wanted, account, verb, resource, namespace) in [
        (true, "monthend-operator", "patch", "billingruns.monthend.dev:status", here),
        (true, "monthend-operator", "delete", "billingruns.monthend.dev", here),
        (true, "monthend-operator", "patch", "notificationruns.monthend.dev:status", here),
        (true, "monthend-operator", "delete", "notificationruns.monthend.dev", here),
        (true, "monthend-operator", "patch", "deployments.apps:scale", here),
        (false, "monthend-operator", "patch", "deployments.apps", here),
        (false, "monthend-operator", "delete", "deployments.apps", here),
        (false, "monthend-operator", "create", "notificationruns.monthend.dev", here),
        (false, "monthend-operator", "list", "notificationruns.monthend.dev", there),
        (false, "monthend-operator", "patch", "deployments.apps:scale", there),
        (true, "monthend-operator", "create", "jobs.batch", here),
        (true, "monthend-operator", "watch", "configmaps", here),
        (true, "monthend-operator", "update", "leases.coordination.k8s.io/monthend-operator", here),
        (false, "monthend-operator", "update", "leases.coordination.k8s.io/another", here),
        (false, "monthend-operator", "get", "secrets", here),
        (false, "monthend-operator", "create", "billingruns.monthend.dev", here),
        (false, "monthend-operator", "update", "configmaps", here),
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
        let may = can_i(on, account, verb, resource, namespace).await?;
        ensure!(may == wanted, "{account} may {verb} {resource} in {namespace}: {may}");
    }
    Ok(())
}

async fn restricted_pods(on: &Installation) -> Result<()> {
    let month = data::month(20);
    // The profile is enforced: a pod that does not meet it is refused.
    let pods = cluster::dynamic(&on.client, &on.namespace, "", "v1", "Pod");
    let plain = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "plain", "namespace": on.namespace},
                       "spec": {"containers": [{"name": "c", "image": "monthend:none"}]}});
    let refused =
        cluster::apply(&pods, &plain).await.err().context("a pod without any restriction was admitted")?;
    ensure!(refused.to_string().contains("PodSecurity \"restricted"), "{refused}");

    on.apply_run("restricted", &month, json!({"approvalPolicy": "Manual"})).await?;
    on.reach("restricted", "AwaitingApproval").await?;
    let slice = Slice::of(23);
    on.notify("restricted-rehearsal", &slice, json!({"rehearsal": true})).await?;
    on.notified("restricted-rehearsal").await?;
    on.notify("restricted-notices", &slice, json!({})).await?;
    on.all_sent("restricted-notices").await?;
    let all: Vec<Value> = serde_json::from_str::<Value>(&on.kubectl(&["get", "pods", "-o", "json"]).await?)?
        ["items"]
        .as_array()
        .cloned()
        .unwrap_or_default();
    for component in ["operator", "worker", "migrate", "notify", "publish", "rehearse"] {
        let there =
            all.iter().any(|pod| pod["metadata"]["labels"]["app.kubernetes.io/component"] == component);
        ensure!(there, "there is no pod of the {component} to look at");
    }
    for pod in &all {
        let name = &pod["metadata"]["name"];
        let spec = &pod["spec"];
        let token = spec["volumes"].to_string().contains("serviceAccountToken");
        let operator = pod["metadata"]["labels"]["app.kubernetes.io/component"] == "operator";
        ensure!(token == operator, "{name} has a token: {token}");
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

async fn database_roles(on: &Installation) -> Result<()> {
    let mut connection = PgConnection::connect_with(&on.pool.connect_options().as_ref().clone()).await?;
    for (role, statement, wanted) in [
        ("monthend_operator", "select name from member limit 1", false),
        ("monthend_operator", "select email from member limit 1", false),
        ("monthend_operator", "select * from member limit 1", false),
        ("monthend_operator", "delete from bill", false),
        ("monthend_operator", "select count(*) from live_bill", true),
        ("monthend_operator", "select count(*) from delivery", true),
        ("monthend_operator", "delete from delivery", false),
        ("monthend_operator", "delete from notice_target", false),
        ("monthend_worker", "update bill set total_amount = 0", false),
        ("monthend_worker", "delete from bill_item", false),
        ("monthend_worker", "delete from quarantined_member", false),
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
            Ok(_) => ensure!(wanted, "{role} may: {statement}"),
            Err(error) => ensure!(
                !wanted && error.to_string().contains("permission denied"),
                "{role}, {statement}: {error}"
            ),
        }
    }
    let changed =
        sqlx::query("update job_log set total = total where status <> 'RUNNING'").execute(&on.pool).await;
    ensure!(changed.is_err(), "the history of job_log can be changed");
    connection.close().await?;
    Ok(())
}

async fn no_personal_data(on: &Installation) -> Result<()> {
    // What the data set says of its members, each at a place of its own.
    let canaries = ["@example.com", "Member 12", "010-0012"];
    let mut read = on.kubectl(&["get", "brun,events,jobs", "-o", "json"]).await?;
    for pod in cluster::pods(&on.client, &on.namespace, "app.kubernetes.io/name=monthend").await? {
        read += &cluster::log_tail(&on.client, &on.namespace, &cluster::name(&pod), 100_000).await;
    }
    read += &on.operator_says("metrics").await?;
    let jobs: Vec<String> =
        sqlx::query_scalar("select row_to_json(j)::text from job_log j").fetch_all(&on.pool).await?;
    read += &jobs.concat();
    ensure!(read.contains("BillingRun") || read.contains("BILLING"), "there was nothing to read");
    for canary in canaries {
        ensure!(!read.contains(canary), "`{canary}` can be read outside the database");
    }
    let plain: i64 = sqlx::query_scalar(
        "select count(*) from member where position('example.com'::bytea in email) > 0 or position('Member'::bytea in name) > 0",
    )
    .fetch_one(&on.pool)
    .await?;
    ensure!(plain == 0, "{plain} members are in the database in plain text");
    Ok(())
}
