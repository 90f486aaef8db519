//! Who writes manifests and who is invited, and what each may get e-mails for.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use kube::{Api, ResourceExt};
use orginvite_operator::resources::OrgInvite;
use parking_lot::Mutex;
use serde_json::{Value, json};

use crate::schedule::{Act, Script};
use crate::stage::{ROLES, Stage, TEAMS, persist};

/// One address, and the object for it.
pub struct Person {
    pub email: String,
    stage: Arc<Stage>,
    number: usize,
    /// Held during each act: one at a time.
    manifest: tokio::sync::Mutex<Manifest>,
    account: Mutex<Account>,
}

#[derive(Default)]
struct Manifest {
    /// Namespace and name of the object, while there is one that is not deleted.
    object: Option<(usize, String)>,
    role: usize,
    /// How many objects there were.
    count: u32,
    requests: u32,
}

/// What is owed to an address, and what excuses what is found in the end.
#[derive(Clone, Default)]
pub struct Account {
    /// When a cause for one e-mail came into the world.
    pub causes: Vec<(Instant, &'static str)>,
    /// When an object went that kept nothing from staying behind: its finalizer was removed, or its policy is Retain.
    pub let_go: Vec<Instant>,
    /// When its finalizer was removed.
    pub forced: Vec<Instant>,
    /// When an object was deleted and no other one was there to take over from it.
    pub ended: Vec<Instant>,
    /// When an object was deleted beside one that takes over from it.
    pub replaced: Vec<Instant>,
    /// What the person did with invitations.
    pub answers: Vec<(Instant, &'static str)>,
    /// Everything that was done.
    pub acts: Vec<Instant>,
    /// The namespaces that there were objects in.
    pub teams: BTreeSet<usize>,
}

impl Person {
    pub fn new(stage: &Arc<Stage>, number: usize, kind: &str) -> Arc<Self> {
        Arc::new(Self {
            email: format!("{kind}{number}@people.example"),
            stage: stage.clone(),
            number,
            manifest: tokio::sync::Mutex::default(),
            account: Mutex::default(),
        })
    }

    pub fn account(&self) -> Account {
        self.account.lock().clone()
    }

    /// Whose namespace the first object is created in.
    pub fn team(&self) -> usize {
        self.number % TEAMS.len()
    }

    fn cause(&self, what: &'static str) {
        self.account.lock().causes.push((Instant::now(), what));
    }

    /// Nothing goes wrong for them any more.
    pub fn spare(&self) {
        self.stage.astro.clear_faults_for(&self.email);
    }

    /// Lives through a script whose moments count from `begun`.
    pub async fn live(self: Arc<Self>, begun: Instant, script: Script) {
        for (at, act) in script {
            tokio::time::sleep_until((begun + at).into()).await;
            self.act(&act).await;
        }
    }

    pub async fn act(&self, act: &Act) {
        let mut manifest = self.manifest.lock().await;
        self.account.lock().acts.push(Instant::now());
        match act {
            Act::BadLuck(wrong) => self.stage.astro.fault_for(&self.email, wrong.clone()),
            Act::Create => {
                self.create(&mut manifest, self.team(), true).await;
            }
            Act::EditRole => {
                manifest.role = (manifest.role + 1) % ROLES.len();
                if let Some(object) = &manifest.object {
                    self.cause("an edited role");
                    let role = ROLES[manifest.role];
                    self.patch(object, json!({"spec": {"role": role}})).await;
                }
            }
            Act::AskAgain => {
                manifest.requests += 1;
                if let Some(object) = &manifest.object {
                    self.cause("a request");
                    let value = manifest.requests.to_string();
                    let annotations = json!({"iam.astronomer.io/resend-requested-at": value});
                    self.patch(object, json!({"metadata": {"annotations": annotations}}))
                        .await;
                }
            }
            Act::Rename { moves, new_first } => {
                let Some(old) = manifest.object.clone() else {
                    return;
                };
                let team = (old.0 + usize::from(*moves)) % TEAMS.len();
                if *new_first {
                    // The other one takes it over: no e-mail.
                    self.create(&mut manifest, team, false).await;
                    self.delete(&old).await;
                    self.account.lock().replaced.push(Instant::now());
                } else {
                    self.end(&old).await;
                    // It may be taken back before the new one is seen.
                    self.create(&mut manifest, team, true).await;
                }
            }
            Act::Delete => {
                if let Some(object) = manifest.object.take() {
                    self.end(&object).await;
                }
            }
            Act::ForceDelete | Act::RemoveUnderWay => {
                if let Some(object) = manifest.object.take() {
                    self.end(&object).await;
                    self.remove_finalizers(&object).await;
                    if matches!(act, Act::ForceDelete) {
                        let mut account = self.account.lock();
                        account.let_go.push(Instant::now());
                        account.forced.push(Instant::now());
                    }
                }
            }
            Act::RetainAndDelete => {
                if let Some(object) = manifest.object.take() {
                    self.patch(&object, json!({"spec": {"deletionPolicy": "Retain"}}))
                        .await;
                    self.end(&object).await;
                    self.account.lock().let_go.push(Instant::now());
                }
            }
            Act::Accept | Act::Decline | Act::Expire => self.answer(act, &manifest),
            // Nobody, when there was no invitation to accept.
            Act::Leave if self.stage.astro.is_member(&self.email) => {
                self.account.lock().answers.push((Instant::now(), "leaves"));
                self.stage.astro.remove_member(&self.email).unwrap();
            }
            Act::Leave => {}
        }
    }

    /// What the person does with the invitation, when there is one.
    fn answer(&self, act: &Act, manifest: &Manifest) {
        let astro = &self.stage.astro;
        let Some(invite) = astro.live_invites(&self.email).pop() else {
            return;
        };
        let what = match act {
            Act::Accept => "accepts",
            Act::Decline => "declines",
            _ => "it expires",
        };
        self.account.lock().answers.push((Instant::now(), what));
        match act {
            Act::Accept => astro.accept(&invite.id).unwrap_or_default(),
            Act::Decline => {
                if self.stage.witness.first_owner(&invite.id).is_none() {
                    // Outside the promise: nothing shows that there was one.
                    self.cause("an invitation that was declined and nobody saw");
                }
                astro.reject(&invite.id).unwrap_or_default();
            }
            _ => {
                if manifest.object.is_some() {
                    self.cause("an expired invitation");
                }
                astro.expire(&invite.id).unwrap_or_default();
            }
        }
    }

    async fn create(&self, manifest: &mut Manifest, team: usize, causes: bool) {
        manifest.count += 1;
        self.account.lock().teams.insert(team);
        let local = self.email.split('@').next().unwrap();
        let name = format!("{local}-{}", manifest.count);
        if causes {
            self.cause("an object");
        }
        // The same person in another spelling.
        let email = if manifest.count.is_multiple_of(2) {
            self.email.to_uppercase()
        } else {
            self.email.clone()
        };
        let object: OrgInvite = serde_json::from_value(json!({
            "apiVersion": "iam.astronomer.io/v1alpha1", "kind": "OrgInvite",
            "metadata": {"name": name, "namespace": TEAMS[team]},
            "spec": {"email": email, "role": ROLES[manifest.role]},
        }))
        .unwrap();
        let api = self.api(team);
        persist("a creation", async || {
            match api.create(&PostParams::default(), &object).await {
                // An earlier try did it.
                Err(kube::Error::Api(status)) if status.code == 409 => Ok(()),
                other => other.map(drop),
            }
        })
        .await;
        manifest.object = Some((team, name));
    }

    fn api(&self, team: usize) -> Api<OrgInvite> {
        Api::namespaced(self.stage.client.clone(), TEAMS[team])
    }

    async fn patch(&self, (team, name): &(usize, String), patch: Value) {
        let api = self.api(*team);
        persist("an edit", async || {
            api.patch(name, &PatchParams::default(), &Patch::Merge(&patch))
                .await
        })
        .await;
    }

    async fn delete(&self, (team, name): &(usize, String)) {
        let api = self.api(*team);
        persist("a deletion", async || {
            absent_is_fine(api.delete(name, &DeleteParams::default()).await.map(drop))
        })
        .await;
    }

    /// Deletes the only object.
    async fn end(&self, object: &(usize, String)) {
        self.delete(object).await;
        self.account.lock().ended.push(Instant::now());
    }

    async fn remove_finalizers(&self, (team, name): &(usize, String)) {
        let api = self.api(*team);
        let patch = json!({"metadata": {"finalizers": null}});
        persist("a forced deletion", async || {
            let patched = api
                .patch(name, &PatchParams::default(), &Patch::Merge(&patch))
                .await;
            absent_is_fine(patched.map(drop))
        })
        .await;
    }

    /// Whether an attempt for it is patched into the object.
    pub async fn is_attempted(&self) -> bool {
        let Some((team, name)) = self.object().await else {
            return false;
        };
        let api: Api<OrgInvite> = Api::namespaced(self.stage.client.clone(), team);
        let object = api.get_opt(&name).await.ok().flatten();
        object.is_some_and(|object| {
            object
                .annotations()
                .contains_key("iam.astronomer.io/attempt")
        })
    }

    /// Writes to the object again and again, until `until`: how often.
    pub async fn disturb(&self, until: Instant) -> u32 {
        let mut writes = 0;
        while Instant::now() < until {
            let Some((team, name)) = self.object().await else {
                break;
            };
            let api = Api::namespaced(self.stage.client.clone(), team);
            writes += u32::from(write(&api, &name, writes).await);
        }
        writes
    }

    /// What was done to the object may leave an invitation behind after all.
    pub fn excuse(&self) {
        self.account.lock().let_go.push(Instant::now());
    }

    /// The name of the object, while there is one that is not deleted.
    pub async fn object(&self) -> Option<(&'static str, String)> {
        let manifest = self.manifest.lock().await;
        let (team, name) = manifest.object.clone()?;
        Some((TEAMS[team], name))
    }
}

fn absent_is_fine(result: kube::Result<()>) -> kube::Result<()> {
    match result {
        Err(kube::Error::Api(status)) if status.code == 404 => Ok(()),
        other => other,
    }
}

/// Somebody who writes to every object, again and again, until `until`.
pub async fn rewrite(stage: &Stage, until: Instant) -> u32 {
    let all: Api<OrgInvite> = Api::all(stage.client.clone());
    let mut writes = 0;
    while Instant::now() < until {
        let Ok(objects) = all.list(&kube::api::ListParams::default()).await else {
            tokio::time::sleep(Duration::from_millis(200)).await;
            continue;
        };
        for object in objects {
            if Instant::now() >= until {
                break;
            }
            let api: Api<OrgInvite> =
                Api::namespaced(stage.client.clone(), &object.namespace().unwrap());
            writes += u32::from(write(&api, &object.name_any(), writes).await);
        }
    }
    writes
}

/// Writes a number to the object. Whether the API server took it: it may be gone.
async fn write(api: &Api<OrgInvite>, name: &str, number: u32) -> bool {
    let patch = Patch::Merge(json!({"metadata": {"labels": {"written": number.to_string()}}}));
    let written = api.patch(name, &PatchParams::default(), &patch).await;
    written.is_ok()
}
