//! What tests see of the fake and do to it.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use anyhow::{Context as _, ensure};
use jiff::SignedDuration;

use super::{
    Shared, Token,
    behaviour::Behaviour,
    faults::{Answer, Buckets, Fault, Gate, Held, HoldPoint, Limits, Target, Times},
    http::mail,
    journal::{Call, Mail, Mark, Operation, Outcome, Violation},
    organization::Organization,
    request::{is_email, is_role},
    state::{Invite, InviteState, Inviter, User, UserStatus, canonical, later, new_id, new_secret},
};

/// The controls of a fake, seen from one of its organizations: people, invites, tokens and e-mails are that
/// organization's, everything else is the whole server's. Clones share the state.
#[derive(Debug, Clone)]
pub struct Control(pub(super) Arc<Shared>, pub(super) String);

/// Organizations and tokens.
impl Control {
    /// The id of the organization.
    #[must_use]
    pub fn organization_id(&self) -> &str {
        &self.1
    }

    /// Adds an organization with a token of its own, and returns its controls.
    #[must_use]
    pub fn organization(&self, id: &str) -> Self {
        let added = Self(Arc::clone(&self.0), id.to_owned());
        if added.add_organization(id) {
            added.replace_token(&new_secret("token"));
        }
        added
    }

    pub(super) fn add_organization(&self, id: &str) -> bool {
        let mut world = self.0.world.lock();
        let now = world.now();
        let is_new = !world.organizations.contains_key(id);
        if is_new {
            world
                .organizations
                .insert(id.to_owned(), Organization::new(id, now));
        }
        is_new
    }

    /// The organization's latest API token that is good, or the latest of all when none is.
    #[must_use]
    pub fn token(&self) -> String {
        let world = self.0.world.lock();
        let own = || {
            let newest_first = world.tokens.iter().rev();
            newest_first.filter(|token| token.organizations.contains(&self.1))
        };
        let latest = own().find(|token| !token.revoked).or_else(|| own().next());
        latest.map(|token| token.value.clone()).unwrap_or_default()
    }

    /// Adds an API token that is good for these organizations, besides those that there are.
    pub fn add_token(&self, value: &str, organizations: &[&str]) {
        self.0.world.lock().tokens.push(Token {
            value: value.to_owned(),
            organizations: organizations.iter().map(|&id| id.to_owned()).collect(),
            person: None,
            key_id: new_id(),
            revoked: false,
        });
    }

    /// Revokes the organization's API tokens and makes this one good.
    pub fn replace_token(&self, value: &str) {
        self.revoke_token();
        self.add_token(value, &[&self.1]);
    }

    /// Revokes the organization's API tokens: 401 from now on.
    pub fn revoke_token(&self) {
        for token in &mut self.0.world.lock().tokens {
            token.revoked |= token.organizations.contains(&self.1);
        }
    }

    /// A person's own token, with which they answer their invites.
    #[must_use]
    pub fn user_token(&self, email: &str) -> String {
        let value = new_secret("user-token");
        self.0.world.lock().tokens.push(Token {
            value: value.clone(),
            organizations: Vec::new(),
            person: Some(canonical(email)),
            key_id: new_id(),
            revoked: false,
        });
        value
    }
}

/// What people do.
impl Control {
    /// Does several things of which no page of a list shows a part: one by one, a loss of many may be two of few.
    pub fn at_once(&self, act: impl FnOnce(&Self)) {
        let _lists = self.0.lists.lock();
        act(self);
    }

    /// The invitee accepts, and becomes a member with the invite's role.
    ///
    /// Fails, as do the next ones, when there is no such invite or it has ended.
    pub fn accept(&self, invite_id: &str) -> anyhow::Result<()> {
        self.answer(invite_id, true)
    }

    /// The invitee rejects the invite.
    pub fn reject(&self, invite_id: &str) -> anyhow::Result<()> {
        self.answer(invite_id, false)
    }

