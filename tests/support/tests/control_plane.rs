//! The control plane starts, logs exactly what was written, and leaves nothing behind.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use futures::StreamExt;
use k8s_openapi::api::authentication::v1::{
    TokenRequest, TokenRequestSpec, TokenReview, TokenReviewSpec,
};
use k8s_openapi::api::core::v1::{ConfigMap, Namespace, ServiceAccount};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::api::{
    DeleteParams, ListParams, ObjectMeta, Patch, PatchParams, PostParams, WatchEvent, WatchParams,
};
use kube::core::{DynamicObject, GroupVersionKind};
use kube::discovery::ApiResource;
use kube::{Api, Client, Error};
use serde_json::json;
use support::control_plane::{
    ControlPlane, ETCD_VERSION, HELM_VERSION, KUBERNETES_VERSION, MASTERS,
};

const DEADLINE: Duration = Duration::from_secs(90);

#[tokio::test]
async fn serves_the_expected_version() -> Result<()> {
    let client = ControlPlane::shared().await?.client().await?;
    let version = client.apiserver_version().await?;
    // An envtest archive may have another patch version.
    let minor = KUBERNETES_VERSION
        .rsplit_once('.')
        .context("no patch version")?
        .0;
    assert!(
        version.git_version.starts_with(&format!("v{minor}.")),
        "{}",
        version.git_version
    );
    assert_eq!(format!("{}.{}", version.major, version.minor), minor);
    Ok(())
}

#[tokio::test]
async fn the_admin_may_write_and_a_user_without_groups_may_not() -> Result<()> {
    let control_plane = ControlPlane::shared().await?;
    let admin = control_plane.client().await?;
    create_namespace(&admin, "who-may").await?;
    let object = ConfigMap {
        metadata: named("some"),
        ..ConfigMap::default()
    };
    Api::namespaced(admin, "who-may")
        .create(&PostParams::default(), &object)
        .await?;

    let stranger = control_plane.client_for("stranger", None).await?;
    let objects: Api<ConfigMap> = Api::namespaced(stranger, "who-may");
    let refused = objects.get("some").await;
    assert!(
        matches!(&refused, Err(Error::Api(status)) if status.code == 403),
        "{refused:?}"
    );

    let master = control_plane.client_for("another", Some(MASTERS)).await?;
    Api::<ConfigMap>::namespaced(master, "who-may")
        .get("some")
        .await?;
    Ok(())
}

#[tokio::test]
async fn issues_tokens_and_recognizes_them() -> Result<()> {
    let client = ControlPlane::shared().await?.client().await?;
    create_namespace(&client, "tokens").await?;
    let accounts: Api<ServiceAccount> = Api::namespaced(client.clone(), "tokens");
    let account = ServiceAccount {
        metadata: named("someone"),
        ..ServiceAccount::default()
    };
    accounts.create(&PostParams::default(), &account).await?;
    let request = TokenRequest {
        spec: Some(TokenRequestSpec::default()),
        ..TokenRequest::default()
    };
    let issued = accounts
        .create_token_request("someone", &PostParams::default(), &request)
        .await?;
    let review = TokenReview {
        spec: TokenReviewSpec {
            token: issued
                .status
                .and_then(|status| status.token)
                .context("no token")?,
            ..TokenReviewSpec::default()
        },
        ..TokenReview::default()
    };
    let review = Api::all(client)
        .create(&PostParams::default(), &review)
        .await?;
    let status = review.status.context("no status")?;
    assert_eq!(status.authenticated, Some(true), "{status:?}");
    assert_eq!(
        status.user.and_then(|user| user.username).as_deref(),
        Some("system:serviceaccount:tokens:someone")
    );
    Ok(())
}

#[tokio::test]
async fn a_burst_of_requests_is_served() -> Result<()> {
    let client = ControlPlane::shared().await?.client().await?;
    create_namespace(&client, "burst").await?;
    let objects: Api<ConfigMap> = Api::namespaced(client, "burst");
    let creates = (0..500).map(|number| {
        let objects = objects.clone();
        async move {
            let object = ConfigMap {
                metadata: named(&format!("object-{number}")),
                ..ConfigMap::default()
            };
            objects.create(&PostParams::default(), &object).await
        }
    });
    futures::future::try_join_all(creates).await?;
    assert_eq!(
        objects
            .list_metadata(&ListParams::default())
            .await?
            .items
            .len(),
        500
    );
    Ok(())
}

