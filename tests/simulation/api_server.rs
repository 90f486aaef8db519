//! The OrgInvites of an API server in memory: resource versions, generations, finalizers, deletion.

use std::collections::BTreeMap;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::ResourceExt;
use kube::runtime::reflector::ObjectRef;
use orginvite_operator::resources::org_invite::FINALIZER;
use orginvite_operator::resources::{Address, OrgInvite, OrgInviteSpec, OrgInviteStatus};
use serde_json::{Value, json};

/// Namespace and name.
pub type Key = (String, String);

/// A change as a watch tells it.
#[derive(Clone)]
pub enum Change {
    Applied(OrgInvite),
    Deleted(OrgInvite),
}

/// A write as a request carries it.
pub enum Write {
    /// A merge patch.
    Patch(Value),
    /// A PUT to the status.
    Status(Value),
}

/// An object before and after a write.
pub struct Written {
    pub before: OrgInvite,
    pub after: OrgInvite,
    /// Whether the object is gone with it.
    pub gone: bool,
}

/// Why a write or a read is refused: HTTP status, reason, message.
#[derive(Debug)]
pub struct Refusal(pub u16, pub &'static str, pub String);

/// The `OrgInvite`s, and every change so far.
#[derive(Default)]
pub struct ApiServer {
    /// Whether a webhook drops the operator's finalizer from whatever is written.
    pub drops_finalizer: bool,
    objects: BTreeMap<Key, OrgInvite>,
    changes: Vec<Change>,
    version: u64,
    uids: u64,
}

/// The key of an object.
pub fn key(object: &OrgInvite) -> Key {
    (object.namespace().unwrap_or_default(), object.name_any())
}

/// The key that a reference names.
pub fn key_of(object: &ObjectRef<OrgInvite>) -> Key {
    (
        object.namespace.clone().unwrap_or_default(),
        object.name.clone(),
    )
}

/// Whether the object is being deleted.
pub fn is_deleting(object: &OrgInvite) -> bool {
    object.metadata.deletion_timestamp.is_some()
}

impl ApiServer {
    /// All objects, by namespace and name.
    pub fn all(&self) -> impl Iterator<Item = &OrgInvite> {
        self.objects.values()
    }

    /// The objects for an address, in whatever spelling.
    pub fn for_address(&self, address: &str) -> impl Iterator<Item = &OrgInvite> {
        self.all().filter(move |object| {
            Address::parse(&object.spec.email).is_ok_and(|parsed| parsed.as_str() == address)
        })
    }

    pub fn get(&self, key: &Key) -> Option<&OrgInvite> {
        self.objects.get(key)
    }

    /// The changes from that place on.
    pub fn changes_from(&self, place: usize) -> &[Change] {
        &self.changes[place..]
    }

    /// How many changes there were.
    pub fn place(&self) -> usize {
        self.changes.len()
    }

    /// The newest resource version.
    pub fn version(&self) -> u64 {
        self.version
    }

    fn next_version(&mut self) -> Option<String> {
        self.version += 1;
        Some(self.version.to_string())
    }

    fn applied(&mut self, mut object: OrgInvite) -> OrgInvite {
        object.metadata.resource_version = self.next_version();
        self.objects.insert(key(&object), object.clone());
        self.changes.push(Change::Applied(object.clone()));
        object
    }

    fn removed(&mut self, mut object: OrgInvite) -> OrgInvite {
        object.metadata.resource_version = self.next_version();
        self.objects.remove(&key(&object));
        self.changes.push(Change::Deleted(object.clone()));
        object
    }

    /// A user creates an object; `None` when the name is taken.
    pub fn create(&mut self, key: &Key, spec: OrgInviteSpec, now: Timestamp) -> Option<OrgInvite> {
        if self.objects.contains_key(key) {
            return None;
        }
        self.uids += 1;
        let mut object = OrgInvite::new(&key.1, spec);
        object.metadata.namespace = Some(key.0.clone());
        object.metadata.uid = Some(format!("uid-{}", self.uids));
        object.metadata.generation = Some(1);
        object.metadata.creation_timestamp = Some(whole_seconds(now));
        object.status = Some(OrgInviteStatus {
            observed_generation: -1,
            ..OrgInviteStatus::default()
        });
        Some(self.applied(object))
    }

    /// A user edits an object.
    pub fn edit(&mut self, key: &Key, edit: impl FnOnce(&mut OrgInvite)) -> Option<Written> {
        let before = self.objects.get(key)?.clone();
        let mut after = before.clone();
        edit(&mut after);
        Some(self.store(before, after))
    }

    /// A user deletes an object.
    pub fn delete(&mut self, key: &Key, now: Timestamp) -> Option<Written> {
        let before = self.objects.get(key)?.clone();
        if before.finalizers().is_empty() {
            let after = self.removed(before.clone());
            return Some(Written {
                before,
                after,
                gone: true,
            });
        }
        let mut after = before.clone();
        if !is_deleting(&before) {
            after.metadata.deletion_timestamp = Some(whole_seconds(now));
            after.metadata.deletion_grace_period_seconds = Some(0);
            after.metadata.generation = after.metadata.generation.map(|number| number + 1);
        }
        Some(self.store(before, after))
    }

    /// The operator writes an object or its status.
    pub fn write(&mut self, key: &Key, status: bool, write: Write) -> Result<Written, Refusal> {
        let before = self
            .objects
            .get(key)
            .cloned()
            .ok_or_else(|| not_found(key))?;
        let mut value = json!(before);
        match write {
            Write::Patch(change) => json_patch::merge(&mut value, &change),
            Write::Status(mut object) => {
                value["metadata"]["resourceVersion"] = object["metadata"]["resourceVersion"].take();
                value["status"] = object["status"].take();
            }
        }
        let wanted: OrgInvite = serde_json::from_value(value)
            .map_err(|error| Refusal(422, "Invalid", error.to_string()))?;
        if wanted.metadata.resource_version != before.metadata.resource_version {
            return Err(Refusal(
                409,
                "Conflict",
                "the object has been modified".to_owned(),
            ));
        }
        let mut after = before.clone();
        if status {
            after.status = wanted.status;
        } else {
            after.spec = wanted.spec;
            after.metadata.annotations = wanted.metadata.annotations;
            after.metadata.finalizers = wanted.metadata.finalizers;
            let added = after
                .finalizers()
                .iter()
                .any(|finalizer| !before.finalizers().contains(finalizer));
            if added && is_deleting(&before) {
                let message = "no new finalizers can be added if the object is being deleted";
                return Err(Refusal(422, "Invalid", message.to_owned()));
            }
            if self.drops_finalizer {
                after.finalizers_mut().retain(|one| one != FINALIZER);
            }
        }
        Ok(self.store(before, after))
    }

    fn store(&mut self, before: OrgInvite, mut after: OrgInvite) -> Written {
        if after.spec != before.spec {
            after.metadata.generation = before.metadata.generation.map(|number| number + 1);
        }
        if is_deleting(&after) && after.finalizers().is_empty() {
            let after = self.removed(after);
            return Written {
                before,
                after,
                gone: true,
            };
        }
        let same = after.spec == before.spec
            && after.status == before.status
            && after.metadata == before.metadata;
        if !same {
            after = self.applied(after);
        }
        Written {
            before,
            after,
            gone: false,
        }
    }
}

/// The refusal for an object that does not exist.
pub fn not_found(key: &Key) -> Refusal {
    Refusal(404, "NotFound", format!("orginvites {:?} not found", key.1))
}

fn whole_seconds(time: Timestamp) -> Time {
    Time(Timestamp::from_second(time.as_second()).unwrap())
}
