//! How each fault is done.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use serde_json::json;
use support::fake_astro::{
    Answer, Api, Call, Fault as AstroFault, Gate, HoldPoint, Limits, ListUsers, Mark, Operation,
    Outcome as Answered, Target, Times,
};
use support::operator::Operator;
use tokio::time::{sleep, timeout};

use crate::cable::Cable;
use crate::people::{Person, rewrite};
use crate::schedule::{Act, Fault, Strike};
use crate::stage::{
    Forbidden, LEASE, LISTING_DELAY, REQUEST_DEADLINE, ROLES, SETTLE, Stage, TEAMS,
};

/// The faults' own people: they are invited when a fault needs it.
pub struct Cast {
    stage: Arc<Stage>,
    people: Mutex<Vec<Arc<Person>>>,
    next: AtomicUsize,
    /// Whether the number of people stays what it is.
    soak: bool,
}

/// What a fault came to, for who reads along.
pub type Outcome = Result<String, String>;

/// How long after the lease has expired a request may still take effect. Together with the time for which its sender
/// waited for an answer, that is less than the settle time.
const LATE: Duration = Duration::from_millis(1200);

/// How long a turn may go on by what it knew at its beginning.
pub const TURN: Duration = Duration::from_secs(1);

/// Lists lag by this much when they lag too much.
pub const TOO_LONG: Duration = SETTLE.saturating_add(Duration::from_secs(1));

impl Cast {
    pub fn new(stage: &Arc<Stage>, soak: bool) -> Self {
        Self {
            stage: stage.clone(),
            people: Mutex::default(),
            next: AtomicUsize::new(0),
            soak,
        }
    }

    pub fn people(&self) -> Vec<Arc<Person>> {
        self.people.lock().clone()
    }

    fn somebody(&self) -> Arc<Person> {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let person = Person::new(&self.stage, number, "extra");
        self.people.lock().push(person.clone());
        person
    }

    /// Somebody whose invitation is out and recorded.
    async fn invited(&self) -> Result<Arc<Person>, String> {
        let person = self.somebody();
        person.act(&Act::Create).await;
        let recorded = || {
            let invite = self.stage.astro.live_invites(&person.email).pop();
            invite.is_some_and(|invite| self.stage.witness.first_owner(&invite.id).is_some())
        };
        within(
            "an invitation is recorded",
            Duration::from_secs(20),
            recorded,
        )
        .await?;
        Ok(person)
    }

