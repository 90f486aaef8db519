//! The operator does its work with the chart's rights, and could do nothing else with them.

use jiff::SignedDuration;
use serde_json::json;
use support::fake_astro::Operation;

use crate::calls::{Call, Caller, LEASES, object, of};
use crate::installation::{Installation, apply};

#[tokio::test(flavor = "multi_thread")]
async fn a_whole_life_of_an_invitation_passes_with_the_rights_of_the_chart() {
    let mut installation = Installation::apply().await;
    installation.start_operator().await;
    installation.organization_is("TokenMissing").await;
    // Its watch on the Secrets of its namespace tells it.
    installation.put_token().await;
    installation.organization_is("Connected").await;

    let developer = installation.developer().await;
    let team = ["--namespace", &installation.team];
    let astro = &installation.astro;
    apply(&developer, &installation.invite("jane", "jane@example.com")).await;
    installation
        .wait(&["--for=condition=Ready", "orginvite/jane"])
        .await;
    assert_eq!(astro.emails_to("jane@example.com"), 1);

    let observer = r#"{"spec":{"role":"ORGANIZATION_OBSERVE_MEMBER"}}"#;
    let edit = [
        "patch",
        "orginvite",
        "jane",
        "--type=merge",
        "--patch",
        observer,
    ];
    developer
        .run(&[&team[..], &edit[..]].concat())
        .await
        .printed();
    installation
        .wait(&[
            "--for=jsonpath={.status.role}=ORGANIZATION_OBSERVE_MEMBER",
            "orginvite/jane",
        ])
        .await;
    assert_eq!(astro.emails_to("jane@example.com"), 2);

    astro.set_clock_offset(SignedDuration::from_hours(7 * 24 + 1));
    let lists = astro.count(Operation::ListUsers);
    installation
        .until("the operator has read the clock", || {
            astro.count(Operation::ListUsers) >= lists + 2
        })
        .await;
    let touch = ["annotate", "orginvite", "jane", "test/touched=yes"];
    developer
        .run(&[&team[..], &touch[..]].concat())
        .await
        .printed();
    installation
        .wait(&["--for=jsonpath={.status.resends}=1", "orginvite/jane"])
        .await;
    assert_eq!(astro.emails_to("jane@example.com"), 3);
    assert_eq!(astro.live_invites("jane@example.com").len(), 1);

    let delete = ["delete", "orginvite", "jane", "--timeout=60s"];
    developer
        .run(&[&team[..], &delete[..]].concat())
        .await
        .printed();
    assert!(astro.live_invites("jane@example.com").is_empty());
    installation
        .kubectl
        .run(&[
            "delete",
            "organization",
            &installation.name,
            "--timeout=60s",
        ])
        .await
        .printed();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_operator_may_do_what_it_needs_and_nothing_else() {
    let installation = Installation::apply().await;
    installation.put_token().await;
    let (own, team) = (installation.name.as_str(), installation.team.as_str());
    for manifest in [
        installation.invite("jane", "jane@example.com"),
        of(team, object("v1", "Secret", "other", json!({}))).to_string(),
        of(own, object("v1", "ConfigMap", "other", json!({}))).to_string(),
        of(own, object(LEASES, "Lease", "other", json!({}))).to_string(),
        of(own, object(LEASES, "Lease", own, json!({}))).to_string(),
        of(team, object(LEASES, "Lease", own, json!({}))).to_string(),
    ] {
        apply(&installation.kubectl, &manifest).await;
    }
    let operator = Caller::operator(&installation).await;
    let admin = Caller::admin(&installation);
    for call in needed(own, team) {
        let (status, answer) = operator.call_granted(&call).await;
        assert_eq!(status, 200, "{call:?}: {answer}");
    }
    for call in not_needed(own, team) {
        let (status, answer) = operator.call(&call).await;
        assert_eq!(status, 403, "{call:?}: {answer}");
        // It is a call that can be made: only the right to it is missing.
        let (status, answer) = admin.call(&call).await;
        assert_eq!(status, 200, "{call:?}: {answer}");
    }
}

fn needed(own: &str, team: &str) -> Vec<Call> {
    let iam = "/apis/iam.astronomer.io/v1alpha1";
    let jane = format!("{iam}/namespaces/{team}/orginvites/jane");
    let organization = format!("{iam}/organizations/{own}");
    let secrets = format!("/api/v1/namespaces/{own}/secrets");
    let leases = format!("/apis/{LEASES}/namespaces/{own}/leases");
    let held = json!({"metadata": {"finalizers": ["iam.astronomer.io/invite"]}});
    let observed = json!({"status": {"observedGeneration": 1}});
    let event = |namespace: &str| {
        let event = json!({
            "eventTime": "2026-01-02T03:04:05.000006Z", "type": "Normal", "reason": "Invited", "action": "Invite",
            "reportingController": "orginvite-operator", "reportingInstance": "orginvite-operator-0",
            "regarding": {"kind": "OrgInvite", "name": "jane", "namespace": namespace},
        });
        Call::post(
            format!("/apis/events.k8s.io/v1/namespaces/{namespace}/events"),
            of(
                namespace,
                object("events.k8s.io/v1", "Event", "told", event),
            ),
        )
    };
    vec![
        Call::get(format!("{iam}/orginvites")),
        Call::watch(format!("{iam}/orginvites")),
        Call::get(jane.clone()),
        Call::merge(jane.clone(), held.clone()),
        Call::merge(format!("{jane}/status"), observed.clone()),
        Call::get(format!("{iam}/organizations")),
        Call::watch(format!("{iam}/organizations")),
        Call::get(organization.clone()),
        Call::merge(organization.clone(), held),
        Call::merge(format!("{organization}/status"), observed),
        Call::get("/api/v1/namespaces"),
        Call::watch("/api/v1/namespaces"),
        Call::get(secrets.clone()),
        Call::watch(secrets.clone()),
        Call::get(format!("{secrets}/astro-token")),
        Call::get(leases.clone()),
        Call::watch(leases.clone()),
        Call::get(format!("{leases}/{own}")),
        Call::post(leases.clone(), object(LEASES, "Lease", "new", json!({}))),
        Call::put_back(format!("{leases}/{own}")),
        Call::label(format!("{leases}/{own}")),
        event(team),
        // Where those about an Organization are.
        event("default"),
    ]
}

fn not_needed(own: &str, team: &str) -> Vec<Call> {
    let [core, events] = ["/api/v1", "/apis/events.k8s.io/v1"];
    let rbac = "rbac.authorization.k8s.io/v1";
    let [in_own, in_team] = [own, team].map(|namespace| format!("{core}/namespaces/{namespace}"));
    let [leases, leases_of_team] =
        [own, team].map(|namespace| format!("/apis/{LEASES}/namespaces/{namespace}/leases"));
    let iam = "iam.astronomer.io/v1alpha1";
    let invites = format!("/apis/{iam}/namespaces/{team}/orginvites");
    let organizations = format!("/apis/{iam}/organizations");
    let joe = json!({"spec": {"email": "joe@example.com", "role": "ORGANIZATION_MEMBER"}});
    let joe = object(iam, "OrgInvite", "joe", joe);
    let mine = json!({"spec": {
        "organizationId": "mine", "tokenSecretRef": {"name": "mine"},
        "allow": [{"namespaceSelector": {}, "roles": ["ORGANIZATION_OWNER"]}],
    }});
    let mine = object(iam, "Organization", "mine", mine);
    let binding = json!({
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "cluster-admin"},
        "subjects": [{"kind": "ServiceAccount", "name": own, "namespace": own}],
    });
    let token = json!({"spec": {"audiences": []}});
    let definitions = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
    vec![
        // Secrets of others, and changing its own.
        Call::get(format!("{core}/secrets")),
        Call::watch(format!("{core}/secrets")),
        Call::get(format!("{in_team}/secrets")),
        Call::watch(format!("{in_team}/secrets")),
        Call::get(format!("{in_team}/secrets/other")),
        Call::get(format!("{core}/namespaces/kube-system/secrets")),
        Call::post(
            format!("{in_own}/secrets"),
            object("v1", "Secret", "new", json!({})),
        ),
        Call::label(format!("{in_own}/secrets/astro-token")),
        Call::delete(format!("{in_own}/secrets/astro-token")),
        // OrgInvites and Organizations are made and unmade by people.
        Call::post(invites.clone(), joe.clone()),
        Call::apply(format!("{invites}/joe"), joe),
        Call::put_back(format!("{invites}/jane")),
        Call::delete(format!("{invites}/jane")),
        Call::delete(invites),
        Call::post(organizations.clone(), mine.clone()),
        Call::apply(format!("{organizations}/mine"), mine),
        Call::put_back(format!("{organizations}/{own}")),
        Call::delete(format!("{organizations}/{own}")),
        Call::delete(organizations),
        // The lease of another, and taking its own away.
        Call::get(format!("{leases}/other")),
        Call::label(format!("{leases}/other")),
        Call::delete(format!("{leases}/{own}")),
        Call::get(leases_of_team.clone()),
        Call::get(format!("{leases_of_team}/{own}")),
        Call::post(leases_of_team, object(LEASES, "Lease", "new", json!({}))),
        // Events are told, not read.
        Call::get(format!("{events}/namespaces/{team}/events")),
        Call::delete(format!("{events}/namespaces/{team}/events")),
        Call::get(format!("{in_team}/events")),
        // Namespaces are read only.
        Call::post(
            format!("{core}/namespaces"),
            object("v1", "Namespace", "new", json!({})),
        ),
        Call::label(in_team.clone()),
        Call::delete(in_team),
        // Everything else.
        Call::get(format!("{in_own}/configmaps")),
        Call::get(format!("{in_own}/configmaps/other")),
        Call::get(format!("{in_own}/pods")),
        Call::get(format!("{core}/nodes")),
        Call::get(format!("/apis/apps/v1/namespaces/{own}/deployments")),
        Call::label(format!("/apis/apps/v1/namespaces/{own}/deployments/{own}")),
        Call::get(definitions),
        Call::label(format!("{definitions}/orginvites.iam.astronomer.io")),
        Call::get("/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations"),
        Call::post(
            format!("{in_own}/serviceaccounts/{own}/token"),
            object("authentication.k8s.io/v1", "TokenRequest", own, token),
        ),
        Call::get(format!("/apis/{rbac}/clusterroles")),
        Call::label(format!("/apis/{rbac}/clusterroles/{own}")),
        Call::post(
            format!("/apis/{rbac}/namespaces/{team}/rolebindings"),
            object(rbac, "RoleBinding", "mine", binding),
        ),
        Call::get("/metrics"),
    ]
}
