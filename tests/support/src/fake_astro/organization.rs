//! An organization: its people, its invites, and what each call does to them.

use std::{
    collections::{BTreeMap, HashMap},
    time::{Duration, Instant},
};

use jiff::Timestamp;

use super::{
    behaviour::{
        Behaviour, DefaultList, DeleteAccepted, DeleteExpired, GetEnded, InviterKind, PostMember,
        PostPending, RoleOfPending, RowAfterExpiry, RowAfterWithdrawal, Search,
    },
    state::{
        Invite, InviteState, Inviter, OWNER_EMAIL, ROLES, User, UserStatus, canonical, later,
        new_id, new_secret, new_user,
    },
};

/// A value with its past, for lists that lag behind.
#[derive(Debug)]
struct Versioned<T> {
    past: Vec<(Instant, T)>,
    current: T,
    since: Instant,
}

impl<T> Versioned<T> {
    fn new(value: T) -> Self {
        Self {
            past: Vec::new(),
            current: value,
            since: Instant::now(),
        }
    }

    fn replace(&mut self, value: T) {
        let old = std::mem::replace(&mut self.current, value);
        self.past.push((self.since, old));
        self.since = Instant::now();
    }

    fn as_of(&self, at: Instant) -> Option<&T> {
        if self.since <= at {
            return Some(&self.current);
        }
        self.past
            .iter()
            .rev()
            .find(|(since, _)| *since <= at)
            .map(|(_, value)| value)
    }
}

/// The moment at which a request is worked on.
#[derive(Debug, Clone, Copy)]
pub(super) struct Moment {
    pub wall: Timestamp,
    pub monotonic: Instant,
}

/// Why a call is refused: the status and the message.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Refused(pub u16, pub &'static str);

/// A user as the API shows them.
#[derive(Debug)]
pub(super) struct Row<'a> {
    pub user: &'a User,
    pub invites: Vec<&'a Invite>,
    pub role: &'a str,
}

/// What a list is asked for.
#[derive(Debug, Default)]
pub(super) struct ListQuery {
    pub search: Option<String>,
    pub has_invites: Option<bool>,
    pub offset: usize,
    pub limit: usize,
    /// The field, and whether it is ascending.
    pub sorts: Vec<(SortField, bool)>,
}

/// The fields that a list can be sorted by.
#[derive(Debug, Clone, Copy)]
pub(super) enum SortField {
    CreatedAt,
    Username,
    Id,
    FullName,
    UpdatedAt,
}

/// One organization.
#[derive(Debug)]
pub(super) struct Organization {
    pub id: String,
    /// The first owner, whose token is in use and who invites on the web page.
    pub owner: User,
    users: Vec<Versioned<User>>,
    user_ids: HashMap<String, usize>,
    user_addresses: HashMap<String, usize>,
    invites: Vec<Versioned<Invite>>,
    invite_ids: HashMap<String, usize>,
    invites_of: BTreeMap<String, Vec<usize>>,
}

impl Organization {
    /// An organization with one member, its owner.
    pub(super) fn new(id: &str, now: Timestamp) -> Self {
        let owner = new_user(OWNER_EMAIL, ROLES[0], UserStatus::Active, now);
        let mut organization = Self {
            id: id.to_owned(),
            owner: owner.clone(),
            users: Vec::new(),
            user_ids: HashMap::new(),
            user_addresses: HashMap::new(),
            invites: Vec::new(),
            invite_ids: HashMap::new(),
            invites_of: BTreeMap::new(),
        };
        organization.push_user(owner);
        organization
    }

    fn push_user(&mut self, user: User) {
        self.user_ids.insert(user.id.clone(), self.users.len());
        self.user_addresses
            .insert(user.address.clone(), self.users.len());
        self.users.push(Versioned::new(user));
    }

    pub(super) fn invites(&self) -> impl Iterator<Item = &Invite> {
        self.invites.iter().map(|invite| &invite.current)
    }

    pub(super) fn users(&self) -> impl Iterator<Item = &User> {
        self.users.iter().map(|user| &user.current)
    }

    /// The invite with this id or ticket id.
    pub(super) fn invite(&self, id: &str) -> Option<&Invite> {
        self.invite_ids.get(id).map(|&at| &self.invites[at].current)
    }