    fn answer(&self, invite_id: &str, accept: bool) -> anyhow::Result<()> {
        let mut world = self.0.world.lock();
        let now = world.now();
        self.of(&mut world.organizations)?
            .answer_invite(invite_id, accept, now)
            .map_err(|refused| anyhow::anyhow!("invite {invite_id}: {}", refused.1))?;
        Ok(())
    }

    /// Somebody deletes the invite on the web page.
    pub fn revoke(&self, invite_id: &str) -> anyhow::Result<()> {
        self.change_pending(invite_id, |invite| invite.state = InviteState::Deleted)
    }

    /// The invite's time has run out.
    pub fn expire(&self, invite_id: &str) -> anyhow::Result<()> {
        let past = self.0.world.lock().now() - SignedDuration::from_secs(1);
        self.change_pending(invite_id, |invite| invite.expires_at = past)
    }

    fn change_pending(
        &self,
        invite_id: &str,
        change: impl FnOnce(&mut Invite),
    ) -> anyhow::Result<()> {
        let mut world = self.0.world.lock();
        let organization = self.of(&mut world.organizations)?;
        let invite = organization.invite(invite_id).context("no such invite")?;
        ensure!(
            invite.state == InviteState::Pending,
            "invite {invite_id} is {:?}",
            invite.state
        );
        organization.change_invite(invite_id, change);
        Ok(())
    }

    /// The owner invites somebody on the web page, beside whatever invites there are. The e-mail is none of the API's
    /// and is counted by [`web_mails`](Self::web_mails). Returns the invite's id.
    pub fn invite_on_web_page(&self, email: &str, role: &str) -> anyhow::Result<String> {
        check(email, role)?;
        let mut world = self.0.world.lock();
        let now = world.now();
        let expires_at = later(now, world.invite_lifetime);
        let organization = self.of(&mut world.organizations)?;
        let by = Inviter {
            id: organization.owner.id.clone(),
            name: organization.owner.username.clone(),
            is_service_key: false,
        };
        let standing = organization.standing(email, now);
        let invite = organization.invite_person(email, role, by, expires_at, now);
        world.web_mails.push(mail(&invite, 0, standing));
        Ok(invite.id)
    }

    /// A person is a member from now on. Returns the user's id.
    pub fn add_member(&self, email: &str, role: &str) -> anyhow::Result<String> {
        check(email, role)?;
        let mut world = self.0.world.lock();
        let now = world.now();
        Ok(self
            .of(&mut world.organizations)?
            .put_user(email, role, UserStatus::Active, now))
    }

    /// A member is none any more.
    pub fn remove_member(&self, email: &str) -> anyhow::Result<()> {
        self.change_user(email, |user| user.removed = true)
    }

    /// A user's status is another.
    pub fn set_user_status(&self, email: &str, status: UserStatus) -> anyhow::Result<()> {
        self.change_user(email, |user| user.status = status)
    }

    /// A member's role is another: somebody changed it on the web page.
    pub fn set_user_role(&self, email: &str, role: &str) -> anyhow::Result<()> {
        check(email, role)?;
        self.change_user(email, |user| role.clone_into(&mut user.role))
    }

    /// Whether the person is managed by the identity provider.
    pub fn set_idp_managed(&self, email: &str, managed: bool) -> anyhow::Result<()> {
        self.change_user(email, |user| user.idp_managed = managed)
    }

    fn change_user(&self, email: &str, change: impl FnOnce(&mut User)) -> anyhow::Result<()> {
        let mut world = self.0.world.lock();
        let now = world.now();
        let organization = self.of(&mut world.organizations)?;
        let id = organization
            .person(email)
            .context("no such user")?
            .id
            .clone();
        organization.change_user(&id, now, change);
        Ok(())
    }

    fn of<'a>(
        &self,
        organizations: &'a mut BTreeMap<String, Organization>,
    ) -> anyhow::Result<&'a mut Organization> {
        organizations
            .get_mut(&self.1)
            .context("no such organization")
    }
}

