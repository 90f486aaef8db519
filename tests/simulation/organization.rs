//! An Astro organization in memory: its people, their invitations, and lists that lag behind.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use orginvite_operator::astro::{
    Error, Invite, Listing, Refusal, Role, Subject, SubjectKind, User, UserStatus,
};
use tokio::time::Instant;

/// The organization's ID.
pub const ID: &str = "organization";

/// What becomes of an invitation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    Live,
    /// Deleted through the API with the operator's token.
    Revoked,
    /// Revoked by somebody on the web page.
    Withdrawn,
    Declined,
    Accepted,
    Expired,
}

/// One invitation.
#[derive(Clone, Debug)]
pub struct Invitation {
    pub id: String,
    pub address: String,
    pub role: Role,
    pub expires_at: Timestamp,
    pub standing: Standing,
    /// Whether the operator sent it.
    pub ours: bool,
    /// Deleted after its end: no list shows it any more.
    forgotten: bool,
    /// Its expiry is over, whatever became of it before.
    past: bool,
    /// It expired, and is not past its expiry any more: the clock was set back.
    pub expired_early: bool,
}

/// What a DELETE that is answered 204 does instead of ending its invitation.
#[derive(Clone, Copy, Debug)]
pub enum Undone {
    /// Nothing at all.
    Everywhere,
    /// No list shows the invitation any more; it can still be accepted.
    ButForTheLists,
}

/// What Astro answers where its answer is not known.
#[derive(Clone, Copy, Debug)]
pub struct Habits {
    /// Inviting somebody who is pending.
    pub again: Again,
    /// GET of an ended invite.
    pub ended: Ended,
    /// DELETE of an accepted invite: 400, else 404.
    pub accepted_is_400: bool,
    /// DELETE of an expired invite: 404, else 204.
    pub expired_is_404: bool,
    /// Whether the list without hasInvites has the pending people, also without an invite.
    pub everybody_has_pending: bool,
    /// Whether the list with hasInvites keeps the row of an expired invite.
    pub expired_is_listed: bool,
    /// Whether the rows of pending people have a role.
    pub lists_roles: bool,
}

/// Inviting somebody who is pending.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Again {
    /// A second invite, with a second e-mail.
    Second,
    /// The same invite, without an e-mail.
    Same,
    /// 400.
    Refused,
}

/// GET of an ended invite.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    NotFound,
    BadRequest,
    /// 200 with the old body.
    OldBody,
}

impl Habits {
    /// The most dangerous answer to a second POST, and plain ones else.
    pub const PLAIN: Self = Self {
        again: Again::Second,
        ended: Ended::NotFound,
        accepted_is_400: false,
        expired_is_404: false,
        everybody_has_pending: true,
        expired_is_listed: false,
        lists_roles: true,
    };
}

#[derive(Default)]
struct Person {
    order: usize,
    username: String,
    role: Option<Role>,
    /// Once there was anything about the person.
    shown: [Vec<(Instant, Option<User>)>; 2],
}

/// The organization.
pub struct Organization {
    pub habits: Habits,
    /// How far Astro's clock is ahead of the cluster's.
    pub clock_offset: SignedDuration,
    pub lifetime: Duration,
    pub invitations: Vec<Invitation>,
    /// Of the next DELETE.
    pub undone: Option<Undone>,
    /// Whether the operator's token may list users.
    pub may_list: bool,
    people: BTreeMap<String, Person>,
}

impl Organization {
    pub fn new(habits: Habits) -> Self {
        Self {
            habits,
            clock_offset: SignedDuration::ZERO,
            lifetime: crate::LIFETIME,
            invitations: Vec::new(),
            undone: None,
            may_list: true,
            people: BTreeMap::new(),
        }
    }

    pub fn invitation(&self, id: &str) -> Option<&Invitation> {
        self.invitations
            .iter()
            .find(|invitation| invitation.id == id)
    }

    /// The invitations of an address that can still be accepted.
    pub fn live<'a>(&'a self, address: &'a str) -> impl Iterator<Item = &'a Invitation> {
        self.invitations
            .iter()
            .filter(move |one| one.address == address && one.standing == Standing::Live)
    }

    /// The person's role as a member.
    pub fn member(&self, address: &str) -> Option<Role> {
        self.people.get(address)?.role
    }

    /// Adds an invitation; nobody is asked whether it should be.
    pub fn invite(&mut self, email: &str, role: Role, ours: bool, now: Timestamp) -> &Invitation {
        let address = email.to_lowercase();
        let order = self.people.len();
        let person = self.people.entry(address.clone()).or_default();
        if person.username.is_empty() {
            person.order = order;
            email.clone_into(&mut person.username);
        }
        self.invitations.push(Invitation {
            id: format!("x{}", self.invitations.len() + 1),
            address,
            role,
            expires_at: now + self.lifetime,
            standing: Standing::Live,
            ours,
            forgotten: false,
            past: false,
            expired_early: false,
        });
        self.invitations.last().unwrap()
    }

    /// Ends an invitation; one that is accepted makes a member.
    pub fn end(&mut self, id: &str, standing: Standing) {
        let invitation = self
            .invitations
            .iter_mut()
            .find(|one| one.id == id)
            .unwrap();
        invitation.standing = standing;
        if standing == Standing::Accepted {
            self.people.get_mut(&invitation.address).unwrap().role = Some(invitation.role);
        }
    }