#[tokio::test]
async fn the_audit_log_has_every_write_once() -> Result<()> {
    let control_plane = ControlPlane::shared().await?;
    let admin = control_plane.client().await?;
    let kind = define_probe(&admin).await?;
    create_namespace(&admin, "audited").await?;
    create_namespace(&admin, "elsewhere").await?;

    let writer = control_plane.client_for("writer", Some(MASTERS)).await?;
    let probes = |client: &Client, namespace| {
        Api::<DynamicObject>::namespaced_with(client.clone(), namespace, &kind)
    };
    let ours = probes(&writer, "audited");
    let create = PostParams::default();
    ours.create(&create, &DynamicObject::new("one", &kind))
        .await?;
    ours.create(&create, &DynamicObject::new("one", &kind))
        .await
        .expect_err("it exists");
    let dry_run = PostParams {
        dry_run: true,
        ..PostParams::default()
    };
    ours.create(&dry_run, &DynamicObject::new("two", &kind))
        .await?;
    let status = Patch::Merge(json!({"status": {"seen": true}}));
    ours.patch_status("one", &PatchParams::default(), &status)
        .await?;
    ours.get("one").await?;
    ours.list(&ListParams::default()).await?;
    ours.delete("one", &DeleteParams::default()).await?;
    // Neither of these counts: another's, and another place.
    probes(&admin, "audited")
        .create(&create, &DynamicObject::new("three", &kind))
        .await?;
    probes(&writer, "elsewhere")
        .create(&create, &DynamicObject::new("one", &kind))
        .await?;

    let writes = control_plane.writes("audited", "writer")?;
    let writes: Vec<_> = writes
        .iter()
        .map(|entry| {
            (
                &*entry.verb,
                entry.subresource.as_deref(),
                entry.name.as_deref(),
                entry.code,
            )
        })
        .collect();
    let expected = [
        ("create", None, Some("one"), 201),
        ("patch", Some("status"), Some("one"), 200),
        ("delete", None, Some("one"), 200),
    ];
    assert_eq!(writes, expected);

    let everything = control_plane.audit(<[_]>::to_vec)?;
    let codes: Vec<_> = everything
        .iter()
        .filter(|entry| entry.user == "writer" && entry.namespace.as_deref() == Some("audited"))
        .map(|entry| (&*entry.verb, entry.code, entry.dry_run))
        .collect();
    let expected = [
        ("create", 201, false),
        ("create", 409, false),
        ("create", 201, true),
        ("patch", 200, false),
        ("get", 200, false),
        ("list", 200, false),
        ("delete", 200, false),
    ];
    assert_eq!(codes, expected);
    assert!(
        everything.iter().all(|entry| entry.resource == "probes"),
        "{everything:?}"
    );
    Ok(())
}

#[tokio::test]
async fn two_run_at_once_and_leave_nothing_behind() -> Result<()> {
    let (first, second) = tokio::try_join!(ControlPlane::start(), ControlPlane::start())?;
    create_namespace(&first.client().await?, "only-here").await?;
    let namespaces: Api<Namespace> = Api::all(second.client().await?);
    assert!(namespaces.get_opt("only-here").await?.is_none());

    let directories = [first.directory().to_owned(), second.directory().to_owned()];
    for directory in &directories {
        assert_eq!(processes_that_mention(directory)?, 2);
    }
    drop((first, second));
    for directory in &directories {
        assert!(!directory.exists());
        assert_eq!(processes_that_mention(directory)?, 0);
    }
    Ok(())
}