    /// Does it. An error tells why the moment did not come.
    #[allow(clippy::too_many_lines, reason = "an arm for each fault")]
    pub async fn strike(&self, strike: &Strike) -> Outcome {
        let Strike { lasts, fault, .. } = strike;
        let (stage, astro, lasts) = (&self.stage, &self.stage.astro, *lasts);
        match fault {
            Fault::Kill { leader } => {
                let leading = stage.leader().await;
                let replica = match leading {
                    Some(replica) if *leader => replica,
                    other => (other.unwrap_or_default() + 1) % stage.replicas(),
                };
                stage.kill(replica, lasts)?;
                Ok(format!("pod-{replica}"))
            }
            Fault::Terminate => {
                let leader = stage.some_leader().await.ok_or("nobody leads")?;
                stage.terminate(leader);
                let ended = || !stage.with(leader, Operator::is_running).unwrap_or_default();
                within(
                    "it ends",
                    3 * REQUEST_DEADLINE + Duration::from_secs(20),
                    ended,
                )
                .await?;
                Ok(format!("pod-{leader}"))
            }
            Fault::Stop { long } => self.stop(*long).await,
            Fault::StopBeforePost => self.before_post(None).await,
            Fault::KillBeforePost => self.before_post(Some(lasts)).await,
            Fault::ChangeUnderWay => self.change_under_way().await,
            Fault::RemoveUnderWay => {
                let points = [HoldPoint::BeforeEffect, HoldPoint::AfterEffect];
                let removals = points.map(|point| self.under_way(point, Act::RemoveUnderWay));
                all(removals).await
            }
            Fault::Suspend => {
                let generation = stage.edit_organization(&json!({"suspend": true})).await;
                let is_observed = stage.is_observed(generation).await;
                let begun = Instant::now() + TURN;
                sleep(lasts).await;
                let over = Instant::now();
                stage.edit_organization(&json!({"suspend": false})).await;
                if !is_observed {
                    return Err("nobody noticed".to_owned());
                }
                stage.suspensions.lock().push((begun, over));
                Ok(String::new())
            }
            Fault::Forbid { team, role } => {
                let others = TEAMS.iter().filter(|other| **other != TEAMS[*team]);
                let kept = ROLES.iter().filter(|other| **other != ROLES[*role]);
                let allow = json!([
                    {"namespaces": others.collect::<Vec<_>>(), "roles": ROLES},
                    {"namespaces": [TEAMS[*team]], "roles": kept.collect::<Vec<_>>()},
                ]);
                let edited = Instant::now();
                let generation = stage.edit_organization(&json!({"allow": allow})).await;
                let is_observed = stage.is_observed(generation).await;
                let begun = Instant::now() + TURN;
                sleep(TURN).await;
                let crowd = self.some_of_each_team(*role).await;
                let written = || {
                    let mut allowed = crowd.iter().filter(|person| person.team() != *team);
                    crowd.is_empty()
                        || allowed.any(|person| stage.astro.emails_to(&person.email) > 0)
                };
                let is_felt = within("who is allowed is written to", SETTLE * 3, written).await;
                sleep(lasts).await;
                let over = Instant::now();
                let everything = json!([{"namespaceSelector": {}, "roles": ROLES}]);
                stage.edit_organization(&json!({"allow": everything})).await;
                stage.forbidden.lock().push(Forbidden {
                    team: *team,
                    role: *role,
                    known: is_observed.then_some((begun, over)),
                    at_all: (edited, Instant::now() + SETTLE),
                });
                if !is_observed {
                    return Err("nobody noticed".to_owned());
                }
                is_felt.map(|()| String::new())
            }
            Fault::KillInFlight => self.kill_in_flight(lasts).await,
            Fault::KillBeforeStatusWrite => self.kill_at_status_write(lasts, false).await,
            Fault::KillWhileStatusIsWritten => self.kill_at_status_write(lasts, true).await,
            Fault::KillAfterStatusWrite => {
                let person = self.invited().await?;
                let leader = stage.leader().await.ok_or("nobody leads")?;
                stage.kill(leader, lasts)?;
                Ok(format!("pod-{leader}, {}", person.email))
            }
            Fault::CutConnections => {
                for replica in 0..stage.replicas() {
                    stage.to_cluster(replica, Cable::sever);
                }
                Ok(String::new())
            }
            Fault::CutOffLeader => {
                let leader = stage.some_leader().await.ok_or("nobody leads")?;
                stage.to_cluster(leader, Cable::cut);
                sleep(lasts).await;
                stage.to_cluster(leader, Cable::mend);
                Ok(format!("pod-{leader}"))
            }
            Fault::RestartApiServer | Fault::StopApiServer => {
                stage.plane.stop_api_server().await.unwrap();
                sleep(lasts).await;
                stage.plane.start_api_server().await.unwrap();
                Ok(String::new())
            }
            Fault::Compact => {
                let replica = (stage.leader().await.unwrap_or_default() + 1) % stage.replicas();
                let before = stage.expired_watches();
                stage.to_cluster(replica, |cable| {
                    cable.cut();
                    cable.sever();
                });
                let writes = rewrite(stage, Instant::now() + lasts).await;
                stage.plane.compact().await.unwrap();
                stage.plane.stop_api_server().await.unwrap();
                stage.plane.start_api_server().await.unwrap();
                stage.to_cluster(replica, Cable::mend);
                for _ in 0..20 {
                    sleep(Duration::from_secs(1)).await;
                    if stage.expired_watches() > before {
                        return Ok(format!("pod-{replica} missed {writes} writes"));
                    }
                }
                Err("no watch was told that its version is gone".to_owned())
            }
            Fault::SecondWriter => self.second_writer(lasts).await,
            Fault::Answers(answers) => {
                let mark = astro.mark();
                for (operation, point, answer) in answers {
                    let fault = AstroFault::Answer(*point, answer.clone());
                    astro.fault(*operation, fault, Times::Next(2));
                }
                sleep(lasts).await;
                astro.clear_faults();
                self.met(mark, |call| {
                    answers.iter().any(|(operation, _, answer)| {
                        call.operation == *operation && call.outcome == answered(answer)
                    })
                })
            }
            Fault::Outage(answer) => {
                let mark = astro.mark();
                let fault = AstroFault::before(answer.clone());
                astro.fault(Target::Every, fault, Times::UntilCleared);
                sleep(lasts).await;
                let met = self.met(mark, |call| call.outcome == answered(answer));
                astro.clear_faults();
                met
            }
            Fault::Slow(point) => {
                let mark = astro.mark();
                let slowly = AstroFault::Delay(*point, REQUEST_DEADLINE / 3);
                astro.fault(Target::Every, slowly, Times::UntilCleared);
                // Longer than the operator waits, and not so long that the settle time would not do.
                let too_slowly = AstroFault::Delay(*point, REQUEST_DEADLINE * 2);
                astro.fault(Operation::CreateInvite, too_slowly, Times::Next(4));
                sleep(lasts).await;
                let slow = self.met(mark, is_well);
                let too_slow = self.met(mark, |call| call.operation == Operation::CreateInvite);
                astro.clear_faults();
                Ok(format!("{}, {} of a POST", slow?, too_slow?))
            }
            Fault::RateLimit => {
                let mark = astro.mark();
                // So few that a pass of several pages meets them, when nobody is written to.
                astro.set_limits(Some(Limits {
                    post: 2,
                    delete: 1,
                    get: 3,
                    retry_after: Some(1),
                }));
                sleep(lasts).await;
                astro.set_limits(None);
                self.met(mark, |call| call.outcome == Answered::Status(429))
            }
            Fault::TokenExpires => {
                let mark = astro.mark();
                astro.revoke_token();
                sleep(lasts).await;
                let met = self.met(mark, |call| call.outcome == Answered::Status(401));
                astro.replace_token(&format!(
                    "{}another-token-{}",
                    support::fake_astro::SECRET_PREFIX,
                    stage.starts()
                ));
                stage.put_token().await;
                met
            }
            Fault::MayNotList => {
                let begun = Instant::now();
                astro.change_behaviour(|behaviour| behaviour.list_users = ListUsers::Forbidden);
                let is_noticed = stage.says_that_it_lists(false).await;
                sleep(lasts).await;
                astro.change_behaviour(|behaviour| behaviour.list_users = ListUsers::Allowed);
                let is_over = stage.says_that_it_lists(true).await;
                stage.blindness.lock().push((begun, Instant::now()));
                match (is_noticed, is_over) {
                    (true, true) => Ok(String::new()),
                    (false, _) => Err("nobody noticed".to_owned()),
                    (_, false) => Err("nobody lists again".to_owned()),
                }
            }
            Fault::ListsLag => {
                let mark = astro.mark();
                astro.change_behaviour(|behaviour| behaviour.list_delay = LISTING_DELAY * 4 / 5);
                sleep(lasts).await;
                let met = self.met(mark, is_listed);
                astro.change_behaviour(|behaviour| behaviour.list_delay = Duration::ZERO);
                met
            }
            Fault::ListsLagTooLong { by } => {
                let people: Vec<_> = (0..8).map(|_| self.somebody()).collect();
                let act = async |people: &[Arc<Person>], act: Act| {
                    futures::future::join_all(people.iter().map(|person| person.act(&act))).await
                };
                act(&people[..6], Act::Create).await;
                let (begun, mark) = (Instant::now(), astro.mark());
                astro.change_behaviour(|behaviour| behaviour.list_delay = *by);
                sleep(lasts / 4).await;
                act(&people[6..], Act::Create).await;
                act(&people[..2], Act::EditRole).await;
                act(&people[2..4], Act::Delete).await;
                act(&people[4..5], Act::Accept).await;
                sleep(lasts / 4).await;
                act(&people[2..3], Act::Create).await;
                sleep(lasts / 2).await;
                astro.change_behaviour(|behaviour| behaviour.list_delay = Duration::ZERO);
                stage.lags.lock().push((begun, Instant::now()));
                self.met(mark, is_listed)
            }
            Fault::ApiIsGone(api) => {
                let mark = astro.mark();
                let status = if *api == Api::Gone { 410 } else { 404 };
                astro.change_behaviour(|behaviour| behaviour.api = *api);
                sleep(lasts).await;
                let met = self.met(mark, |call| call.outcome == Answered::Status(status));
                astro.change_behaviour(|behaviour| behaviour.api = Api::Served);
                met
            }
            Fault::CutAstro => {
                astro.cut_connections();
                Ok(String::new())
            }
        }
    }