    /// The user with this id, whether listed or not.
    pub(super) fn user(&self, id: &str) -> Option<&User> {
        self.user_ids.get(id).map(|&at| &self.users[at].current)
    }

    /// The person with this address, unless removed.
    pub(super) fn person(&self, email: &str) -> Option<&User> {
        let at = *self.user_addresses.get(&canonical(email))?;
        Some(&self.users[at].current).filter(|user| !user.removed)
    }

    pub(super) fn invites_to(&self, email: &str) -> impl Iterator<Item = &Invite> {
        let places = self
            .invites_of
            .get(&canonical(email))
            .map_or(&[][..], Vec::as_slice);
        places.iter().map(|&at| &self.invites[at].current)
    }

    /// How many invites to the address can be accepted now, and whether it is a member's.
    pub(super) fn standing(&self, email: &str, now: Timestamp) -> (usize, bool) {
        let live = self.invites_to(email).filter(|invite| invite.is_live(now));
        let is_member = self
            .person(email)
            .is_some_and(|user| user.status != UserStatus::Pending);
        (live.count(), is_member)
    }

    pub(super) fn change_invite(&mut self, id: &str, change: impl FnOnce(&mut Invite)) -> bool {
        let Some(&at) = self.invite_ids.get(id) else {
            return false;
        };
        let mut invite = self.invites[at].current.clone();
        change(&mut invite);
        self.invites[at].replace(invite);
        true
    }

    pub(super) fn change_user(
        &mut self,
        id: &str,
        now: Timestamp,
        change: impl FnOnce(&mut User),
    ) -> bool {
        let Some(&at) = self.user_ids.get(id) else {
            return false;
        };
        let mut user = self.users[at].current.clone();
        change(&mut user);
        user.updated_at = now;
        self.users[at].replace(user);
        true
    }

    /// Puts a person into the organization, with the id that the address had before if it had one.
    pub(super) fn put_user(
        &mut self,
        email: &str,
        role: &str,
        status: UserStatus,
        now: Timestamp,
    ) -> String {
        let address = canonical(email);
        if let Some(&at) = self.user_addresses.get(&address) {
            let id = self.users[at].current.id.clone();
            self.change_user(&id, now, |user| {
                if user.removed {
                    user.created_at = now;
                    email.clone_into(&mut user.username);
                }
                user.removed = false;
                user.status = status;
                role.clone_into(&mut user.role);
            });
            return id;
        }
        let user = new_user(email, role, status, now);
        let id = user.id.clone();
        self.push_user(user);
        id
    }

    /// Makes an invite, and a `PENDING` row for a person who has none.
    pub(super) fn invite_person(
        &mut self,
        email: &str,
        role: &str,
        inviter: Inviter,
        expires_at: Timestamp,
        now: Timestamp,
    ) -> Invite {
        let user_id = match self.person(email) {
            Some(user) => user.id.clone(),
            None => self.put_user(email, role, UserStatus::Pending, now),
        };
        let invite = Invite {
            id: new_id(),
            organization_id: self.id.clone(),
            email: email.to_owned(),
            address: canonical(email),
            role: role.to_owned(),
            state: InviteState::Pending,
            expires_at,
            created_at: now,
            inviter,
            user_id,
            ticket_id: new_secret("ticket"),
            oauth_invite_id: new_secret("oauth"),
        };
        let at = self.invites.len();
        self.invite_ids.insert(invite.id.clone(), at);
        self.invite_ids.insert(invite.ticket_id.clone(), at);
        self.invites_of
            .entry(invite.address.clone())
            .or_default()
            .push(at);
        self.invites.push(Versioned::new(invite.clone()));
        invite
    }

    /// POST of an invite: the invite, and whether it is new and so an e-mail was sent.
    pub(super) fn create_invite(
        &mut self,
        email: &str,
        role: &str,
        inviter: Inviter,
        lifetime: Duration,
        now: Timestamp,
        behaviour: &Behaviour,
    ) -> Result<(Invite, bool), Refused> {
        if self.standing(email, now).1 {
            match behaviour.post_member {
                PostMember::BadRequest => {
                    return Err(Refused(400, "User is already a member of the organization"));
                }
                PostMember::Conflict => {
                    return Err(Refused(409, "User is already a member of the organization"));
                }
                PostMember::UselessInvite => {}
            }
        } else if let Some(pending) = self.invites_to(email).filter(|i| i.is_live(now)).last() {
            match behaviour.post_pending {
                PostPending::SameInvite => return Ok((pending.clone(), false)),
                PostPending::NewInvite => {}
                PostPending::BadRequest => {
                    return Err(Refused(400, "User has already been invited"));
                }
                PostPending::Conflict => return Err(Refused(409, "User has already been invited")),
            }
        }
        let expires_at = later(now, lifetime);
        Ok((
            self.invite_person(email, role, inviter, expires_at, now),
            true,
        ))
    }

