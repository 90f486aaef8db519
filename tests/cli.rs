//! The command line: what it prints, and one sentence for each thing that goes wrong.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

use std::process::{Command, Output};

use support::fake_astro::{FakeAstro, SECRET_PREFIX};

fn operator(args: &[&str], variables: &[(&str, &str)]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_orginvite-operator"))
        .args(args)
        .env_clear()
        .envs(variables.iter().copied())
        .stdin(std::process::Stdio::null())
        .output()
        .unwrap()
}

fn fails(args: &[&str], variables: &[(&str, &str)], saying: &str) {
    let output = operator(args, variables);
    let error = String::from_utf8(output.stderr).unwrap();
    assert!(!output.status.success(), "{args:?} succeeded");
    assert!(error.contains(saying), "{args:?}: {error}");
    assert!(output.stdout.is_empty());
}

#[test]
fn errors_at_start_say_what_to_do() {
    let dir = tempfile::tempdir().unwrap();
    let nobody = dir.path().join("nobody.kubeconfig");
    std::fs::write(
        &nobody,
        r#"{"apiVersion": "v1", "kind": "Config", "current-context": "a",
            "clusters": [{"name": "a", "cluster": {"server": "http://127.0.0.1:1"}}],
            "users": [{"name": "a", "user": {}}],
            "contexts": [{"name": "a", "context": {"cluster": "a", "user": "a"}}]}"#,
    )
    .unwrap();
    let nobody = nobody.to_str().unwrap();
    fails(
        &["run"],
        &[("KUBECONFIG", "/nowhere")],
        "no cluster is configured",
    );
    fails(
        &["run"],
        &[("KUBECONFIG", nobody)],
        "the cluster does not answer",
    );
    fails(
        &["check-uninstall"],
        &[("KUBECONFIG", nobody)],
        "it cannot be told what needs the operator",
    );
    fails(
        &["crd", "--apply"],
        &[("KUBECONFIG", nobody)],
        "orginvites.iam.astronomer.io cannot be applied",
    );
    fails(&["crd", "--field-manager", "me"], &[], "--apply");
    fails(&["run", "--settle", "soon"], &[], "write it like 90s");
    fails(&["run", "--settle=-5s"], &[], "--settle");
    // 15 s for the answer, 15 s for the lease, 10 s for the list.
    fails(
        &["run", "--settle", "40s"],
        &[("KUBECONFIG", nobody)],
        "together (40s)",
    );
    fails(
        &["run", "--settle", "40001ms"],
        &[("KUBECONFIG", nobody)],
        "the cluster does not answer",
    );
    for odd in ["0s", "1500ms"] {
        fails(
            &["run", "--lease-duration", odd],
            &[],
            "--lease-duration must be whole seconds",
        );
    }
    fails(
        &["run", "--astro-url", "http://astro.example.com"],
        &[],
        "not https",
    );
    fails(&["run", "--astro-url", "astro"], &[], "--astro-url");
    fails(
        &["run", "--admin-address", ":8080"],
        &[],
        "write it like 127.0.0.1:8080",
    );
    let other = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = other.local_addr().unwrap().to_string();
    fails(
        &["run", "--admin-address", &taken],
        &[("KUBECONFIG", nobody)],
        "Choose another --admin-address",
    );
    fails(
        &["run"],
        &[
            ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:1"),
            ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc"),
        ],
        "exported by http/protobuf only",
    );
    fails(
        &["run", "--astro-url", "https://astro.example.com"],
        &[("SSL_CERT_FILE", "/nowhere")],
        "No CA certificates were loaded from the system",
    );
    fails(&["run", "--token", "abc"], &[], "unexpected argument");
    fails(&["invite", "get", "x"], &[], "there is no token");
    fails(
        &["invite", "get", "x", "--token-file", "/nowhere"],
        &[],
        "/nowhere cannot be read",
    );
}

#[test]
fn exit_codes_are_those_of_the_reference() {
    let code = |args: &[&str]| operator(args, &[]).status.code();
    assert_eq!(code(&["crd"]), Some(0));
    assert_eq!(code(&["invite", "get", "x"]), Some(1));
    assert_eq!(code(&["run", "--token", "abc"]), Some(2));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_person_looks_at_an_invitation_and_answers_it() {
    let astro = FakeAstro::start().await.unwrap();
    let id = astro
        .invite_on_web_page("jane@example.com", "ORGANIZATION_MEMBER")
        .unwrap();
    let (url, token, own) = (
        astro.url(),
        astro.token(),
        astro.user_token("jane@example.com"),
    );
    let call = |command: &'static str, id: String, token: String| {
        let url = url.clone();
        tokio::task::spawn_blocking(move || {
            operator(
                &["invite", command, &id, "--astro-url", &url],
                &[("ASTRO_API_TOKEN", &token)],
            )
        })
    };
    let shown = call("get", id.clone(), token.clone()).await.unwrap();
    let text = String::from_utf8(shown.stdout).unwrap();
    assert!(
        shown.status.success(),
        "{}",
        String::from_utf8_lossy(&shown.stderr)
    );
    assert!(text.contains(&id) && text.contains("jane@example.com") && text.contains("expires:"));
    assert!(!text.contains(SECRET_PREFIX), "who holds a ticket can join");

    let absent = call("get", "nothing".to_owned(), token.clone())
        .await
        .unwrap();
    assert!(String::from_utf8_lossy(&absent.stderr).contains("There is no such invitation"));
    let wrong = call("get", id.clone(), "wrong".to_owned()).await.unwrap();
    assert!(String::from_utf8_lossy(&wrong.stderr).contains("The token is not accepted"));

    let accepted = call("accept", id.clone(), own).await.unwrap();
    assert!(
        accepted.status.success(),
        "{}",
        String::from_utf8_lossy(&accepted.stderr)
    );
    assert!(astro.is_member("jane@example.com"));

    let id = astro
        .invite_on_web_page("joe@example.com", "ORGANIZATION_MEMBER")
        .unwrap();
    let rejected = call("reject", id.clone(), astro.user_token("joe@example.com"))
        .await
        .unwrap();
    assert!(rejected.status.success());
    assert!(
        !astro.is_member("joe@example.com") && astro.live_invites("joe@example.com").is_empty()
    );
}