    /// How many calls since then met the fault: one that none meets did not come about.
    fn met(&self, since: Mark, is_met: impl Fn(&Call) -> bool) -> Outcome {
        let calls = self.stage.astro.calls_since(since);
        match calls.iter().filter(|call| is_met(call)).count() {
            0 => Err("no call met it".to_owned()),
            count => Ok(format!("{count} calls")),
        }
    }

    async fn stop(&self, long: bool) -> Outcome {
        let stage = &self.stage;
        let leader = stage.some_leader().await.ok_or("nobody leads")?;
        // So that it has something under way.
        let crowd = if self.soak { 0 } else { 12 };
        let people: Vec<_> = (0..crowd).map(|_| self.somebody()).collect();
        let act = async |person: Arc<Person>| person.act(&Act::Create).await;
        let creations = futures::future::join_all(people.into_iter().map(act));
        let pause = async {
            sleep(Duration::from_millis(50)).await;
            stage.with(leader, |operator| operator.pause());
        };
        tokio::join!(creations, pause);
        let begun = Instant::now();
        let mut took_over = None;
        while begun.elapsed() < 4 * LEASE && took_over.is_none() {
            sleep(Duration::from_millis(100)).await;
            took_over = stage.leader().await.filter(|replica| *replica != leader);
        }
        if long {
            sleep(SETTLE + Duration::from_secs(2)).await;
        }
        stage.resume(leader);
        let successor = took_over.ok_or("nobody took over")?;
        Ok(format!("pod-{leader}, and pod-{successor} took over"))
    }