    /// DELETE of an invite.
    pub(super) fn delete_invite(
        &mut self,
        id: &str,
        now: Timestamp,
        behaviour: &Behaviour,
    ) -> Result<(), Refused> {
        const NOT_FOUND: Refused = Refused(404, "Invite not found");
        // By its id only: the reference allows the ticket id for GET alone.
        let invite = self
            .invite(id)
            .filter(|invite| invite.id == id)
            .ok_or(NOT_FOUND)?;
        match invite.state {
            InviteState::Deleted | InviteState::Rejected => return Err(NOT_FOUND),
            InviteState::Accepted => match behaviour.delete_accepted {
                DeleteAccepted::NotFound => return Err(NOT_FOUND),
                DeleteAccepted::BadRequest => {
                    return Err(Refused(400, "Invite has already been accepted"));
                }
                DeleteAccepted::NoContent => return Ok(()),
            },
            InviteState::Pending => {
                let expired = !invite.is_live(now);
                if expired && behaviour.delete_expired == DeleteExpired::NotFound {
                    return Err(NOT_FOUND);
                }
            }
        }
        self.change_invite(id, |invite| invite.state = InviteState::Deleted);
        Ok(())
    }

    /// The invitee's answer.
    pub(super) fn answer_invite(
        &mut self,
        id: &str,
        accept: bool,
        now: Timestamp,
    ) -> Result<Invite, Refused> {
        let invite = self
            .invite(id)
            .ok_or(Refused(404, "Invite not found"))?
            .clone();
        if !invite.is_live(now) {
            return Err(Refused(400, "Invite is no longer pending"));
        }
        let state = if accept {
            InviteState::Accepted
        } else {
            InviteState::Rejected
        };
        self.change_invite(&invite.id, |invite| invite.state = state);
        let is_pending = self
            .person(&invite.email)
            .is_none_or(|user| user.status == UserStatus::Pending);
        if accept && is_pending {
            self.put_user(&invite.email, &invite.role, UserStatus::Active, now);
        }
        Ok(invite)
    }

    /// Changing a member's role.
    pub(super) fn change_role(
        &mut self,
        user_id: &str,
        role: &str,
        moment: Moment,
        behaviour: &Behaviour,
    ) -> Result<(), Refused> {
        let row = self
            .row(user_id, moment, behaviour)
            .ok_or(Refused(404, "User not found"))?;
        if row.user.status == UserStatus::Pending {
            return Err(match behaviour.role_of_pending {
                RoleOfPending::BadRequest => Refused(400, "User has not accepted the invite"),
                RoleOfPending::NotFound => Refused(404, "User not found"),
            });
        }
        self.change_user(user_id, moment.wall, |user| role.clone_into(&mut user.role));
        Ok(())
    }

    /// Removing a member. A person who is only invited is none.
    pub(super) fn remove_member(&mut self, user_id: &str, now: Timestamp) -> Result<(), Refused> {
        self.user(user_id)
            .filter(|user| !user.removed && user.status != UserStatus::Pending)
            .ok_or(Refused(404, "User not found"))?;
        self.change_user(user_id, now, |user| user.removed = true);
        Ok(())
    }

