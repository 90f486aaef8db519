//! Everything in the chart is taken by the API server, and its pods by a namespace that enforces Pod Security
//! *restricted*.

use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use kube::api::PostParams;
use serde_json::{Value, json};
use support::control_plane::ControlPlane;

use crate::chart::{documents, find, render};
use crate::installation::{apply, apply_definitions};
use crate::tools::{Helm, Kubectl, project};

/// What the chart uses of it. The real one is Prometheus Operator's.
const SERVICE_MONITOR: &str = r"
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: servicemonitors.monitoring.coreos.com}
spec:
  group: monitoring.coreos.com
  names: {kind: ServiceMonitor, plural: servicemonitors}
  scope: Namespaced
  versions:
    - name: v1
      served: true
      storage: true
      schema:
        openAPIV3Schema:
          type: object
          properties:
            spec:
              type: object
              required: [endpoints, selector]
              properties:
                selector:
                  type: object
                  properties:
                    matchLabels: {type: object, additionalProperties: {type: string}}
                endpoints:
                  type: array
                  items:
                    type: object
                    properties:
                      port: {type: string}
                      path: {type: string}
                      interval: {type: string, pattern: '^([0-9]+(s|m|h))+$'}
                      scrapeTimeout: {type: string, pattern: '^([0-9]+(s|m|h))+$'}
";

#[tokio::test(flavor = "multi_thread")]
async fn everything_is_taken_by_the_api_server_and_its_pods_by_restricted() {
    let plane = ControlPlane::shared().await.unwrap();
    let client = plane.client().await.unwrap();
    let kubectl = Kubectl::admin(plane).await;
    let helm = Helm::alone().await;
    apply_definitions(&kubectl).await;
    apply(&kubectl, SERVICE_MONITOR).await;
    kubectl
        .run(&[
            "wait",
            "--for=condition=Established",
            "--timeout=60s",
            "crd/servicemonitors.monitoring.coreos.com",
        ])
        .await
        .printed();

    let everything = project("tests/packaging/everything.yaml");
    let everything = everything.to_str().unwrap();
    for (release, more) in [
        ("default-values", &[][..]),
        ("every-value", &["--values", everything][..]),
    ] {
        let namespace = format!("restricted-{release}");
        let manifest = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {
            "name": namespace, "labels": {"pod-security.kubernetes.io/enforce": "restricted"},
        }});
        apply(&kubectl, &manifest.to_string()).await;
        // With the hooks, which helm would apply one after the other.
        let text = render(&helm, release, &namespace, more).await;
        let said = kubectl.with_file(&["apply", "--server-side"], &text).await;
        assert!(
            said.success && !said.stderr.contains("arning"),
            "{release}: {}",
            said.stderr
        );

        let rendered = documents(&text);
        let pods: Api<Pod> = Api::namespaced(client.clone(), &namespace);
        let name = format!("{release}-orginvite-operator");
        for (kind, name) in [
            ("Deployment", name.clone()),
            ("Job", format!("{name}-crds")),
            ("Job", format!("{name}-check-uninstall")),
        ] {
            let template = &find(&rendered, kind, &name)["spec"]["template"];
            let pod = |change: &dyn Fn(&mut Value)| {
                let mut pod = json!({
                    "metadata": {"name": name, "labels": template["metadata"]["labels"]},
                    "spec": template["spec"],
                });
                change(&mut pod["spec"]);
                serde_json::from_value::<Pod>(pod).unwrap()
            };
            // Each of them is needed.
            for field in ["capabilities", "allowPrivilegeEscalation"] {
                let without = pod(&|spec| {
                    let context = &mut spec["containers"][0]["securityContext"];
                    context.as_object_mut().unwrap().remove(field).unwrap();
                });
                let refusal = pods.create(&PostParams::default(), &without).await;
                let refusal = refusal.unwrap_err().to_string();
                assert!(
                    refusal.contains("violates PodSecurity"),
                    "{field}: {refusal}"
                );
            }
            let created = pods.create(&PostParams::default(), &pod(&|_| {})).await;
            let spec = created
                .unwrap_or_else(|error| panic!("{kind} {name}: {error}"))
                .spec
                .unwrap();
            // Beyond what restricted asks for.
            let context = spec.containers[0].security_context.as_ref().unwrap();
            assert_eq!(context.read_only_root_filesystem, Some(true));
            assert_eq!(spec.security_context.unwrap().run_as_user, Some(65532));
            assert!(
                spec.containers[0]
                    .resources
                    .as_ref()
                    .unwrap()
                    .limits
                    .is_some()
            );
        }
    }
    let account = kubectl
        .run(&[
            "--namespace",
            "restricted-default-values",
            "get",
            "serviceaccount",
            "default-values-orginvite-operator",
            "--output=jsonpath={.automountServiceAccountToken}",
        ])
        .await
        .printed();
    assert_eq!(account, "false");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_plain_manifests_are_taken_by_the_api_server() {
    let plane = ControlPlane::shared().await.unwrap();
    let kubectl = Kubectl::admin(plane).await;
    let (crds, install) = (project("crds"), project("deploy/install.yaml"));
    let files = [
        "--filename",
        crds.to_str().unwrap(),
        "--filename",
        install.to_str().unwrap(),
    ];
    for dry in [&[][..], &["--dry-run=server"][..]] {
        let arguments = [&["apply", "--server-side"][..], &files, dry].concat();
        let said = kubectl.run(&arguments).await;
        assert!(
            said.success && !said.stderr.contains("arning"),
            "{}",
            said.stderr
        );
    }
}
