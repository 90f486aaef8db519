//! Failures on demand, gates that hold a call, and the limits on the rate of calls.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use anyhow::Context as _;
use serde::Deserialize;
use tokio::sync::oneshot;

use super::journal::{Call, Operation};

/// How long [`Gate::arrived`] waits before it gives up, so that a test fails instead of hanging.
const ARRIVAL_DEADLINE: Duration = Duration::from_mins(1);

/// Where in a call something happens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum HoldPoint {
    /// After the request was read and authenticated, before it changes anything.
    BeforeEffect,
    /// After it took effect, before it is answered.
    AfterEffect,
}

/// What a client gets in place of the right answer.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Answer {
    /// This status with the documented error body.
    Status(u16),
    /// This status with an HTML body, as a gateway would.
    Html(u16),
    /// This status with no body.
    Empty(u16),
    /// 200 with a body that is not JSON.
    Garbage,
    /// 429, with this `Retry-After` in seconds or with none.
    TooManyRequests(Option<u64>),
    /// The connection is closed and not a byte is sent.
    Cut,
}

/// Something that goes wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// The call waits at this point. Delays add up, and go together with an [`Answer`].
    Delay(HoldPoint, Duration),
    /// The call gets this answer; before the effect means that there is none.
    Answer(HoldPoint, Answer),
}

impl Fault {
    /// This answer, and nothing changes.
    #[must_use]
    pub fn before(answer: Answer) -> Self {
        Self::Answer(HoldPoint::BeforeEffect, answer)
    }

    /// The call takes effect, but gets this answer.
    #[must_use]
    pub fn after(answer: Answer) -> Self {
        Self::Answer(HoldPoint::AfterEffect, answer)
    }
}

/// How often a fault strikes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Times {
    /// The next so many calls of the operation.
    Next(u32),
    /// Until [`clear_faults`](super::Control::clear_faults).
    UntilCleared,
}

/// The operations that a fault is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Target {
    /// This one.
    Only(Operation),
    /// All of them.
    Every,
}

impl Target {
    pub(super) fn covers(self, operation: Operation) -> bool {
        match self {
            Self::Only(only) => only == operation,
            Self::Every => true,
        }
    }
}

impl From<Operation> for Target {
    fn from(operation: Operation) -> Self {
        Self::Only(operation)
    }
}

/// What strikes one call.
#[derive(Debug, Default)]
pub(super) struct Struck {
    pub delay_before: Duration,
    pub delay_after: Duration,
    pub answer: Option<(HoldPoint, Answer)>,
}

impl Struck {
    pub(super) fn answer_at(&self, point: HoldPoint) -> Option<&Answer> {
        self.answer
            .as_ref()
            .filter(|(at, _)| *at == point)
            .map(|(_, answer)| answer)
    }
}

/// The faults in force, oldest first.
#[derive(Debug, Default)]
pub(super) struct Faults {
    general: Vec<(Target, Fault, Times)>,
    /// Answers to the next calls that are about a canonical address, for each address.
    personal: HashMap<String, Vec<(Operation, HoldPoint, Answer)>>,
}

impl Faults {
    pub(super) fn add(&mut self, target: Target, fault: Fault, times: Times) {
        self.general.push((target, fault, times));
    }

    pub(super) fn add_for(
        &mut self,
        address: String,
        answers: impl IntoIterator<Item = (Operation, HoldPoint, Answer)>,
    ) {
        self.personal.entry(address).or_default().extend(answers);
    }

    pub(super) fn clear_for(&mut self, address: &str) {
        self.personal.remove(address);
    }

    pub(super) fn clear(&mut self) {
        self.general.clear();
    }

