//! The main job, shown on a real API server and a fake of Astro: `make demo`.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use k8s_openapi::api::core::v1::{Namespace, Secret};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{DeleteParams, DynamicObject, Patch, PatchParams};
use kube::core::{ApiResource, GroupVersionKind};
use kube::runtime::wait::{await_condition, conditions};
use kube::{Api, Client, ResourceExt};
use serde::Deserialize;
use serde_json::{Value, json};
use support::control_plane::ControlPlane;
use support::fake_astro::FakeAstro;
use support::operator::Operator;

/// How long a step of the story may take.
const DEADLINE: Duration = Duration::from_secs(30);
const NAMESPACE: &str = "team-a";
const OPERATOR_NAMESPACE: &str = "orginvite-operator";

#[tokio::main]
async fn main() -> std::process::ExitCode {
    let began = Instant::now();
    match story(began).await {
        Ok(()) => std::process::ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("\nThe demo failed: {error:#}");
            std::process::ExitCode::FAILURE
        }
    }
}

async fn story(began: Instant) -> anyhow::Result<()> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let plane = ControlPlane::start().await?;
    let client = plane.client().await?;
    say(began, "a real Kubernetes API server is ready");
    let astro = FakeAstro::start().await?;
    say(
        began,
        &format!("a fake of the Astro API answers at {}", astro.url()),
    );

    for file in [
        "orginvites.iam.astronomer.io.yaml",
        "organizations.iam.astronomer.io.yaml",
    ] {
        let crd: CustomResourceDefinition =
            serde_yaml_ng::from_str(&std::fs::read_to_string(root.join("crds").join(file))?)?;
        let api: Api<CustomResourceDefinition> = Api::all(client.clone());
        api.patch(
            &crd.name_any(),
            &PatchParams::apply("demo"),
            &Patch::Apply(&crd),
        )
        .await?;
        in_time(
            "the definitions are established",
            await_condition(api, &crd.name_any(), conditions::is_crd_established()),
        )
        .await??;
    }
    say(began, "the custom resource definitions are installed");
    for name in [NAMESPACE, OPERATOR_NAMESPACE] {
        let namespace =
            json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}});
        Api::<Namespace>::all(client.clone())
            .patch(name, &PatchParams::apply("demo"), &Patch::Apply(namespace))
            .await?;
    }
    let secret = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "astro-token"}, "stringData": {"token": astro.token()}});
    Api::<Secret>::namespaced(client.clone(), OPERATOR_NAMESPACE)
        .patch(
            "astro-token",
            &PatchParams::apply("demo"),
            &Patch::Apply(secret),
        )
        .await?;

    let log = plane.directory().join("operator.log");
    let _operator = Operator::start(
        &operator_binary()?,
        plane.kubeconfig(),
        &log,
        &[
            "--astro-url",
            &astro.url(),
            "--namespace",
            OPERATOR_NAMESPACE,
            "--lease-duration",
            "2s",
            "--request-deadline",
            "2s",
            "--settle",
            "5s",
            "--listing-delay",
            "500ms",
            "--email-spacing",
            "0s",
            "--log-format",
            "json",
        ]
        .map(str::to_owned),
    )?;
    say(began, "the operator runs as a process of its own");

    let outcome = act(began, &root, &client, &astro).await;
    if let Err(error) = outcome {
        let text = std::fs::read_to_string(&log).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        eprintln!("{}", lines[lines.len().saturating_sub(15)..].join("\n"));
        return Err(error);
    }
    astro.assert_contract_kept()?;
    println!("\nDone in {:.1} s.", began.elapsed().as_secs_f64());

    if std::env::var("KEEP").is_ok_and(|keep| !keep.is_empty() && keep != "0") {
        println!(
            "\nEverything keeps running. In another terminal:\n\n  export KUBECONFIG={}\n  kubectl -n {NAMESPACE} get orginvites\n\nThe operator's log is {}. Ctrl-C here stops and removes it all.",
            plane.kubeconfig().display(),
            log.display()
        );
        tokio::signal::ctrl_c().await?;
    }
    Ok(())
}

