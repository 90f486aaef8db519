//! What this term did on one address.

use std::time::Duration;

use jiff::Timestamp;
use kube::core::ObjectMeta;
use kube::{Resource, ResourceExt};
use tokio::time::Instant;

use super::context::Timing;
use crate::plan::{Lookup, Named, Saying};

/// What this term did on one address. Lost with the term: what must survive is in the object. In a
/// burst there are thousands; what is rare is boxed.
#[derive(Debug, Default)]
pub struct Memory {
    /// The end of our last call that could have changed the address in Astro.
    pub last_call: Option<Instant>,
    /// When the last e-mail to the address was sent, and when the next one may go out because of it, as is told.
    pub last_email: Option<(Instant, Timestamp)>,
    /// Resource versions of our own last writes, by the object's UID, and when they were done: rule 8.
    written: Vec<(String, u64, Instant)>,
    /// An attempt that is patched, and whose POST was not sent yet.
    pub underway: Option<Underway>,
    /// ID of the last attempt whose e-mail is counted.
    pub counted: Option<String>,
    /// The invite whose DELETE was answered with 404, or refused with 400: rule 10.
    pub revoked: Option<Revoked>,
    /// The invite of an object in deletion that was taken back, or may have been, or one that was deleted for
    /// another one in its place: its record is not handed over any more.
    pub taken_back: Option<String>,
    /// Why Astro refused the last POST.
    pub refused: Option<Box<Refused>>,
    /// get-invite answered that the recorded invite does not exist, first asked under the pass begun
    /// then.
    pub gone: Option<(String, Instant)>,
    /// What get-invite said of the recorded invite under the pass begun then, when it did not say that it is gone.
    pub looked: Option<(String, Instant, Lookup)>,
    /// The recorded invite, when a pass before its expiry did not show it though get-invite answered
    /// with it, and no pass did since.
    pub unlisted: Option<String>,
    /// The last word on an invite where nobody can look at the list, of get-invite or a DELETE: on which, and when.
    pub watched: Option<Box<(String, Instant, Lookup)>>,
    /// ID of the open attempt since which the annotation that names an invite was another one, or none.
    pub renamed: Option<String>,
    /// What get-invite said of the invite that a person named.
    pub named: Option<Box<(String, Named)>>,
    /// Failures of calls to Astro in a row, and when to try again.
    pub failures: u32,
    /// Not before this moment.
    pub retry_at: Option<Instant>,
}

/// An attempt that is patched, and whose POST was not sent yet.
#[derive(Clone, Debug)]
pub struct Underway {
    /// ID of the attempt.
    pub attempt: String,
    /// Whether the DELETE of what it replaces was answered, so that its POST waits for a look.
    pub deleted: bool,
}

/// An answer to the DELETE of a recorded invite that does not prove that it was revoked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Revoked {
    /// The invite.
    pub invite: String,
    /// 404: not there any more. Else a 400, which a look has to explain.
    pub absent: bool,
    /// When it was answered so first.
    pub since: Instant,
    /// Whether that counts where nobody can look: it was answered so again after a pass that Astro itself refused.
    pub agreed: bool,
    /// Whether a list showed the invitation since: the answer was not about it.
    pub disproved: bool,
}

/// A refusal of a POST: it is not tried again for the same occasion.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    /// What it was for.
    pub occasion: Occasion,
    /// What is told of it.
    pub saying: Saying,
    /// When it is tried again all the same: the token's role may be another one by then.
    pub until: Option<Instant>,
}

/// What a refusal was for: it stands until one of these changes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Occasion {
    /// UID of the object.
    pub uid: String,
    /// Generation of its spec.
    pub generation: i64,
    /// Which connection, so which token.
    pub connection: u64,
    /// Generation of the Organization's spec.
    pub policy: i64,
    /// The request for one more e-mail.
    pub request: Option<String>,
}

impl Memory {
    /// What a DELETE of that invite was answered with, unless a list has disproved it.
    #[must_use]
    pub fn answered(&self, invite: &str) -> Option<&Revoked> {
        self.revoked
            .as_ref()
            .filter(|revoked| revoked.invite == invite && !revoked.disproved)
    }

    /// Remembers our own write of an object.
    pub fn wrote<K: Resource>(&mut self, object: &K) {
        if let (Some(uid), Some(version)) = (object.uid(), version(object.meta())) {
            self.written.retain(|(known, ..)| *known != uid);
            self.written.push((uid, version, Instant::now()));
        }
    }

