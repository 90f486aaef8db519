//! One pass: every page of both lists, and whom their rows show.

use std::cmp::Reverse;
use std::collections::hash_map::Entry;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use super::{Directory, Pending, Person};
use crate::astro::budget::{Class, Verb};
use crate::astro::{Error, Invite, Listing, Subject, User, UserPage, UserStatus};
use crate::resources::Address;

/// Rows of one page.
const PAGE: usize = 100;
/// How often a pass steps back when rows moved under it, before it counts as failed.
const MOVES: u32 = 20;
/// How many rows of a page the next one repeats once rows have moved.
const OVERLAP: usize = 30;
/// How often a list is read again from its beginning when rows came in that were not seen.
const AGAIN: u32 = 2;
/// For how long a page may wait for Astro's limits before the pass counts as failed.
const PAUSED: Duration = Duration::from_mins(1);

impl Directory {
    /// One complete pass over both lists.
    ///
    /// The people with invites are read first: a person only ever goes from pending to member, so
    /// whoever accepts between the two lists is in one of them.
    pub(super) async fn pass(&self) -> Result<HashMap<Address, Person>, Error> {
        let invited = self.list(Listing::WithInvites).await?;
        let everybody = self.list(Listing::Everybody).await?;
        let mut people = HashMap::with_capacity(everybody.len().max(invited.len()));
        for (address, person) in everybody.into_iter().chain(invited) {
            insert(&mut people, address, person);
        }
        Ok(people)
    }

    /// The people of one list. Rows keep their order (oldest first) and move when one before them comes or goes, as
    /// when an invitation is taken back meanwhile. So each page begins with a row that was seen before: then none
    /// that was there all the time is missed.
    async fn list(&self, listing: Listing) -> Result<Vec<(Address, Person)>, Error> {
        let mut people = Vec::new();
        let mut inviter = None;
        let mut seen: HashSet<String> = HashSet::new();
        let mut offset = 0;
        let mut moved = 0;
        let mut again = 0;
        let mut last: Option<String> = None;
        loop {
            let page = self.page(listing, offset).await?;
            let rows = page.users.len();
            let first = page.users.first().map(|user| &user.id);
            let overlaps = if moved == 0 {
                first == last.as_ref()
            } else {
                first.is_some_and(|id| seen.contains(id))
            };
            if offset > 0 && !overlaps {
                moved += 1;
                if moved > MOVES {
                    return Err(inconsistent("changed too often while it was read"));
                }
                offset = offset.saturating_sub(PAGE - 1);
                continue;
            }
            let before = seen.len();
            last = page.users.last().map(|user| user.id.clone());
            for (number, user) in page.users.into_iter().enumerate() {
                let is_new = seen.insert(user.id.clone());
                // While nothing moves, each row but the repeated one is another, whoever it is of.
                if is_new || (moved == 0 && !(offset > 0 && number == 0)) {
                    people.extend(shown(user, listing, &mut inviter));
                }
            }
            if offset + rows >= page.total {
                if moved == 0 || seen.len() >= page.total {
                    return Ok(people);
                }
                // Rows came in before those that were read, or the server shows the same page again and again.
                again += 1;
                if again > AGAIN {
                    return Err(inconsistent("shows fewer people than it tells of"));
                }
                offset = 0;
                continue;
            }
            if seen.len() == before && rows < PAGE {
                return Err(inconsistent("shows fewer people than it tells of"));
            }
            // More rows may go before the next page is asked for.
            let overlap = if moved == 0 { 1 } else { OVERLAP };
            offset += rows.saturating_sub(overlap).max(1);
        }
    }

    async fn page(&self, listing: Listing, offset: usize) -> Result<UserPage, Error> {
        let mut paused = Duration::ZERO;
        loop {
            let permit = self.budget.wait(Verb::Get, Class::First, "directory");
            if tokio::time::timeout(PAUSED, permit).await.is_err() {
                return Err(Error::Unknown {
                    message: "Astro's limits let no reading pass for a while".to_owned(),
                    status: None,
                    request_id: None,
                });
            }
            match self.astro.list_users(listing, offset, PAGE).await {
                Err(Error::Refused(refusal)) if refusal.status == 429 => {
                    let pause = refusal.pause().max(Duration::from_secs(1));
                    self.budget.pause(Verb::Get, pause);
                    paused += pause;
                    if paused > PAUSED {
                        return Err(Error::Refused(refusal));
                    }
                }
                answer => return answer,
            }
        }
    }
}

fn inconsistent(what: &str) -> Error {
    Error::Unknown {
        message: format!("the list of users {what}"),
        status: None,
        request_id: None,
    }
}

/// Whom one row shows, and as what; `inviter` is that of the row before.
fn shown(
    user: User,
    listing: Listing,
    inviter: &mut Option<Arc<Subject>>,
) -> Option<(Address, Person)> {
    // A row without an address that we could invite is nobody's.
    let address = Address::parse(&user.username).ok()?;
    let person = match (user.status, listing) {
        (UserStatus::Active, _) => Person::Member {
            user_id: user.id,
            role: user.role,
        },
        (UserStatus::Inactive | UserStatus::Banned | UserStatus::Unknown, _) => Person::Barred,
        // Without an invite in the other list, the row is what is left of an ended one.
        (UserStatus::Pending, Listing::Everybody) => return None,
        (UserStatus::Pending, Listing::WithInvites) if user.invites.is_empty() => {
            Person::Unidentified
        }
        (UserStatus::Pending, Listing::WithInvites) => {
            let mut invites = Vec::with_capacity(user.invites.len());
            invites.extend(
                user.invites
                    .into_iter()
                    .map(|invite| pending(invite, inviter)),
            );
            invites.sort_by_key(|invite: &Pending| Reverse(invite.expires_at));
            Person::Pending {
                invites,
                role: user.role,
            }
        }
    };
    Some((address, person))
}