    /// Stops the leader between its attempts and their POSTs until another one has sent for them, or kills it.
    async fn before_post(&self, kills: Option<Duration>) -> Outcome {
        let stage = &self.stage;
        // It has read the organization, and writes to people.
        self.invited().await?;
        let people: Vec<_> = (0..6).map(|_| self.somebody()).collect();
        let leader = stage.some_leader().await.ok_or("nobody leads")?;
        stage.to_cluster(leader, Cable::withhold_answers);
        let attempts = people.iter().map(async |person| {
            person.act(&Act::Create).await;
            let begun = Instant::now();
            while begun.elapsed() < LEASE / 3 {
                if person.is_attempted().await {
                    return true;
                }
                sleep(Duration::from_millis(10)).await;
            }
            false
        });
        let attempted = futures::future::join_all(attempts).await;
        let killed = if let Some(away) = kills {
            let killed = stage.kill(leader, away);
            stage.to_cluster(leader, Cable::sever);
            killed
        } else {
            stage.with(leader, |operator| operator.pause());
            Ok(())
        };
        let attempted = people.iter().zip(attempted).filter(|(_, is)| *is);
        let attempted: Vec<_> = attempted.map(|(person, _)| person.clone()).collect();
        let is_sent = |person: &Arc<Person>| !stage.astro.live_invites(&person.email).is_empty();
        let outcome = if attempted.is_empty() {
            Err("nobody was to be written to".to_owned())
        } else {
            let any = || attempted.iter().any(is_sent);
            within("another one sends", 2 * LEASE + 3 * SETTLE, any).await
        };
        if outcome.is_ok() {
            // The more the better.
            let all = || attempted.iter().all(is_sent);
            let _ = within("it sends them all", REQUEST_DEADLINE, all).await;
        }
        stage.to_cluster(leader, Cable::mend);
        if kills.is_none() {
            sleep(Duration::from_millis(100)).await;
            stage.resume(leader);
            // Whatever it still has to send goes out at once.
            sleep(Duration::from_millis(300)).await;
        }
        killed?;
        outcome.map(|()| format!("pod-{leader}, {} attempts", attempted.len()))
    }

