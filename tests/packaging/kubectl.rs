//! What people do with kubectl, and what they see.

use crate::installation::{Installation, apply};
use crate::tools::{Kubectl, Outcome};

#[tokio::test(flavor = "multi_thread")]
async fn kubectl_explains_shows_selects_waits_and_sees_no_drift() {
    let installation = Installation::start().await;
    let person = Person {
        kubectl: installation.developer().await,
        installation: &installation,
    };
    for name in ["jane", "joe"] {
        let manifest = installation.invite(name, &format!("{name}@example.com"));
        apply(&person.kubectl, &manifest).await;
    }
    installation
        .wait(&["--for=condition=Ready", "orginvite", "--all"])
        .await;
    person.explains().await;
    person.shows_and_selects().await;
    person.sees_no_drift().await;
    let deletion = ["delete", "orginvite", "--all", "--timeout=60s"];
    person.run(&deletion).await.printed();
    let left = installation.astro.live_invites("jane@example.com");
    assert!(left.is_empty(), "{left:?}");
}

/// Somebody of the team.
struct Person<'a> {
    kubectl: Kubectl,
    installation: &'a Installation,
}

impl Person<'_> {
    async fn run(&self, arguments: &[&str]) -> Outcome {
        let team = ["--namespace", self.installation.team.as_str()];
        self.kubectl.run(&[&team[..], arguments].concat()).await
    }

    async fn explains(&self) {
        let said = self.run(&["explain", "orginvite.spec"]).await.printed();
        for field in [
            "email",
            "role",
            "organizationRef",
            "deletionPolicy",
            "-required-",
        ] {
            assert!(said.contains(field), "{field}: {said}");
        }
        let said = self.run(&["explain", "oi.spec.email"]).await.printed();
        assert!(said.contains("one plain address such as"), "{said}");
    }

    async fn shows_and_selects(&self) {
        let table = self.run(&["get", "orginvites"]).await.printed();
        let [heading, jane, joe] = rows(&table);
        assert_eq!(
            heading,
            ["NAME", "EMAIL", "ROLE", "READY", "STATE", "EXPIRES", "AGE"]
        );
        let shown = [
            "jane",
            "jane@example.com",
            "ORGANIZATION_MEMBER",
            "True",
            "Invited",
        ];
        assert_eq!(jane[..5], shown);
        assert_eq!(joe[0], "joe");

        let wide = ["get", "oi", "jane", "--output=wide"];
        let table = self.run(&wide).await.printed();
        let [heading, jane] = rows(&table);
        assert_eq!(heading[7..], ["INVITE-ID", "ORGANIZATION", "MESSAGE"]);
        let invite = self
            .installation
            .astro
            .live_invites("jane@example.com")
            .remove(0);
        assert_eq!(jane[7..9], [&invite.id, &self.installation.name]);
        let message = jane[9..].join(" ");
        assert!(message.starts_with("The invitation is out"), "{message}");

        // The category has Organizations too, which are not the team's to list.
        let all = self.run(&["get", "astro", "--output=name"]).await;
        assert!(
            all.stdout.contains("orginvite.iam.astronomer.io/jane"),
            "{all:?}"
        );
        assert!(
            all.stderr
                .contains("organizations.iam.astronomer.io is forbidden"),
            "{all:?}"
        );

        let selector = "--field-selector=spec.email=joe@example.com";
        let found = self
            .run(&["get", "orginvites", selector, "--output=name"])
            .await;
        assert_eq!(found.printed(), "orginvite.iam.astronomer.io/joe\n");
    }

    /// What the operator writes is no difference to the manifest, and applying it again writes nothing.
    async fn sees_no_drift(&self) {
        let jane = self.installation.invite("jane", "jane@example.com");
        let version = async || {
            let output = "--output=jsonpath={.metadata.resourceVersion}";
            self.run(&["get", "orginvite", "jane", output])
                .await
                .printed()
        };
        let before = version().await;
        let same = self
            .kubectl
            .with_file(&["diff", "--server-side"], &jane)
            .await;
        assert_eq!(
            (same.code, same.stdout.as_str()),
            (Some(0), ""),
            "{}",
            same.stderr
        );
        apply(&self.kubectl, &jane).await;
        assert_eq!(version().await, before);

        let edited = jane.replace("ORGANIZATION_MEMBER", "ORGANIZATION_OBSERVE_MEMBER");
        let differs = self
            .kubectl
            .with_file(&["diff", "--server-side"], &edited)
            .await;
        assert_eq!(differs.code, Some(1), "{}", differs.stderr);
        let line = "+  role: ORGANIZATION_OBSERVE_MEMBER";
        assert!(differs.stdout.contains(line), "{}", differs.stdout);

        let other = jane.replace("jane@example.com", "jane.doe@example.com");
        let refused = self
            .kubectl
            .with_file(&["apply", "--server-side"], &other)
            .await;
        let refusal = refused.refusal();
        let advice = "Create another OrgInvite for it and delete this one";
        assert!(refusal.contains(advice), "{refusal}");
    }
}

/// The cells of a table, by row.
fn rows<const N: usize>(table: &str) -> [Vec<&str>; N] {
    let rows: Vec<Vec<&str>> = table
        .lines()
        .map(|line| line.split_whitespace().collect())
        .collect();
    rows.try_into()
        .unwrap_or_else(|rows| panic!("there are not {N} rows: {rows:?}"))
}
