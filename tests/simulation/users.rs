//! What people do: whoever writes manifests, whoever is invited, whoever works on Astro's web page.

use jiff::SignedDuration;
use kube::ResourceExt;
use orginvite_operator::astro::Role;
use orginvite_operator::plan::name;
use orginvite_operator::resources::org_invite::{
    ATTEMPT_ANNOTATION, DeletionPolicy, OrganizationRef, RESEND_ANNOTATION, ResendWhen,
};
use orginvite_operator::resources::{OrgInvite, OrgInviteSpec};

use crate::api_server::{Key, is_deleting};
use crate::ledger::{address_of, open};
use crate::organization::Standing;
use crate::world::State;

/// The spec of an object for `email` with every default.
pub fn spec(email: &str, role: Role) -> OrgInviteSpec {
    OrgInviteSpec {
        email: email.to_owned(),
        role,
        organization_ref: OrganizationRef::default(),
        deletion_policy: DeletionPolicy::Delete,
        resend_when: ResendWhen::Expired,
        max_resends: 3,
    }
}

/// The key of an object: in the namespace that everybody uses, unless the name begins with another one.
pub fn named(name: &str) -> Key {
    let (namespace, name) = name.split_once('/').unwrap_or(("team", name));
    (namespace.to_owned(), name.to_owned())
}

/// The request for one more e-mail that was not seen to yet.
pub fn request(object: &OrgInvite) -> Option<&String> {
    let asked = object.annotations().get(RESEND_ANNOTATION)?;
    let seen = object.status.as_ref()?.last_resend_request.as_ref();
    (seen != Some(asked)).then_some(asked)
}

impl State {
    /// Other live objects for the address of `object`.
    fn rivals(&self, object: &OrgInvite) -> Vec<Role> {
        self.api
            .for_address(&address_of(object))
            .filter(|other| other.uid() != object.uid() && !is_deleting(other))
            .map(|other| other.spec.role)
            .collect()
    }

    /// A user creates an object.
    pub fn create(&mut self, key: &Key, spec: OrgInviteSpec) {
        let now = self.now();
        let Some(object) = self.api.create(key, spec, now) else {
            return;
        };
        self.log(format!(
            "user creates {} for {} as {}",
            key.1,
            object.spec.email,
            name(object.spec.role)
        ));
        self.count("creations");
        // A second object for the address gives no e-mail, unless it will ask for another role.
        let rivals = self.rivals(&object);
        let given =
            u32::from(rivals.is_empty() || rivals.iter().any(|role| *role != object.spec.role));
        let account = self.ledger.account(&address_of(&object));
        account.given += given;
        account.limit += object.spec.max_resends;
    }

    /// A user edits an object.
    pub fn edit(&mut self, key: &Key, edit: impl FnOnce(&mut OrgInviteSpec)) {
        let Some(written) = self.api.edit(key, |object| edit(&mut object.spec)) else {
            return;
        };
        let (before, after) = (&written.before.spec, &written.after.spec);
        if before == after {
            return;
        }
        let text = format!(
            "user edits {}: {}, {:?}, {:?}",
            key.1,
            name(after.role),
            after.resend_when,
            after.deletion_policy
        );
        let rivals = u32::from(!self.rivals(&written.after).is_empty());
        let account = self.ledger.account(&address_of(&written.after));
        if before.role != after.role {
            account.given += 1 + rivals;
        }
        if before.resend_when != after.resend_when {
            account.given += 1;
        }
        if before.deletion_policy != after.deletion_policy {
            self.ledger.retains(&written.after);
        }
        self.log(text);
        self.count("edits");
    }

    /// A user asks for one more e-mail.
    pub fn ask(&mut self, key: &Key, value: &str) {
        let Some(written) = self.api.edit(key, |object| {
            let annotations = object.metadata.annotations.get_or_insert_default();
            annotations.insert(RESEND_ANNOTATION.to_owned(), value.to_owned());
        }) else {
            return;
        };
        self.log(format!(
            "user asks for one more e-mail of {}: {value}",
            key.1
        ));
        self.count("requests");
        let account = self.ledger.account(&address_of(&written.after));
        account.given += 1;
        account.limit += written.after.spec.max_resends;
    }