#[tokio::test]
async fn the_controller_manager_deletes_namespaces_and_dependents() -> Result<()> {
    let control_plane = ControlPlane::start().await?;
    control_plane.start_controller_manager().await?;
    control_plane.start_controller_manager().await?;
    assert_eq!(processes_that_mention(control_plane.directory())?, 3);

    let client = control_plane.client().await?;
    let objects: Api<ConfigMap> = Api::namespaced(client.clone(), "default");
    let mut object = ConfigMap {
        metadata: named("owner"),
        ..ConfigMap::default()
    };
    let owner = objects.create(&PostParams::default(), &object).await?;
    object.metadata = named("dependent");
    object.metadata.owner_references = Some(vec![OwnerReference {
        api_version: "v1".to_owned(),
        kind: "ConfigMap".to_owned(),
        name: "owner".to_owned(),
        uid: owner.metadata.uid.context("no UID")?,
        ..OwnerReference::default()
    }]);
    objects.create(&PostParams::default(), &object).await?;
    objects.delete("owner", &DeleteParams::default()).await?;
    gone(&objects, "dependent").await?;

    create_namespace(&client, "to-be-deleted").await?;
    let namespaces: Api<Namespace> = Api::all(client);
    namespaces
        .delete("to-be-deleted", &DeleteParams::default())
        .await?;
    gone(&namespaces, "to-be-deleted").await?;

    let directory = control_plane.directory().to_owned();
    drop(control_plane);
    assert!(!directory.exists());
    assert_eq!(processes_that_mention(&directory)?, 0);
    Ok(())
}

/// A process that holds the input of a control plane, as a test process does.
struct Parent {
    holder: Child,
    supervisor: Child,
    directory: std::path::PathBuf,
}

impl Parent {
    fn start() -> Result<Self> {
        let mut holder = Command::new("sleep")
            .arg("600")
            .stdout(Stdio::piped())
            .spawn()?;
        let input = holder.stdout.take().context("no pipe")?;
        let mut supervisor = Command::new(env!("CARGO_BIN_EXE_control-plane"))
            .stdin(input)
            .stdout(Stdio::piped())
            .spawn()?;
        let mut line = String::new();
        let answers = supervisor.stdout.take().context("no pipe")?;
        BufReader::new(answers).read_line(&mut line)?;
        let answer: serde_json::Value = serde_json::from_str(&line)?;
        let directory = answer["ready"]["directory"]
            .as_str()
            .with_context(|| line.clone())?
            .into();
        Ok(Self {
            holder,
            supervisor,
            directory,
        })
    }
}

impl Drop for Parent {
    fn drop(&mut self) {
        for process in [&mut self.holder, &mut self.supervisor] {
            let _ = process.kill();
            let _ = process.wait();
        }
    }
}

#[test]
fn a_killed_parent_leaves_nothing_behind() -> Result<()> {
    let mut parent = Parent::start()?;
    assert_eq!(processes_that_mention(&parent.directory)?, 2);
    parent.holder.kill()?;
    until("everything is gone", || {
        Ok(!parent.directory.exists() && processes_that_mention(&parent.directory)? == 0)
    })?;
    assert!(parent.supervisor.wait()?.success());
    Ok(())
}

#[test]
fn a_killed_supervisor_leaves_no_process_and_the_next_start_removes_its_directory() -> Result<()> {
    let mut parent = Parent::start()?;
    parent.supervisor.kill()?;
    parent.supervisor.wait()?;
    until("the servers are gone", || {
        Ok(processes_that_mention(&parent.directory)? == 0)
    })?;
    let next = Parent::start()?;
    assert!(!parent.directory.exists());
    assert!(next.directory.exists());
    Ok(())
}

#[test]
fn go_modules_have_the_versions_of_the_constants() {
    for (module, required) in [
        ("etcd", format!("go.etcd.io/etcd/server/v3 v{ETCD_VERSION}")),
        (
            "kubernetes",
            format!("k8s.io/kubernetes v{KUBERNETES_VERSION}"),
        ),
        ("helm", format!("helm.sh/helm/v4 v{HELM_VERSION}")),
    ] {
        let path = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("controlplane")
            .join(module)
            .join("go.mod");
        let text = fs::read_to_string(&path).expect("go.mod");
        let found = text.lines().any(|line| {
            line.trim()
                .trim_start_matches("require ")
                .starts_with(&required)
        });
        assert!(found, "{} does not require {required}", path.display());
    }
}

