//! Events: what a person would want to know of an object, once for each change of its state.
//!
//! They are written by a task of their own, so that an event never delays or fails a reconcile.

use k8s_openapi::api::core::v1::ObjectReference;
use kube::runtime::events::{Event, EventType, Recorder, Reporter};
use kube::{Client, Resource};
use tokio::sync::mpsc;

use crate::resources::conditions::Claim;
use crate::resources::{OrgInvite, OrgInviteStatus, Reason};

/// How many events may wait to be written; more are dropped, and said so in the log.
const WAITING: usize = 4096;

macro_rules! deeds {
    ($($(#[doc = $text:literal])+ $name:ident,)+) => {
        /// What was done, as an event's reason says it. Other events have the reason of the condition
        /// that they are about.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Deed {
            $($(#[doc = $text])+ $name,)+
        }

        impl Deed {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$name,)+];

            /// The reason as an event has it.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$name => stringify!($name),)+ }
            }

            /// What it means.
            #[must_use]
            pub const fn meaning(self) -> &'static str {
                match self { $(Self::$name => concat!($($text),+).trim_ascii(),)+ }
            }
        }
    };
}

deeds! {
    /// An invitation went out.
    Invited,
    /// Another invitation went out: the last one expired or is gone, or a person asked for one.
    Resent,
    /// The pending invitation was replaced by one with the role that the spec says now.
    Replaced,
    /// A pending invitation was found and is the object's own from now on; no e-mail went out.
    Adopted,
    /// The invitation, or the member, was taken over from an OrgInvite that is being deleted; no e-mail went out.
    TakenOver,
    /// The invitation was taken back.
    Revoked,
}

/// Takes events; cheap to clone.
#[derive(Clone)]
pub struct Events {
    queue: mpsc::Sender<(ObjectReference, Event)>,
}

impl Events {
    /// Events that a task of its own writes through `client`, until the last clone is dropped.
    #[must_use]
    pub fn new(client: Client) -> Self {
        let (queue, mut waiting) = mpsc::channel::<(ObjectReference, Event)>(WAITING);
        let reporter = Reporter::from("orginvite-operator");
        tokio::spawn(async move {
            while let Some((object, event)) = waiting.recv().await {
                // A recorder that lives longer keeps each event for minutes, goes through all of them for
                // the next one, and repeats the first note of a reason instead of a later one.
                let recorder = Recorder::new(client.clone(), reporter.clone());
                if let Err(error) = recorder.publish(&event, &object).await {
                    tracing::debug!(%error, reason = event.reason, "an event could not be written");
                }
            }
        });
        Self { queue }
    }

    /// Tells what was done.
    pub fn did<K: Resource<DynamicType = ()>>(&self, object: &K, deed: Deed, note: &str) {
        self.send(object, EventType::Normal, deed.as_str(), note);
    }

    /// Tells what a change of the status means, if it is news.
    pub fn changed(&self, object: &OrgInvite, status: &OrgInviteStatus) {
        let recorded = object.status.as_ref();
        let had = |kind: &str, reason: &str| {
            recorded.is_some_and(|status| {
                status
                    .conditions
                    .iter()
                    .any(|condition| condition.type_ == kind && condition.reason == reason)
            })
        };
        for condition in &status.conditions {
            let kind = match (condition.type_.as_str(), condition.status.as_str()) {
                ("Stalled", "True") => EventType::Warning,
                // Deeds tell of invitations; membership is somebody else's deed.
                ("Ready", "True") if status.user_id.is_some() => EventType::Normal,
                ("Reconciling", "True")
                    if [Reason::RevokeFailed, Reason::WriteRefused]
                        .iter()
                        .any(|reason| condition.reason == reason.as_str()) =>
                {
                    EventType::Warning
                }
                _ => continue,
            };
            if !had(&condition.type_, &condition.reason) {
                self.send(object, kind, &condition.reason, &condition.message);
            }
        }
    }

    /// Tells a condition of an Organization that was not so before.
    pub fn claimed<K: Resource<DynamicType = ()>>(&self, object: &K, claim: &Claim) {
        let kind = if claim.kind == "Ready" && claim.status == "True" {
            EventType::Normal
        } else {
            EventType::Warning
        };
        self.send(object, kind, claim.reason.as_str(), &claim.message);
    }

    fn send<K: Resource<DynamicType = ()>>(
        &self,
        object: &K,
        kind: EventType,
        reason: &str,
        note: &str,
    ) {
        let event = Event {
            type_: kind,
            reason: reason.to_owned(),
            note: Some(note.chars().take(1000).collect()),
            action: "Reconcile".to_owned(),
            secondary: None,
        };
        if self
            .queue
            .try_send((object.object_ref(&()), event))
            .is_err()
        {
            tracing::debug!(reason, "an event was dropped: too many wait");
        }
    }
}