    /// Takes what strikes the next call of `operation`, which is about `address`: all its delays, and the oldest of
    /// its answers.
    pub(super) fn strike(&mut self, operation: Operation, address: Option<&str>) -> Struck {
        let mut struck = Struck::default();
        if let Some(theirs) = address.and_then(|address| self.personal.get_mut(address))
            && let Some(next) = theirs.iter().position(|(about, ..)| *about == operation)
        {
            let (_, point, answer) = theirs.remove(next);
            struck.answer = Some((point, answer));
        }
        for (target, fault, times) in &mut self.general {
            if !target.covers(operation) || *times == Times::Next(0) {
                continue;
            }
            match fault {
                Fault::Delay(HoldPoint::BeforeEffect, delay) => struck.delay_before += *delay,
                Fault::Delay(HoldPoint::AfterEffect, delay) => struck.delay_after += *delay,
                Fault::Answer(..) if struck.answer.is_some() => continue,
                Fault::Answer(point, answer) => struck.answer = Some((*point, answer.clone())),
            }
            if let Times::Next(left) = times {
                *left -= 1;
            }
        }
        self.general
            .retain(|(_, _, times)| *times != Times::Next(0));
        struck
    }
}

/// Holds one call until it is released or dropped.
#[derive(Debug)]
#[must_use = "a dropped gate holds nothing"]
pub struct Gate {
    arrived: oneshot::Receiver<Call>,
    release: oneshot::Sender<()>,
}

impl Gate {
    /// Waits until the call is at the gate, and tells which it is. To be asked once.
    ///
    /// Fails when no call comes within a minute, or the fake is gone.
    pub async fn arrived(&mut self) -> anyhow::Result<Call> {
        tokio::time::timeout(ARRIVAL_DEADLINE, &mut self.arrived)
            .await
            .context("no call came to the gate")?
            .context("the fake is gone, or the call was told of before")
    }

    /// Lets the call go on.
    pub fn release(self) {
        // The call may have ended already, when the fake was stopped: nothing is left to release then.
        let _ = self.release.send(());
    }
}

/// The fake's side of a [`Gate`].
#[derive(Debug)]
pub(super) struct Held {
    operation: Operation,
    point: HoldPoint,
    /// The canonical address that the call is about; any when absent.
    address: Option<String>,
    arrived: oneshot::Sender<Call>,
    release: oneshot::Receiver<()>,
}

impl Held {
    pub(super) fn new(
        operation: Operation,
        point: HoldPoint,
        address: Option<String>,
    ) -> (Self, Gate) {
        let (arrived, told) = oneshot::channel();
        let (let_go, release) = oneshot::channel();
        (
            Self {
                operation,
                point,
                address,
                arrived,
                release,
            },
            Gate {
                arrived: told,
                release: let_go,
            },
        )
    }

    pub(super) fn is_for(&self, call: &Call, point: HoldPoint) -> bool {
        self.operation == call.operation
            && self.point == point
            && (self.address.is_none() || self.address == call.email)
            && !self.arrived.is_closed()
    }

    pub(super) async fn wait(self, call: Call) {
        // Both fail when the gate was dropped, which releases the call as well.
        let _ = self.arrived.send(call);
        let _ = self.release.await;
    }
}

/// The calls a second that one token may make.
///
/// The published numbers are the default; how the service counts is not published. Here each verb has a bucket of one
/// second's calls that fills up evenly.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// POST.
    pub post: u32,
    /// DELETE.
    pub delete: u32,
    /// GET.
    pub get: u32,
    /// What `Retry-After` says, in seconds; none when absent.
    pub retry_after: Option<u64>,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            post: 10,
            delete: 5,
            get: 25,
            retry_after: Some(1),
        }
    }
}

/// The buckets, by token and method.
#[derive(Debug, Default)]
pub(super) struct Buckets(HashMap<(String, String), (f64, Instant)>);

impl Buckets {
    /// Takes one call from the bucket; false when it is empty.
    pub(super) fn take(&mut self, limits: Limits, token: &str, method: &str, now: Instant) -> bool {
        let rate = f64::from(match method {
            "POST" => limits.post,
            "DELETE" => limits.delete,
            _ => limits.get,
        });
        let (level, filled) = self
            .0
            .entry((token.to_owned(), method.to_owned()))
            .or_insert((rate, now));
        *level = rate.min(*level + rate * now.duration_since(*filled).as_secs_f64());
        *filled = now;
        let granted = *level >= 1.0;
        if granted {
            *level -= 1.0;
        }
        granted
    }
}