/// What there is.
impl Control {
    /// Every invite there ever was, oldest first.
    #[must_use]
    pub fn invites(&self) -> Vec<Invite> {
        self.look(|organization| organization.invites().cloned().collect())
    }

    /// The invite with this id.
    #[must_use]
    pub fn invite(&self, id: &str) -> Option<Invite> {
        self.look(|organization| organization.invite(id).cloned())
    }

    /// The invites to an address that can be accepted now, oldest first.
    #[must_use]
    pub fn live_invites(&self, email: &str) -> Vec<Invite> {
        let now = self.0.world.lock().now();
        self.look(|o| {
            o.invites_to(email)
                .filter(|invite| invite.is_live(now))
                .cloned()
                .collect()
        })
    }

    /// Everybody who was not removed, the invited among them, and the owner that an organization begins with.
    #[must_use]
    pub fn users(&self) -> Vec<User> {
        self.look(|organization| {
            organization
                .users()
                .filter(|user| !user.removed)
                .cloned()
                .collect()
        })
    }

    /// The user with this address.
    #[must_use]
    pub fn user(&self, email: &str) -> Option<User> {
        self.look(|organization| organization.person(email).cloned())
    }

    /// Whether the address is that of an `ACTIVE` user.
    #[must_use]
    pub fn is_member(&self, email: &str) -> bool {
        self.user(email)
            .is_some_and(|user| user.status == UserStatus::Active)
    }

    fn look<T: Default>(&self, look: impl FnOnce(&Organization) -> T) -> T {
        self.0
            .world
            .lock()
            .organizations
            .get(&self.1)
            .map(look)
            .unwrap_or_default()
    }

    /// How many e-mails the API sent to an address for the organization, in any spelling.
    #[must_use]
    pub fn emails_to(&self, email: &str) -> u32 {
        self.emails().get(&canonical(email)).copied().unwrap_or(0)
    }

    /// How many e-mails the API sent for the organization, by canonical address.
    #[must_use]
    pub fn emails(&self) -> BTreeMap<String, u32> {
        let mut counts = BTreeMap::new();
        for mail in self.mails() {
            *counts.entry(mail.address).or_default() += 1;
        }
        counts
    }

    /// The e-mails that the API sent for the organization, in order.
    #[must_use]
    pub fn mails(&self) -> Vec<Mail> {
        let world = self.0.world.lock();
        world
            .mails
            .iter()
            .filter(|mail| mail.organization_id == self.1)
            .cloned()
            .collect()
    }

    /// The e-mails that invites from the web page sent, in order.
    #[must_use]
    pub fn web_mails(&self) -> Vec<Mail> {
        let world = self.0.world.lock();
        world
            .web_mails
            .iter()
            .filter(|mail| mail.organization_id == self.1)
            .cloned()
            .collect()
    }
}

/// What the server was asked.
impl Control {
    /// Every call, in the order of arrival.
    #[must_use]
    pub fn calls(&self) -> Vec<Call> {
        self.0.world.lock().calls.clone()
    }

    /// The calls since a mark.
    #[must_use]
    pub fn calls_since(&self, mark: Mark) -> Vec<Call> {
        self.calls()
            .into_iter()
            .filter(|call| call.sequence > mark.0)
            .collect()
    }

    /// How many calls of an operation there were.
    #[must_use]
    pub fn count(&self, operation: Operation) -> usize {
        self.count_since(Mark(0), operation)
    }

    /// How many calls of an operation there were since a mark.
    #[must_use]
    pub fn count_since(&self, mark: Mark, operation: Operation) -> usize {
        let world = self.0.world.lock();
        let later = world.calls.iter().filter(|call| call.sequence > mark.0);
        later.filter(|call| call.operation == operation).count()
    }

    /// This moment, for counting what comes after it.
    #[must_use]
    pub fn mark(&self) -> Mark {
        Mark(self.0.world.lock().calls.len() as u64)
    }