/// A kind of our group that nothing else uses, since only requests about that group are in the audit log.
async fn define_probe(client: &Client) -> Result<ApiResource> {
    let definition: CustomResourceDefinition = serde_json::from_value(json!({
        "metadata": {"name": "probes.iam.astronomer.io"},
        "spec": {
            "group": "iam.astronomer.io",
            "scope": "Namespaced",
            "names": {"plural": "probes", "singular": "probe", "kind": "Probe"},
            "versions": [{
                "name": "v1",
                "served": true,
                "storage": true,
                "subresources": {"status": {}},
                "schema": {"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": true}},
            }],
        },
    }))?;
    let definitions: Api<CustomResourceDefinition> = Api::all(client.clone());
    definitions
        .create(&PostParams::default(), &definition)
        .await?;
    let established = kube::runtime::conditions::is_crd_established();
    let wait =
        kube::runtime::wait::await_condition(definitions, "probes.iam.astronomer.io", established);
    tokio::time::timeout(DEADLINE, wait).await??;
    Ok(ApiResource::from_gvk(&GroupVersionKind::gvk(
        "iam.astronomer.io",
        "v1",
        "Probe",
    )))
}

async fn create_namespace(client: &Client, name: &str) -> Result<()> {
    let namespace = Namespace {
        metadata: named(name),
        ..Namespace::default()
    };
    Api::all(client.clone())
        .create(&PostParams::default(), &namespace)
        .await?;
    Ok(())
}

fn named(name: &str) -> ObjectMeta {
    ObjectMeta {
        name: Some(name.to_owned()),
        ..ObjectMeta::default()
    }
}

async fn gone<K>(objects: &Api<K>, name: &str) -> Result<()>
where
    K: Clone + std::fmt::Debug + serde::de::DeserializeOwned,
{
    let deadline = Instant::now() + DEADLINE;
    while objects.get_opt(name).await?.is_some() {
        if Instant::now() > deadline {
            bail!("{name} is still there after {DEADLINE:?}");
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    Ok(())
}

fn until(what: &str, condition: impl Fn() -> Result<bool>) -> Result<()> {
    let deadline = Instant::now() + DEADLINE;
    while !condition()? {
        if Instant::now() > deadline {
            bail!("not within {DEADLINE:?}: {what}");
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}

/// The servers of a control plane are told of its directory in their arguments.
fn processes_that_mention(directory: &Path) -> Result<usize> {
    let directory = directory.to_str().context("not UTF-8")?;
    let mut count = 0;
    for entry in fs::read_dir("/proc")? {
        // A process may end while it is looked at; a zombie has no arguments.
        let arguments = fs::read(entry?.path().join("cmdline")).unwrap_or_default();
        count += usize::from(String::from_utf8_lossy(&arguments).contains(directory));
    }
    Ok(count)
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_stored_outlives_the_api_server_and_old_versions_do_not() -> Result<()> {
    let control_plane = ControlPlane::start().await?;
    let client = control_plane.client().await?;
    let objects: Api<ConfigMap> = Api::namespaced(client, "default");
    let object = ConfigMap {
        metadata: named("kept"),
        ..ConfigMap::default()
    };
    let old = objects.create(&PostParams::default(), &object).await?;
    let patch = Patch::Merge(json!({"data": {"some": "thing"}}));
    objects
        .patch("kept", &PatchParams::default(), &patch)
        .await?;
    control_plane.compact().await?;
    control_plane.stop_api_server().await?;
    assert!(objects.get("kept").await.is_err(), "nobody answers");
    control_plane.start_api_server().await?;
    let kept = objects.get("kept").await?;
    assert_eq!(kept.metadata.uid, old.metadata.uid);
    assert!(kept.data.is_some());

    let version = old.metadata.resource_version.context("no version")?;
    let mut events = objects
        .watch(&WatchParams::default(), &version)
        .await?
        .boxed();
    let event = events.next().await.context("the watch ended")?;
    let code = match event {
        Ok(WatchEvent::Error(status)) | Err(Error::Api(status)) => status.code,
        other => bail!("not told that the version is gone: {other:?}"),
    };
    assert_eq!(code, 410);
    Ok(())
}
