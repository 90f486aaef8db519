//! What becomes of requests on their way: late, lost before or after their effect, in another order.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use rand::RngExt as _;
use tokio::sync::oneshot;
use tokio::time::Instant;

use crate::DEADLINE;
use crate::world::{State, World};

/// What a request asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Call {
    /// A patch that records an attempt.
    PatchAttempt,
    /// A patch that sets the finalizer.
    PatchHold,
    /// A patch that removes the finalizer.
    PatchRelease,
    /// A write of the status.
    WriteStatus,
    /// Reading one object, or anything else of the API server.
    Read,
    /// Taking or renewing the lease.
    Lease,
    /// Astro: an invitation.
    Post,
    /// Astro: taking one back.
    Delete,
    /// Astro: one invite.
    Get,
    /// Astro: one page of the users.
    List,
}

impl Call {
    /// Whether the request goes to Astro.
    fn is_astro(self) -> bool {
        matches!(self, Self::Post | Self::Delete | Self::Get | Self::List)
    }
}

/// What becomes of one request. Times are from its sending.
#[derive(Clone, Copy, Debug)]
pub struct Fate {
    /// When it takes effect, if ever.
    pub effect: Option<Duration>,
    /// What its sender hears.
    pub answer: Answer,
}

/// What a sender hears.
#[derive(Clone, Copy, Debug)]
pub enum Answer {
    /// The answer, that long after the effect.
    After(Duration),
    /// That the connection broke, at that time.
    Cut(Duration),
    /// The server's failure, or Astro's refusal, at that time.
    Status(u16, Duration),
}

/// Why a request has no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// None came, or the connection broke.
    Silence,
    /// The server answered with this status instead.
    Status(u16),
}

/// How rough it is.
#[derive(Clone, Copy, Debug)]
pub struct Weather {
    /// The longest time of an ordinary way there or back.
    pub latency: Duration,
    /// How likely it is that something becomes of a request that should not.
    pub trouble: f64,
    /// The longest time until a watch shows a change.
    pub watch_lag: Duration,
    /// The longest time until Astro's lists show a change: the one with invites, the one of everybody.
    pub listing_lag: [Duration; 2],
    /// Whether everything takes its longest time, and not some time up to it.
    pub exact: bool,
}

impl Weather {
    /// Everything takes the same short time.
    pub const CALM: Self = Self {
        latency: Duration::ZERO,
        trouble: 0.0,
        watch_lag: Duration::ZERO,
        listing_lag: [Duration::ZERO; 2],
        exact: true,
    };
}

/// The shortest way of a request, there or back.
const SHORTEST: Duration = Duration::from_millis(5);

/// The network between the operator and the rest.
pub struct Network {
    pub weather: Weather,
    scripted: BTreeMap<Call, VecDeque<Fate>>,
    sent: BTreeMap<Call, u32>,
}

impl Network {
    pub fn new(weather: Weather) -> Self {
        Self {
            weather,
            scripted: BTreeMap::new(),
            sent: BTreeMap::new(),
        }
    }

    /// Decides what becomes of the next request of that kind.
    pub fn next(&mut self, call: Call, fate: Fate) {
        self.scripted.entry(call).or_default().push_back(fate);
    }

    /// How many requests of that kind were sent.
    pub fn sent(&self, call: Call) -> u32 {
        self.sent.get(&call).copied().unwrap_or_default()
    }
}

impl State {
    /// A time up to `longest`.
    pub fn some(&mut self, longest: Duration) -> Duration {
        if self.network.weather.exact {
            return longest;
        }
        let most = u64::try_from(longest.as_millis()).unwrap();
        Duration::from_millis(self.dice.random_range(0..=most))
    }

    /// What becomes of a request that is sent now.
    pub fn fate(&mut self, call: Call) -> Fate {
        *self.network.sent.entry(call).or_default() += 1;
        self.happens();
        if let Some(fate) = self
            .network
            .scripted
            .get_mut(&call)
            .and_then(VecDeque::pop_front)
        {
            return fate;
        }
        let weather = self.network.weather;
        let way = |state: &mut Self| SHORTEST + state.some(weather.latency);
        // What is asked often has to come through now and then.
        let often = matches!(call, Call::List | Call::Get | Call::Lease);
        let trouble = weather.trouble * if often { 0.2 } else { 1.0 };
        if !self.dice.random_bool(trouble) {
            return Fate {
                effect: Some(way(self)),
                answer: Answer::After(way(self)),
            };
        }
        let failure = if call.is_astro() && self.dice.random_bool(0.5) {
            429
        } else {
            503
        };
        match self.dice.random_range(0..7) {
            0 => Fate {
                effect: None,
                answer: Answer::Cut(self.some(DEADLINE)),
            },
            1 => Fate {
                effect: Some(self.some(DEADLINE)),
                answer: Answer::Cut(self.some(DEADLINE)),
            },
            2 => Fate {
                effect: Some(way(self)),
                answer: Answer::Cut(way(self)),
            },
            3 => Fate {
                effect: Some(way(self)),
                answer: Answer::After(self.some(DEADLINE)),
            },
            4 => Fate {
                effect: Some(self.some(DEADLINE)),
                answer: Answer::After(way(self)),
            },
            5 => Fate {
                effect: Some(way(self)),
                answer: Answer::Status(503, way(self)),
            },
            _ => Fate {
                effect: None,
                answer: Answer::Status(failure, way(self)),
            },
        }
    }
}

/// Sends a request: from now on it goes its way, whatever becomes of its sender.
pub fn send<T: Send + 'static>(
    world: &Arc<World>,
    call: Call,
    effect: impl FnOnce(&mut State) -> T + Send + 'static,
) -> impl Future<Output = Result<T, Failure>> + Send + 'static {
    let sent = Instant::now();
    let fate = world.with(|state| state.fate(call));
    let (answer, heard) = oneshot::channel();
    let on_its_way = Arc::clone(world);
    tokio::spawn(async move {
        let lands = async |effect| {
            if let Some(at) = fate.effect {
                tokio::time::sleep_until(sent + at).await;
                Some(on_its_way.with(effect))
            } else {
                None
            }
        };
        let (at, failure) = match fate.answer {
            Answer::After(way) => {
                if let Some(outcome) = lands(effect).await {
                    tokio::time::sleep(way).await;
                    answer.send(Ok(outcome)).ok();
                }
                return;
            }
            Answer::Cut(at) => (at, Failure::Silence),
            Answer::Status(status, at) => (at, Failure::Status(status)),
        };
        let fails = async {
            tokio::time::sleep_until(sent + at).await;
            answer.send(Err(failure)).ok();
        };
        futures::future::join(lands(effect), fails).await;
    });
    // Only calls to Astro have a deadline.
    let patience = call.is_astro().then_some(DEADLINE);
    async move {
        let answer = match patience {
            Some(time) => tokio::time::timeout_at(sent + time, heard).await,
            None => Ok(heard.await),
        };
        match answer {
            Ok(Ok(answer)) => answer,
            Ok(Err(_)) | Err(_) => Err(Failure::Silence),
        }
    }
}