    /// How many calls were answered 429.
    #[must_use]
    pub fn limited(&self) -> usize {
        let world = self.0.world.lock();
        world
            .calls
            .iter()
            .filter(|call| call.outcome == Outcome::Status(429))
            .count()
    }

    /// The requests that a correct client does not make.
    #[must_use]
    pub fn violations(&self) -> Vec<Violation> {
        self.0.world.lock().violations.clone()
    }

    /// Fails when there was a request that a correct client does not make.
    pub fn assert_contract_kept(&self) -> anyhow::Result<()> {
        let violations = self.violations();
        ensure!(
            violations.is_empty(),
            "breaches of the API's contract: {violations:#?}"
        );
        Ok(())
    }
}

/// How the server behaves.
impl Control {
    /// Gives other answers to what the documentation leaves open.
    pub fn set_behaviour(&self, behaviour: Behaviour) {
        self.0.world.lock().behaviour = behaviour;
    }

    /// Changes single answers.
    pub fn change_behaviour(&self, change: impl FnOnce(&mut Behaviour)) {
        change(&mut self.0.world.lock().behaviour);
    }

    /// How long invites from now on are valid.
    pub fn set_invite_lifetime(&self, lifetime: Duration) {
        self.0.world.lock().invite_lifetime = lifetime;
    }

    /// Moves the fake's clock away from the machine's, and with it expiry, timestamps and the `Date` header.
    pub fn set_clock_offset(&self, offset: SignedDuration) {
        self.0.world.lock().clock_offset = offset;
    }

    /// Limits the rate of calls, or lifts the limit. The buckets are full again.
    pub fn set_limits(&self, limits: Option<Limits>) {
        let mut world = self.0.world.lock();
        world.limits = limits;
        world.buckets = Buckets::default();
    }

    /// Makes calls go wrong. Of several answers in force the oldest is given; delays add up.
    pub fn fault(&self, target: impl Into<Target>, fault: Fault, times: Times) {
        self.0.world.lock().faults.add(target.into(), fault, times);
    }

    /// Makes the next calls about an address go wrong, one answer for each call of its operation, in this order and
    /// before what [`fault`](Self::fault) says, until they are used up or [cleared](Self::clear_faults_for).
    pub fn fault_for(
        &self,
        email: &str,
        answers: impl IntoIterator<Item = (Operation, HoldPoint, Answer)>,
    ) {
        let mut world = self.0.world.lock();
        world.faults.add_for(canonical(email), answers);
    }

    /// Ends the faults for an address.
    pub fn clear_faults_for(&self, email: &str) {
        self.0.world.lock().faults.clear_for(&canonical(email));
    }

    /// Ends all faults but those for an address. Gates are no faults.
    pub fn clear_faults(&self) {
        self.0.world.lock().faults.clear();
    }

    /// Holds the next call of an operation that gets as far as this point; others pass. Gates for the same point take
    /// one call each.
    pub fn hold(&self, operation: Operation, point: HoldPoint) -> Gate {
        let (held, gate) = Held::new(operation, point, None);
        self.0.world.lock().held.push(held);
        gate
    }

    /// The same for the next call that is about an address.
    pub fn hold_for(&self, operation: Operation, point: HoldPoint, email: &str) -> Gate {
        let (held, gate) = Held::new(operation, point, Some(canonical(email)));
        self.0.world.lock().held.push(held);
        gate
    }

    /// Does something once, after so many more pages of user lists were put together and before the last of them is
    /// answered: rows shift while a client reads.
    pub fn after_list_pages(&self, pages: u32, act: impl FnOnce(&Self) + Send + 'static) {
        self.0.world.lock().hooks.push((pages, Box::new(act)));
    }
}

fn check(email: &str, role: &str) -> anyhow::Result<()> {
    ensure!(is_email(email), "{email:?} is no e-mail address");
    ensure!(is_role(role), "{role:?} is no role");
    Ok(())
}
