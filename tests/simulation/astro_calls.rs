//! The operator's way to Astro.

use std::sync::Arc;

use async_trait::async_trait;
use jiff::Timestamp;
use orginvite_operator::astro::{Astro, Error, Invite, Listing, Role, UserPage};
use parking_lot::Mutex;
use tokio::time::Instant;

use crate::network::{Call, Failure, send};
use crate::organization::{Again, Standing, Undone, body, refused};
use crate::world::{State, World};

/// One process's connection.
pub struct Calls {
    world: Arc<World>,
    who: String,
    clock: Mutex<Option<(Timestamp, Instant)>>,
}

impl Calls {
    pub fn new(world: &Arc<World>, who: &str) -> Self {
        Self {
            world: Arc::clone(world),
            who: who.to_owned(),
            clock: Mutex::new(None),
        }
    }

    /// What a request comes to; its answer tells Astro's time.
    fn heard<T>(&self, answer: Result<(Result<T, Error>, Timestamp), Failure>) -> Result<T, Error> {
        match answer {
            Ok((answer, date)) => {
                *self.clock.lock() = Some((date, Instant::now()));
                answer
            }
            Err(Failure::Status(status @ 400..500)) => Err(refused(status)),
            Err(failure) => Err(Error::Unknown {
                message: "no answer".to_owned(),
                status: match failure {
                    Failure::Status(status) => Some(status),
                    Failure::Silence => None,
                },
                request_id: None,
            }),
        }
    }
}

/// An effect with the time at which Astro had it.
fn dated<T>(effect: impl FnOnce(&mut State) -> T) -> impl FnOnce(&mut State) -> (T, Timestamp) {
    |state| {
        state.expire();
        let answer = effect(state);
        (answer, state.astro_now())
    }
}

#[async_trait]
impl Astro for Calls {
    async fn create_invite(&self, email: &str, role: Role) -> Result<Invite, Error> {
        let (who, email) = (self.who.clone(), email.to_owned());
        let attempt = self
            .world
            .with(|state| state.post_is_sent(&who, &email, role));
        let landing =
            dated(move |state: &mut State| state.post_lands(&who, &email, role, &attempt));
        self.heard(send(&self.world, Call::Post, landing).await)
    }

    async fn get_invite(&self, id: &str) -> Result<Invite, Error> {
        let id = id.to_owned();
        let effect = dated(move |state: &mut State| state.astro.get(&id));
        self.heard(send(&self.world, Call::Get, effect).await)
    }

    async fn delete_invite(&self, id: &str) -> Result<(), Error> {
        let (who, id) = (self.who.clone(), id.to_owned());
        self.world.with(|state| state.delete_is_sent(&who, &id));
        let landing = dated(move |state: &mut State| state.delete_lands(&who, &id));
        self.heard(send(&self.world, Call::Delete, landing).await)
    }

    async fn list_users(
        &self,
        listing: Listing,
        offset: usize,
        limit: usize,
    ) -> Result<UserPage, Error> {
        let effect = dated(move |state: &mut State| {
            if !state.astro.may_list {
                return Err(refused(403));
            }
            let rows = state.astro.list(listing);
            Ok(UserPage {
                total: rows.len(),
                users: rows.into_iter().skip(offset).take(limit).collect(),
            })
        });
        self.heard(send(&self.world, Call::List, effect).await)
    }

    fn server_time(&self) -> Option<Timestamp> {
        let (date, at) = (*self.clock.lock())?;
        Some(date + at.elapsed())
    }
}

impl State {
    /// The lists show a change of `address` after some lag.
    pub fn people_changed(&mut self, address: &str) {
        let now = Instant::now();
        let longest = self.network.weather.listing_lag;
        let from = longest.map(|longest| now + self.some(longest));
        self.astro.publish(address, from);
    }

    /// Lets the time of invitations pass.
    pub fn expire(&mut self) {
        let now = self.astro_now();
        for invitation in self.astro.just_past(now) {
            let id = &invitation.id;
            if invitation.standing == Standing::Live {
                self.log(format!("{id} expires"));
                self.invitation_ends(id, Standing::Expired);
                self.astro.end(id, Standing::Expired);
                self.people_changed(&invitation.address);
            } else {
                self.ended_one_is_past(&invitation);
            }
        }
    }

    fn post_lands(
        &mut self,
        who: &str,
        email: &str,
        role: Role,
        attempt: &str,
    ) -> Result<Invite, Error> {
        let address = email.to_lowercase();
        self.post_takes_effect(&address, attempt);
        let again = self.astro.habits.again;
        let pending = self.astro.live(&address).next().map(body);
        if let Some(invite) = pending.filter(|_| again != Again::Second) {
            self.log(format!("POST of {who} finds {} pending", invite.id));
            self.count("POST while pending");
            return if again == Again::Same {
                Ok(invite)
            } else {
                Err(refused(400))
            };
        }
        let now = self.astro_now();
        let invite = body(self.astro.invite(email, role, true, now));
        self.log(format!(
            "E-MAIL to {email} as {} by {who}: {}",
            orginvite_operator::plan::name(role),
            invite.id
        ));
        self.people_changed(&address);
        self.email_went_out(&address, attempt);
        Ok(invite)
    }

    fn delete_lands(&mut self, who: &str, id: &str) -> Result<(), Error> {
        let answer = self.astro.answer_to_delete(id);
        let Some(invitation) = self.astro.invitation(id).cloned() else {
            return answer;
        };
        let heard = answer.as_ref().map_or_else(
            |error| {
                error
                    .status()
                    .map_or_else(String::new, |status| status.to_string())
            },
            |()| "204".to_owned(),
        );
        self.log(format!("DELETE of {id} by {who}: {heard}"));
        self.count(format!("DELETE {heard}"));
        if answer.is_ok() {
            match self.astro.undone.take() {
                Some(Undone::Everywhere) => return answer,
                Some(Undone::ButForTheLists) => {
                    self.hide(id);
                    return answer;
                }
                None => {}
            }
            if invitation.standing == Standing::Live {
                self.astro.end(id, Standing::Revoked);
            } else {
                self.astro.forget(id);
            }
            self.people_changed(&invitation.address);
        }
        answer
    }

    /// No list shows the invitation any more, until something changes of the person; it can still be accepted.
    pub fn hide(&mut self, id: &str) {
        let invitation = self.astro.invitation(id).cloned().unwrap();
        self.log(format!("no list shows {id}"));
        self.astro.end(id, Standing::Revoked);
        self.people_changed(&invitation.address);
        self.astro.end(id, invitation.standing);
    }
}