    /// How many invitations have ended or are past their expiry.
    pub fn over(&self) -> usize {
        let is_over = |one: &&Invitation| one.past || one.standing != Standing::Live;
        self.invitations.iter().filter(is_over).count()
    }

    /// The invitations whose expiry is over now and was not the last time, as they were.
    pub fn just_past(&mut self, now: Timestamp) -> Vec<Invitation> {
        let passes = |one: &&mut Invitation| !one.past && one.expires_at <= now;
        let passed = self.invitations.iter_mut().filter(passes);
        passed
            .map(|invitation| {
                invitation.past = true;
                invitation.clone()
            })
            .collect()
    }

    /// An invitation that has ended is deleted.
    pub fn forget(&mut self, id: &str) {
        for invitation in &mut self.invitations {
            invitation.forgotten |= invitation.id == id;
        }
    }

    /// Makes somebody a member with that role, or none.
    pub fn set_member(&mut self, address: &str, role: Option<Role>) {
        if let Some(person) = self.people.get_mut(address) {
            person.role = role;
        }
    }

    /// The ID of a person as a member.
    pub fn user_id(address: &str) -> String {
        format!("user-of-{address}")
    }

    /// The lists show what is so of `address` from those moments on: first the list with invites,
    /// then the list of everybody.
    pub fn publish(&mut self, address: &str, from: [Instant; 2]) {
        for (place, listing) in [Listing::WithInvites, Listing::Everybody]
            .into_iter()
            .enumerate()
        {
            let row = self.row(address, listing);
            let shown = &mut self.people.get_mut(address).unwrap().shown[place];
            let from = shown
                .last()
                .map_or(from[place], |(last, _)| from[place].max(*last));
            shown.push((from, row));
        }
    }

    /// What a list call shows now.
    pub fn list(&self, listing: Listing) -> Vec<User> {
        let place = usize::from(listing == Listing::Everybody);
        let now = Instant::now();
        let mut people: Vec<&Person> = self.people.values().collect();
        people.sort_by_key(|person| person.order);
        people
            .iter()
            .filter_map(|person| {
                let (_, row) = person.shown[place].iter().rfind(|(from, _)| *from <= now)?;
                row.clone()
            })
            .collect()
    }

    fn row(&self, address: &str, listing: Listing) -> Option<User> {
        let person = self.people.get(address)?;
        let user = |status, role, invites| User {
            id: Self::user_id(address),
            username: person.username.clone(),
            status,
            role,
            invites,
        };
        if person.role.is_some() {
            return (listing == Listing::Everybody)
                .then(|| user(UserStatus::Active, person.role, Vec::new()));
        }
        let shown: Vec<&Invitation> = self
            .invitations
            .iter()
            .filter(|one| {
                one.address == address
                    && (one.standing == Standing::Live
                        || (one.standing == Standing::Expired
                            && self.habits.expired_is_listed
                            && !one.forgotten))
            })
            .collect();
        let role = shown
            .last()
            .map(|one| one.role)
            .filter(|_| self.habits.lists_roles);
        match listing {
            Listing::WithInvites => {
                let invites: Vec<Invite> = shown.iter().map(|one| body(one)).collect();
                (!invites.is_empty()).then(|| user(UserStatus::Pending, role, invites))
            }
            Listing::Everybody => self
                .habits
                .everybody_has_pending
                .then(|| user(UserStatus::Pending, role, Vec::new())),
        }
    }

    /// What GET answers.
    pub fn get(&self, id: &str) -> Result<Invite, Error> {
        let invitation = self.invitation(id).ok_or_else(|| refused(404))?;
        match self.habits.ended {
            _ if invitation.standing == Standing::Live => Ok(body(invitation)),
            Ended::OldBody => Ok(body(invitation)),
            Ended::NotFound => Err(refused(404)),
            Ended::BadRequest => Err(refused(400)),
        }
    }

    /// What DELETE answers, by what is so at that moment.
    pub fn answer_to_delete(&self, id: &str) -> Result<(), Error> {
        match self.invitation(id).map(|one| one.standing) {
            Some(Standing::Live) => Ok(()),
            Some(Standing::Expired) if !self.habits.expired_is_404 => Ok(()),
            Some(Standing::Accepted) if self.habits.accepted_is_400 => Err(refused(400)),
            _ => Err(refused(404)),
        }
    }
}

/// An invitation as Astro's answers have it.
pub fn body(invitation: &Invitation) -> Invite {
    Invite {
        id: invitation.id.clone(),
        organization_id: ID.to_owned(),
        expires_at: Some(invitation.expires_at),
        invitee: None,
        inviter: Some(Subject {
            id: if invitation.ours { "token" } else { "admin" }.to_owned(),
            kind: Some(if invitation.ours {
                SubjectKind::ServiceKey
            } else {
                SubjectKind::User
            }),
            name: None,
            username: None,
        }),
    }
}

/// A refusal of Astro itself.
pub fn refused(status: u16) -> Error {
    Error::Refused(Refusal {
        status,
        from_api: true,
        message: "refused".to_owned(),
        field_errors: Vec::new(),
        request_id: None,
        retry_after: None,
    })
}