    /// Creates objects with that role in each namespace.
    async fn some_of_each_team(&self, role: usize) -> Vec<Arc<Person>> {
        let count = if self.soak { 0 } else { TEAMS.len() };
        let crowd: Vec<_> = (0..count).map(|_| self.somebody()).collect();
        for person in &crowd {
            for _ in 0..role {
                person.act(&Act::EditRole).await;
            }
            person.act(&Act::Create).await;
        }
        crowd
    }

    /// Does that to somebody's object while a POST for it is held there.
    async fn under_way(&self, point: HoldPoint, act: Act) -> Result<(), String> {
        let person = self.somebody();
        let astro = &self.stage.astro;
        let mut gate = astro.hold_for(Operation::CreateInvite, point, &person.email);
        person.act(&Act::Create).await;
        let arrived = timeout(Duration::from_secs(45), gate.arrived()).await;
        let call = arrived
            .map_err(|_| "no POST".to_owned())?
            .map_err(|error| error.to_string())?;
        person.act(&act).await;
        gate.release();
        if matches!(act, Act::RemoveUnderWay) && call.at.elapsed() * 2 > REQUEST_DEADLINE {
            person.excuse();
            return Err("the answer may have come too late".to_owned());
        }
        Ok(())
    }

    async fn change_under_way(&self) -> Outcome {
        let rename = |moves, new_first| Act::Rename { moves, new_first };
        let acts = [
            Act::EditRole,
            rename(false, true),
            rename(true, true),
            rename(true, false),
            Act::Delete,
            Act::AskAgain,
        ];
        let points = [HoldPoint::BeforeEffect, HoldPoint::AfterEffect];
        let changes = acts
            .iter()
            .flat_map(|act| points.map(|point| self.under_way(point, act.clone())));
        // Other faults go on, and some of them may not get as far.
        let outcomes = futures::future::join_all(changes).await;
        let (done, count) = (
            outcomes.iter().filter(|one| one.is_ok()).count(),
            outcomes.len(),
        );
        if done * 2 < count {
            return Err(format!("{done} of {count}: {outcomes:?}"));
        }
        Ok(format!("{done} of {count}"))
    }

    /// Writes to all objects, and without a pause to those of people who are invited meanwhile.
    async fn second_writer(&self, lasts: Duration) -> Outcome {
        let stage = &self.stage;
        let until = Instant::now() + lasts;
        if self.soak {
            return Ok(format!("{} writes", rewrite(stage, until).await));
        }
        let before = stage.conflicts();
        let people: Vec<_> = (0..12).map(|_| self.somebody()).collect();
        let disturbed = people.iter().map(async |person| {
            person.act(&Act::Create).await;
            person.disturb(until).await
        });
        let disturbed = futures::future::join_all(disturbed);
        let (others, disturbed) = tokio::join!(rewrite(stage, until), disturbed);
        let conflicts = stage.conflicts() - before;
        if conflicts == 0 {
            return Err("no write of the operators met one".to_owned());
        }
        let writes = others + disturbed.iter().sum::<u32>();
        Ok(format!("{writes} writes, {conflicts} conflicts"))
    }