/// What is kept of an invite; of its inviter nothing, if it is the one before.
fn pending(invite: Invite, before: &mut Option<Arc<Subject>>) -> Pending {
    let inviter = invite.inviter.map(|inviter| match before {
        Some(before) if **before == inviter => Arc::clone(before),
        _ => Arc::clone(before.insert(Arc::new(inviter))),
    });
    Pending {
        id: invite.id.into(),
        expires_at: invite.expires_at,
        inviter,
    }
}

/// Adds what one row says. Several rows for one mailbox: a member outweighs everything, and then
/// whoever must not be written to.
fn insert(people: &mut HashMap<Address, Person>, address: Address, person: Person) {
    let weight = |person: &Person| match person {
        Person::Member { .. } => 3,
        Person::Barred => 2,
        Person::Unidentified => 1,
        Person::Pending { .. } => 0,
    };
    match people.entry(address) {
        Entry::Vacant(entry) => {
            entry.insert(person);
        }
        Entry::Occupied(mut entry) => match (entry.get_mut(), person) {
            (
                Person::Pending { invites, role },
                Person::Pending {
                    invites: more,
                    role: other,
                },
            ) => {
                // Which of the invitations has which is not told.
                role.take_if(|role| Some(*role) != other);
                invites.extend(more);
                invites.sort_by_key(|invite| Reverse(invite.expires_at));
            }
            (before, person) if weight(&person) > weight(before) => *before = person,
            _ => {}
        },
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::super::Lists;
    use super::*;
    use crate::astro::Role;
    use crate::astro::budget::{Budget, Rates};

    /// Of an Astro that announces more rows than it shows, and has another one at index 5 after so many calls.
    fn directory(rows: usize, announced: usize, inserts_after: usize) -> Arc<Directory> {
        let calls = AtomicUsize::new(0);
        let astro = Arc::new(Lists(move |offset, limit| {
            let user = |id: &String| User {
                id: id.clone(),
                username: format!("p{id}@example.com"),
                status: UserStatus::Active,
                role: None,
                invites: Vec::new(),
            };
            let mut rows: Vec<String> = (0..rows).map(|number| number.to_string()).collect();
            let mut total = announced;
            if calls.fetch_add(1, Ordering::Relaxed) >= inserts_after {
                rows.insert(5, "new".to_owned());
                total += 1;
            }
            let shown = rows.iter().skip(offset).take(limit);
            let users = shown.map(user).collect();
            Ok(UserPage { users, total })
        }));
        let budget = Arc::new(Budget::new(Rates::default()));
        Arc::new(Directory::new(
            astro,
            budget,
            Duration::ZERO,
            Duration::ZERO,
        ))
    }

    async fn read(rows: usize, announced: usize) -> Result<usize, Error> {
        let directory = directory(rows, announced, usize::MAX);
        directory.pass().await.map(|people| people.len())
    }

    /// Such as somebody whom Astro has known for longer, and who is invited while the list is read.
    #[tokio::test(start_paused = true)]
    async fn a_row_that_comes_in_behind_the_reading_ends_nothing() {
        for after in 0..5 {
            let people = directory(300, 300, after).pass().await.unwrap();
            assert_eq!(people.len(), 301, "after {after} calls");
        }
    }

    /// As when another call was answered 429 with a long pause.
    #[tokio::test(start_paused = true)]
    async fn a_reading_that_astros_limits_keep_waiting_has_failed() {
        let directory = directory(10, 10, usize::MAX);
        directory.budget.pause(Verb::Get, Duration::from_hours(1));
        let began = tokio::time::Instant::now();
        assert!(directory.pass().await.is_err());
        assert!(began.elapsed() <= PAUSED, "{:?}", began.elapsed());
    }

    /// An owner's invitation must not pass for a member's because another row has the same address.
    #[test]
    fn several_rows_with_different_roles_have_none_for_sure() {
        let (member, owner) = (Role::OrganizationMember, Role::OrganizationOwner);
        for (rows, expected) in [
            ([Some(member), Some(member)], Some(member)),
            ([Some(member), Some(owner)], None),
            ([Some(member), None], None),
            ([None, Some(owner)], None),
        ] {
            let mut people = HashMap::new();
            let address = Address::parse("jane@example.com").unwrap();
            for role in rows {
                let invites = Vec::new();
                insert(
                    &mut people,
                    address.clone(),
                    Person::Pending { invites, role },
                );
            }
            let Some(Person::Pending { role, .. }) = people.get(&address) else {
                unreachable!("nobody is a member")
            };
            assert_eq!(*role, expected, "{rows:?}");
        }
    }

    /// Whoever is in a row that is not shown would count as gone.
    #[tokio::test(start_paused = true)]
    async fn a_list_that_is_shorter_than_announced_is_no_list() {
        assert_eq!(read(150, 150).await.unwrap(), 150);
        for (rows, announced) in [(100, 150), (150, 151), (0, 1)] {
            assert!(
                read(rows, announced).await.is_err(),
                "{rows} of {announced}"
            );
        }
    }
}