async fn act(
    began: Instant,
    root: &Path,
    client: &Client,
    astro: &FakeAstro,
) -> anyhow::Result<()> {
    let mut organization = manifests(root, "organization.yaml")?.remove(0);
    organization["spec"]["organizationId"] = json!(astro.organization_id());
    organization["spec"]["syncInterval"] = json!("2s");
    apply(client, &organization).await?;
    let name = organization["metadata"]["name"]
        .as_str()
        .unwrap_or_default();
    state(client, "Organization", name, "Connected").await?;
    say(began, "the Organization is connected");

    println!("\n--- apply deploy/samples/invites.yaml");
    let invites = manifests(root, "invites.yaml")?;
    for invite in &invites {
        apply(client, invite).await?;
    }
    print_table(client).await?;
    for invite in &invites {
        let name = invite["metadata"]["name"].as_str().unwrap_or_default();
        let object = state(client, "OrgInvite", name, "Invited").await?;
        let id = object.data["status"]["inviteId"]
            .as_str()
            .context("no invite ID in the status")?;
        ensure!(
            astro.invites().iter().any(|row| row.id == id),
            "the fake does not know invite {id}"
        );
    }
    say(began, "three people are invited");
    print_table(client).await?;

    println!("\n--- apply deploy/samples/refused.yaml");
    match apply(client, &manifests(root, "refused.yaml")?[0]).await {
        Ok(()) => bail!("a bad e-mail address was accepted"),
        Err(error) => println!("refused: {error}"),
    }

    replace_jane(began, &invites[0], client, astro).await?;

    println!("\n--- delete joe");
    api(client, "OrgInvite")
        .delete("joe", &DeleteParams::default())
        .await?;
    in_time("joe is gone", async {
        while api(client, "OrgInvite").get_opt("joe").await?.is_some() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        anyhow::Ok(())
    })
    .await??;
    ensure!(
        astro.live_invites("joe+astro@example.com").is_empty(),
        "joe's invitation is still there"
    );
    say(began, "joe's invitation is taken back");
    print_table(client).await?;

    println!("\n--- one object");
    let mut object = api(client, "OrgInvite").get("jane").await?;
    object.metadata.managed_fields = None;
    println!("{}", serde_yaml_ng::to_string(&object)?);

    println!("--- e-mails by address");
    let emails = astro.emails();
    for (address, count) in &emails {
        println!("{count}  {address}");
    }
    let wanted = [
        ("jane@example.com", 2),
        ("joe+astro@example.com", 1),
        ("mei@data.example.org", 1),
    ];
    ensure!(
        emails
            .iter()
            .map(|(address, count)| (address.as_str(), *count))
            .eq(wanted),
        "not the e-mails that there should be"
    );
    Ok(())
}