    async fn kill_in_flight(&self, away: Duration) -> Outcome {
        let stage = &self.stage;
        let (replaced, revoked, revoked_late) =
            tokio::try_join!(self.invited(), self.invited(), self.invited())?;
        let (unsent, sent) = (self.somebody(), self.somebody());
        let leader = stage.some_leader().await.ok_or("nobody leads")?;
        let hold = |operation, point, person: &Person| {
            stage.astro.hold_for(operation, point, &person.email)
        };
        let mut deletes = [
            hold(Operation::DeleteInvite, HoldPoint::AfterEffect, &replaced),
            hold(Operation::DeleteInvite, HoldPoint::AfterEffect, &revoked),
            hold(
                Operation::DeleteInvite,
                HoldPoint::BeforeEffect,
                &revoked_late,
            ),
        ];
        let mut posts = [
            hold(Operation::CreateInvite, HoldPoint::BeforeEffect, &unsent),
            hold(Operation::CreateInvite, HoldPoint::AfterEffect, &sent),
        ];
        let all = async {
            tokio::join!(
                replaced.act(&Act::EditRole),
                revoked.act(&Act::Delete),
                revoked_late.act(&Act::Delete),
            );
            // The replacement keeps its distance from the e-mail before.
            let deleted = arrive(&mut deletes, Duration::from_secs(15)).await;
            if deleted {
                tokio::join!(unsent.act(&Act::Create), sent.act(&Act::Create));
                // Before the first of the others is given up.
                arrive(&mut posts, REQUEST_DEADLINE).await
            } else {
                false
            }
        };
        let complete = all.await;
        if !complete {
            return Err("not everything arrived at once".to_owned());
        }
        stage.kill(leader, away)?;
        let [replacing, revoking, revoking_late] = deletes;
        let [sending, recording] = posts;
        for gate in [replacing, revoking, recording] {
            gate.release();
        }
        // Who takes over has read the organization by then, and its settle time is not over.
        tokio::spawn(async move {
            sleep(LEASE + LATE).await;
            sending.release();
            revoking_late.release();
        });
        Ok(format!("pod-{leader}"))
    }

    async fn kill_at_status_write(&self, away: Duration, arrives: bool) -> Outcome {
        let stage = &self.stage;
        let person = self.somebody();
        let mut gate = stage.astro.hold_for(
            Operation::CreateInvite,
            HoldPoint::AfterEffect,
            &person.email,
        );
        person.act(&Act::Create).await;
        if timeout(Duration::from_secs(45), gate.arrived())
            .await
            .is_err()
        {
            return Err("no POST".to_owned());
        }
        let leader = stage.leader().await.ok_or("nobody leads")?;
        let before = stage.to_cluster(leader, |cable| {
            cable.cut();
            cable.sent()
        });
        gate.release();
        let written = || stage.to_cluster(leader, |cable| cable.sent() > before);
        let sent = within("the status is sent", REQUEST_DEADLINE, written).await;
        let killed = stage.kill(leader, away);
        stage.to_cluster(leader, |cable| {
            if !arrives {
                cable.sever();
            }
            cable.mend();
        });
        killed?;
        sent?;
        Ok(format!("pod-{leader}"))
    }
}

/// How the fake notes a call that got this answer.
fn answered(answer: &Answer) -> Answered {
    match answer {
        Answer::Status(status) | Answer::Html(status) | Answer::Empty(status) => {
            Answered::Status(*status)
        }
        Answer::Garbage => Answered::Status(200),
        Answer::TooManyRequests(_) => Answered::Status(429),
        Answer::Cut => Answered::Cut,
    }
}

fn is_well(call: &Call) -> bool {
    matches!(call.outcome, Answered::Status(200 | 204))
}

fn is_listed(call: &Call) -> bool {
    call.operation == Operation::ListUsers && is_well(call)
}

/// Waits for all of them.
async fn all(parts: impl IntoIterator<Item = impl Future<Output = Result<(), String>>>) -> Outcome {
    let outcomes = futures::future::join_all(parts).await;
    let count = outcomes.len();
    let done: Result<Vec<()>, String> = outcomes.into_iter().collect();
    done.map(|_| format!("{count} of them"))
}

async fn arrive(gates: &mut [Gate], deadline: Duration) -> bool {
    let all = futures::future::join_all(gates.iter_mut().map(Gate::arrived));
    timeout(deadline, all).await.is_ok()
}

async fn within(what: &str, deadline: Duration, done: impl Fn() -> bool) -> Result<(), String> {
    let begun = Instant::now();
    while !done() {
        if begun.elapsed() > deadline {
            return Err(format!("not within {deadline:?}: {what}"));
        }
        sleep(Duration::from_millis(20)).await;
    }
    Ok(())
}