    /// Whether a cache that shows `objects` for the address has caught up with our own last writes.
    /// An object that is not there any more has.
    pub fn caught_up<K: Resource>(&mut self, objects: &[&K]) -> bool {
        self.written.retain(|(uid, written, _)| {
            objects
                .iter()
                .find(|object| object.meta().uid.as_ref() == Some(uid))
                .is_some_and(|object| {
                    version(object.meta()).is_some_and(|version| version < *written)
                })
        });
        self.written.shrink_to_fit();
        self.written.is_empty()
    }

    /// Whether it could as well be forgotten, while there are objects for the address.
    #[must_use]
    pub fn is_idle(&self, timing: Timing, looked: Option<Instant>) -> bool {
        self.is_over(timing, looked)
            && self.written.is_empty()
            && self.underway.is_none()
            && self.revoked.is_none()
            && self.taken_back.is_none()
            && self.refused.is_none()
            && self.gone.is_none()
            && self.watched.is_none()
            && self.unlisted.is_none()
            && self.named.is_none()
            && self.renamed.is_none()
            && self.retry_at.is_none()
    }

    /// Whether nothing of it matters to an object that comes later. `looked` is when the pass began that the
    /// address is planned from: one from before the last call must not decide (rule 5), and without the
    /// memory it would.
    #[must_use]
    pub fn is_over(&self, timing: Timing, looked: Option<Instant>) -> bool {
        let over = |at: Option<Instant>, wait: Duration| at.is_none_or(|at| at.elapsed() > wait);
        let seen = match (self.last_call, looked) {
            (Some(call), Some(looked)) => looked >= call + timing.listing_delay,
            _ => true,
        };
        let written = self.written.iter().map(|(.., at)| *at).max();
        seen && over(self.last_call, timing.settle)
            && over(self.last_email.map(|(at, _)| at), timing.spacing)
            && over(written, timing.settle)
    }

    /// A call that could change the address ended now.
    pub fn called(&mut self) {
        self.last_call = Some(Instant::now());
    }

    /// A call failed: when to try again.
    pub fn failed(&mut self) {
        self.failures += 1;
        self.retry_at = Some(Instant::now() + crate::astro::directory::backoff(self.failures));
    }

    /// A call worked.
    pub fn worked(&mut self) {
        self.failures = 0;
        self.retry_at = None;
    }
}