    /// A user deletes an object.
    pub fn delete(&mut self, key: &Key) {
        let now = self.now();
        let Some(written) = self.api.delete(key, now) else {
            return;
        };
        self.log(format!(
            "user deletes {}{}",
            key.1,
            if written.gone {
                ", which is gone at once"
            } else {
                ""
            }
        ));
        self.count("deletions");
        if written.gone {
            self.object_is_gone(&written.before);
        }
    }

    /// Somebody sets a finalizer.
    pub fn add_finalizer(&mut self, key: &Key, finalizer: &str) {
        self.log(format!("user sets the finalizer {finalizer} of {}", key.1));
        self.api.edit(key, |object| {
            object.finalizers_mut().push(finalizer.to_owned());
        });
    }

    /// A user replaces an object by its manifest, as `kubectl replace` does: what others wrote beside spec and status
    /// goes.
    pub fn replace(&mut self, key: &Key) {
        self.log(format!("user replaces {}", key.1));
        let written = self.api.edit(key, |object| {
            object.finalizers_mut().clear();
            object.annotations_mut().clear();
        });
        if let Some(attempt) = written.and_then(|written| open(&written.before)) {
            self.ledger.loses(attempt.id);
        }
    }

    /// A user writes back what the annotation of the last attempt was once.
    pub fn write_back(&mut self, key: &Key, attempt: &str) {
        self.log(format!("user writes an old attempt of {} back", key.1));
        self.api.edit(key, |object| {
            let annotations = object.annotations_mut();
            annotations.insert(ATTEMPT_ANNOTATION.to_owned(), attempt.to_owned());
        });
    }

    /// Somebody removes an object without its finalizers' leave: a POST on its way has lost its attempt.
    pub fn remove_by_force(&mut self, key: &Key) {
        let Some(written) = self.api.edit(key, |object| object.finalizers_mut().clear()) else {
            return;
        };
        if let Some(attempt) = open(&written.before) {
            self.ledger.loses(attempt.id);
        }
        self.delete(key);
    }

    /// An invitation that can still be accepted ends by what a person does. Whether there was one.
    pub fn end(&mut self, id: &str, standing: Standing) -> bool {
        self.expire();
        let Some(invitation) = self.astro.invitation(id).cloned() else {
            return false;
        };
        if invitation.standing != Standing::Live {
            return false;
        }
        self.log(format!("{id} is {standing:?}"));
        self.invitation_ends(id, standing);
        self.astro.end(id, standing);
        self.people_changed(&invitation.address);
        true
    }

    /// Somebody changes a membership on the web page.
    pub fn set_member(&mut self, address: &str, role: Option<Role>) {
        if self.astro.member(address).is_none() {
            return;
        }
        self.log(format!("{address} is now {role:?} in Astro"));
        self.count("members changed");
        self.astro.set_member(address, role);
        self.people_changed(address);
    }

    /// Somebody else invites a person.
    pub fn invite_from_outside(&mut self, email: &str, role: Role) {
        let now = self.astro_now();
        let id = self.astro.invite(email, role, false, now).id.clone();
        self.log(format!(
            "somebody else invites {email} as {}: {id}",
            name(role)
        ));
        self.people_changed(&email.to_lowercase());
    }

    /// The operator's token gets the right to list users, or loses it.
    pub fn let_list(&mut self, may_list: bool) {
        self.astro.may_list = may_list;
        self.log(if may_list {
            "the token may list users"
        } else {
            "the token may not list users"
        });
        self.count("rights changed");
    }

    /// Astro's clock jumps.
    pub fn jump(&mut self, by: SignedDuration) {
        self.astro.clock_offset += by;
        let now = self.astro_now();
        for invitation in &mut self.astro.invitations {
            invitation.expired_early |=
                invitation.standing == Standing::Expired && now < invitation.expires_at;
        }
        self.log(format!("Astro's clock jumps by {} s", by.as_secs()));
        self.count("clock jumps");
    }
}