async fn replace_jane(
    began: Instant,
    manifest: &Value,
    client: &Client,
    astro: &FakeAstro,
) -> anyhow::Result<()> {
    println!("\n--- edit jane's role");
    let before = invite_id(client, "jane").await?;
    let mut jane = manifest.clone();
    jane["spec"]["role"] = json!("ORGANIZATION_OBSERVE_MEMBER");
    apply(client, &jane).await?;
    in_time("jane's invitation is replaced", async {
        loop {
            let object = api(client, "OrgInvite").get("jane").await?;
            if object.data["status"]["inviteId"]
                .as_str()
                .is_some_and(|id| id != before)
            {
                return anyhow::Ok(());
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    })
    .await??;
    let live = astro.live_invites("jane@example.com");
    ensure!(
        live.len() == 1 && live[0].role == "ORGANIZATION_OBSERVE_MEMBER",
        "jane has not one invitation with the new role"
    );
    say(
        began,
        "the old invitation is gone, one with the new role is out",
    );
    print_table(client).await?;
    Ok(())
}

fn say(began: Instant, what: &str) {
    println!("[{:5.1} s] {what}", began.elapsed().as_secs_f64());
}

async fn in_time<T>(what: &str, wait: impl Future<Output = T>) -> anyhow::Result<T> {
    tokio::time::timeout(DEADLINE, wait)
        .await
        .with_context(|| format!("not within {} s: {what}", DEADLINE.as_secs()))
}

fn manifests(root: &Path, file: &str) -> anyhow::Result<Vec<Value>> {
    let text = std::fs::read_to_string(root.join("deploy/samples").join(file))?;
    serde_yaml_ng::Deserializer::from_str(&text)
        .map(|document| Ok(Value::deserialize(document)?))
        .collect()
}

fn api(client: &Client, kind: &str) -> Api<DynamicObject> {
    let resource = ApiResource::from_gvk(&GroupVersionKind::gvk(
        "iam.astronomer.io",
        "v1alpha1",
        kind,
    ));
    match kind {
        "OrgInvite" => Api::namespaced_with(client.clone(), NAMESPACE, &resource),
        _ => Api::all_with(client.clone(), &resource),
    }
}

/// What `kubectl apply --server-side` does.
async fn apply(client: &Client, manifest: &Value) -> anyhow::Result<()> {
    let kind = manifest["kind"]
        .as_str()
        .context("a manifest without a kind")?;
    let name = manifest["metadata"]["name"]
        .as_str()
        .context("a manifest without a name")?;
    match api(client, kind)
        .patch(
            name,
            &PatchParams::apply("demo").force(),
            &Patch::Apply(manifest),
        )
        .await
    {
        Ok(_) => Ok(()),
        Err(kube::Error::Api(status)) => bail!("{}", status.message),
        Err(error) => Err(error.into()),
    }
}

async fn state(
    client: &Client,
    kind: &str,
    name: &str,
    reason: &str,
) -> anyhow::Result<DynamicObject> {
    in_time(&format!("{kind} {name} is {reason}"), async {
        loop {
            let object = api(client, kind).get(name).await?;
            let ready = object.data["status"]["conditions"]
                .as_array()
                .into_iter()
                .flatten()
                .find(|condition| condition["type"] == "Ready");
            if ready.is_some_and(|ready| ready["reason"] == reason) {
                return anyhow::Ok(object);
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    })
    .await?
}

async fn invite_id(client: &Client, name: &str) -> anyhow::Result<String> {
    let object = api(client, "OrgInvite").get(name).await?;
    Ok(object.data["status"]["inviteId"]
        .as_str()
        .context("no invite ID")?
        .to_owned())
}

/// The table that the API server makes for `kubectl get orginvites -o wide`.
async fn print_table(client: &Client) -> anyhow::Result<()> {
    let request = http::Request::get(format!(
        "/apis/iam.astronomer.io/v1alpha1/namespaces/{NAMESPACE}/orginvites"
    ))
    .header("Accept", "application/json;as=Table;v=v1;g=meta.k8s.io")
    .body(Vec::new())?;
    let table: Value = client.request(request).await?;
    let cell = |value: &Value| {
        value.as_str().map_or_else(
            || {
                if value.is_null() {
                    String::new()
                } else {
                    value.to_string()
                }
            },
            str::to_owned,
        )
    };
    let columns = table["columnDefinitions"].as_array().into_iter().flatten();
    let mut rows = vec![
        columns
            .map(|column| cell(&column["name"]).to_uppercase())
            .collect::<Vec<_>>(),
    ];
    for row in table["rows"].as_array().into_iter().flatten() {
        rows.push(
            row["cells"]
                .as_array()
                .into_iter()
                .flatten()
                .map(cell)
                .collect(),
        );
    }
    let widths: Vec<usize> = (0..rows[0].len())
        .map(|n| {
            rows.iter()
                .filter_map(|row| row.get(n))
                .map(String::len)
                .max()
                .unwrap_or(0)
        })
        .collect();
    println!();
    for row in rows {
        let line: Vec<String> = row
            .iter()
            .zip(&widths)
            .map(|(cell, width)| format!("{cell:width$}"))
            .collect();
        println!("  {}", line.join("  ").trim_end());
    }
    Ok(())
}

/// The operator beside this binary.
fn operator_binary() -> anyhow::Result<PathBuf> {
    let path = std::env::current_exe()?.with_file_name("orginvite-operator");
    ensure!(
        path.is_file(),
        "{} is not there: run `make demo`, which builds it",
        path.display()
    );
    Ok(path)
}