    /// One user, as GET by id shows them: without delay.
    pub(super) fn row(
        &self,
        user_id: &str,
        moment: Moment,
        behaviour: &Behaviour,
    ) -> Option<Row<'_>> {
        self.show(
            self.user(user_id)?,
            moment.monotonic,
            moment.wall,
            behaviour,
        )
    }

    /// The rows that a list selects, sorted and before they are cut into pages.
    pub(super) fn list(
        &self,
        query: &ListQuery,
        moment: Moment,
        behaviour: &Behaviour,
    ) -> Vec<Row<'_>> {
        let Some(as_of) = moment.monotonic.checked_sub(behaviour.list_delay) else {
            return Vec::new();
        };
        let shows_pending =
            query.has_invites == Some(true) || behaviour.default_list == DefaultList::WithPending;
        let mut rows: Vec<Row<'_>> = self
            .users
            .iter()
            .filter_map(|user| self.show(user.as_of(as_of)?, as_of, moment.wall, behaviour))
            .filter(|row| {
                query
                    .has_invites
                    .is_none_or(|has| has != row.invites.is_empty())
            })
            .filter(|row| shows_pending || row.user.status != UserStatus::Pending)
            .filter(|row| {
                query
                    .search
                    .as_ref()
                    .is_none_or(|term| found(row, term, behaviour.search))
            })
            .collect();
        rows.sort_by(|a, b| {
            let by_fields = query.sorts.iter().map(|&(field, ascending)| {
                let order = compare(a.user, b.user, field);
                if ascending { order } else { order.reverse() }
            });
            by_fields.fold(std::cmp::Ordering::Equal, std::cmp::Ordering::then)
        });
        rows
    }

    fn show<'a>(
        &'a self,
        user: &'a User,
        as_of: Instant,
        now: Timestamp,
        behaviour: &Behaviour,
    ) -> Option<Row<'a>> {
        if user.removed {
            return None;
        }
        let mut invites: Vec<&Invite> = self
            .invites_of
            .get(&user.address)
            .map_or(&[][..], Vec::as_slice)
            .iter()
            .filter_map(|&at| self.invites[at].as_of(as_of))
            .filter(|invite| invite.state == InviteState::Pending)
            .collect();
        let was_withdrawn = invites.is_empty();
        if behaviour.row_after_expiry != RowAfterExpiry::WithOldInvite {
            invites.retain(|invite| invite.is_live(now));
        }
        if user.status != UserStatus::Pending {
            return Some(Row {
                user,
                invites,
                role: &user.role,
            });
        }
        let is_gone = invites.is_empty()
            && if was_withdrawn {
                behaviour.row_after_withdrawal == RowAfterWithdrawal::Gone
            } else {
                behaviour.row_after_expiry == RowAfterExpiry::Gone
            };
        let role = invites.last().map_or(&user.role, |invite| &invite.role);
        (!is_gone).then_some(Row {
            user,
            invites,
            role,
        })
    }
}

/// GET of an invite.
pub(super) fn get_invite<'a>(
    invite: Option<&'a Invite>,
    now: Timestamp,
    behaviour: &Behaviour,
) -> Result<&'a Invite, Refused> {
    let invite = invite.ok_or(Refused(404, "Invite not found"))?;
    match behaviour.get_ended {
        _ if invite.is_live(now) => Ok(invite),
        GetEnded::OldBody => Ok(invite),
        GetEnded::NotFound => Err(Refused(404, "Invite not found")),
        GetEnded::BadRequest => Err(Refused(400, "Invite is no longer valid")),
    }
}

/// Whom an invite names as the one who sent it.
pub(super) fn inviter(kind: InviterKind, user: &User, key_id: &str) -> Inviter {
    match kind {
        InviterKind::User => Inviter {
            id: user.id.clone(),
            name: user.username.clone(),
            is_service_key: false,
        },
        InviterKind::ServiceKey => Inviter {
            id: key_id.to_owned(),
            name: "operator token".to_owned(),
            is_service_key: true,
        },
    }
}

fn found(row: &Row<'_>, term: &str, search: Search) -> bool {
    let lowered = term.to_lowercase();
    let contains = row.user.username.to_lowercase().contains(&lowered)
        || row.user.full_name.to_lowercase().contains(&lowered);
    match search {
        Search::Exact => row.user.username.to_lowercase() == lowered,
        Search::Substring => contains,
        Search::MissesPlus => contains && !term.contains('+'),
        Search::MissesPending => contains && row.user.status != UserStatus::Pending,
    }
}

fn compare(a: &User, b: &User, field: SortField) -> std::cmp::Ordering {
    match field {
        SortField::CreatedAt => a.created_at.cmp(&b.created_at),
        SortField::Username => a.username.cmp(&b.username),
        SortField::Id => a.id.cmp(&b.id),
        SortField::FullName => a.full_name.cmp(&b.full_name),
        SortField::UpdatedAt => a.updated_at.cmp(&b.updated_at),
    }
}