/// Resource versions of one resource are ordered numbers (Kubernetes API conventions since 1.35).
pub(crate) fn version(metadata: &ObjectMeta) -> Option<u64> {
    metadata.resource_version.as_ref()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resources::{OrgInvite, Reason};

    const TIMING: Timing = Timing {
        listing_delay: Duration::from_secs(10),
        settle: Duration::from_secs(90),
        spacing: Duration::from_mins(10),
    };

    fn object(uid: &str, version: u64) -> OrgInvite {
        let mut object: OrgInvite = serde_json::from_value(serde_json::json!({
            "metadata": {"uid": uid},
            "spec": {"email": "jane@example.com", "role": "ORGANIZATION_MEMBER"},
        }))
        .unwrap();
        object.metadata.resource_version = Some(version.to_string());
        object
    }

    #[tokio::test(start_paused = true)]
    async fn it_matters_until_a_pass_shows_what_was_done_and_it_has_settled() {
        let began = Instant::now();
        let mut memory = Memory::default();
        assert!(memory.is_over(TIMING, Some(began)));
        memory.called();
        memory.wrote(&object("u", 7));
        let looked = began + TIMING.listing_delay;
        assert!(!memory.is_over(TIMING, Some(looked)), "it has not settled");
        tokio::time::advance(TIMING.settle + Duration::from_secs(1)).await;
        assert!(!memory.is_over(TIMING, Some(began)), "no pass since");
        assert!(memory.is_over(TIMING, Some(looked)));
        assert!(!memory.is_idle(TIMING, Some(looked)), "the cache may lag");
    }

    #[test]
    fn a_cache_lags_until_it_shows_each_last_write() {
        let mut memory = Memory::default();
        assert!(memory.caught_up::<OrgInvite>(&[]));
        for (uid, version) in [("u", 7), ("v", 8), ("v", 9), ("gone", 10)] {
            memory.wrote(&object(uid, version));
        }
        let shown = |memory: &mut Memory, u, v| {
            memory.caught_up(&[&object("u", u), &object("v", v), &object("other", 1)])
        };
        assert!(!shown(&mut memory, 6, 8));
        assert!(!shown(&mut memory, 6, 9));
        assert!(!shown(&mut memory, 6, 9));
        assert!(shown(&mut memory, 7, 9));
        assert!(
            shown(&mut memory, 6, 8),
            "what it has shown is not asked for again"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn it_matters_until_the_next_e_mail_may_go_out() {
        let memory = Memory {
            last_email: Some((Instant::now(), Timestamp::MIN)),
            ..Memory::default()
        };
        tokio::time::advance(TIMING.spacing).await;
        assert!(!memory.is_over(TIMING, None));
        tokio::time::advance(Duration::from_millis(1)).await;
        assert!(memory.is_over(TIMING, None));
    }

    #[tokio::test(start_paused = true)]
    async fn it_matters_until_its_last_write_has_settled() {
        let mut memory = Memory::default();
        memory.wrote(&object("u", 7));
        tokio::time::advance(Duration::from_secs(1)).await;
        memory.wrote(&object("v", 8));
        tokio::time::advance(TIMING.settle).await;
        assert!(!memory.is_over(TIMING, None));
        tokio::time::advance(Duration::from_millis(1)).await;
        assert!(memory.is_over(TIMING, None));
    }

    #[tokio::test(start_paused = true)]
    async fn whatever_it_knows_keeps_it() {
        let named = || Some("x1".to_owned());
        let since = Instant::now();
        assert!(Memory::default().is_idle(TIMING, None));
        for memory in [
            Memory {
                underway: Some(Underway {
                    attempt: "a1".to_owned(),
                    deleted: false,
                }),
                ..Memory::default()
            },
            Memory {
                revoked: Some(Revoked {
                    invite: "x1".to_owned(),
                    absent: true,
                    since,
                    agreed: true,
                    disproved: false,
                }),
                ..Memory::default()
            },
            Memory {
                taken_back: named(),
                ..Memory::default()
            },
            Memory {
                refused: Some(Box::new(Refused {
                    occasion: Occasion {
                        uid: "u".to_owned(),
                        generation: 1,
                        connection: 1,
                        policy: 1,
                        request: None,
                    },
                    saying: Saying {
                        reason: Reason::Refused,
                        message: String::new(),
                    },
                    until: None,
                })),
                ..Memory::default()
            },
            Memory {
                gone: Some(("x1".to_owned(), since)),
                ..Memory::default()
            },
            Memory {
                watched: Some(Box::new(("x1".to_owned(), since, Lookup::Exists))),
                ..Memory::default()
            },
            Memory {
                unlisted: named(),
                ..Memory::default()
            },
            Memory {
                named: Some(Box::new((
                    "x1".to_owned(),
                    Named::Refused("404".to_owned()),
                ))),
                ..Memory::default()
            },
            Memory {
                retry_at: Some(since),
                ..Memory::default()
            },
            Memory {
                last_call: Some(since),
                ..Memory::default()
            },
        ] {
            assert!(!memory.is_idle(TIMING, None), "{memory:?}");
        }
    }

    #[test]
    fn a_cache_has_caught_up_when_it_shows_every_write() {
        let mut memory = Memory::default();
        assert!(memory.caught_up::<OrgInvite>(&[]));
        memory.wrote(&object("u", 7));
        memory.wrote(&object("v", 9));
        assert!(!memory.caught_up(&[&object("u", 6), &object("v", 8)]));
        assert!(!memory.caught_up(&[&object("u", 7), &object("v", 8)]));
        assert!(memory.caught_up(&[&object("u", 7), &object("v", 10)]));
        memory.wrote(&object("u", 11));
        memory.wrote(&object("u", 12));
        assert!(!memory.caught_up(&[&object("u", 11)]));
        assert!(memory.caught_up(&[&object("another", 1)]), "it is gone");
    }

    #[tokio::test(start_paused = true)]
    async fn failures_in_a_row_are_counted_until_a_call_works() {
        let mut memory = Memory::default();
        memory.failed();
        memory.failed();
        assert_eq!(memory.failures, 2);
        assert!(memory.retry_at.is_some_and(|at| at > Instant::now()));
        memory.worked();
        assert_eq!((memory.failures, memory.retry_at), (0, None));
    }
}
