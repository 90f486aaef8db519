//! What the story needs: an API server, a fake of Astro, the operator.

use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::ensure;
use k8s_openapi::api::core::v1::{Namespace, Secret};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{Patch, PatchParams};
use kube::runtime::wait::{await_condition, conditions};
use kube::{Api, Client, ResourceExt};
use serde_json::json;
use support::control_plane::ControlPlane;
use support::fake_astro::FakeAstro;
use support::operator::Operator;

use crate::cluster::in_time;

/// Where people are invited.
pub const NAMESPACE: &str = "team-a";
/// Where the operator has its token.
const OPERATOR_NAMESPACE: &str = "orginvite-operator";

/// Everything that runs, until it is dropped.
pub struct Stage {
    /// When the demo began.
    pub began: Instant,
    /// The cluster.
    pub client: Client,
    /// The fake.
    pub astro: FakeAstro,
    /// The project's directory.
    pub root: PathBuf,
    operator: Option<Operator>,
    log: PathBuf,
    plane: ControlPlane,
}

impl Stage {
    /// Starts everything.
    pub async fn set() -> anyhow::Result<Self> {
        let began = Instant::now();
        let plane = ControlPlane::start().await?;
        let mut stage = Self {
            began,
            client: plane.client().await?,
            astro: FakeAstro::start().await?,
            root: Path::new(env!("CARGO_MANIFEST_DIR")).join("../.."),
            operator: None,
            log: plane.directory().join("operator.log"),
            plane,
        };
        stage.say("a real Kubernetes API server is ready");
        stage.say(&format!(
            "a fake of the Astro API answers at {}",
            stage.astro.url()
        ));
        stage.install_definitions().await?;
        stage.say("the custom resource definitions are installed");
        stage.put_token().await?;
        stage.start_operator()?;
        stage.say("the operator runs as a process of its own");
        Ok(stage)
    }

    /// Starts the operator, or another one after it was killed.
    pub fn start_operator(&mut self) -> anyhow::Result<()> {
        let binary = std::env::current_exe()?.with_file_name("orginvite-operator");
        ensure!(
            binary.is_file(),
            "{} is not there: run `make demo`, which builds it",
            binary.display()
        );
        let args = [
            "--astro-url",
            &self.astro.url(),
            "--namespace",
            OPERATOR_NAMESPACE,
            "--lease-duration",
            "3s",
            "--request-deadline",
            "3s",
            // Somebody watches, and waits for it twice.
            "--settle",
            "7s",
            "--listing-delay",
            "500ms",
            "--email-spacing",
            "0s",
            // The story moves Astro's clock.
            "--clock-tolerance",
            "10000h",
            "--log-format",
            "json",
        ]
        .map(str::to_owned);
        let operator = Operator::start(&binary, self.plane.kubeconfig(), &self.log, &args)?;
        self.operator = Some(operator);
        Ok(())
    }

    /// Kills the operator with SIGKILL.
    pub fn kill_operator(&mut self) {
        self.operator = None;
    }

    /// The last lines of the operator's log.
    pub fn end_of_the_log(&self) -> String {
        let text = std::fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(15)..].join("\n")
    }

    /// Tells how to look at what is there.
    pub fn invite_to_look(&self) {
        println!(
            "\nEverything keeps running. In another terminal:\n\n  export KUBECONFIG={}\n  kubectl -n {NAMESPACE} get orginvites\n  kubectl -n {NAMESPACE} describe orginvite boss\n\nThe operator's log is {}. Ctrl-C here stops and removes it all.",
            self.plane.kubeconfig().display(),
            self.log.display()
        );
    }

    async fn install_definitions(&self) -> anyhow::Result<()> {
        for file in [
            "orginvites.iam.astronomer.io.yaml",
            "organizations.iam.astronomer.io.yaml",
        ] {
            let text = std::fs::read_to_string(self.root.join("crds").join(file))?;
            let crd: CustomResourceDefinition = serde_yaml_ng::from_str(&text)?;
            let api: Api<CustomResourceDefinition> = Api::all(self.client.clone());
            let name = crd.name_any();
            api.patch(&name, &PatchParams::apply("demo"), &Patch::Apply(&crd))
                .await?;
            let established = await_condition(api, &name, conditions::is_crd_established());
            in_time("the definitions are established", established).await??;
        }
        Ok(())
    }

    async fn put_token(&self) -> anyhow::Result<()> {
        for name in [NAMESPACE, OPERATOR_NAMESPACE] {
            let namespace =
                json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}});
            Api::<Namespace>::all(self.client.clone())
                .patch(name, &PatchParams::apply("demo"), &Patch::Apply(namespace))
                .await?;
        }
        let secret = json!({
            "apiVersion": "v1", "kind": "Secret", "metadata": {"name": "astro-token"},
            "stringData": {"token": self.astro.token()},
        });
        Api::<Secret>::namespaced(self.client.clone(), OPERATOR_NAMESPACE)
            .patch(
                "astro-token",
                &PatchParams::apply("demo"),
                &Patch::Apply(secret),
            )
            .await?;
        Ok(())
    }
}
