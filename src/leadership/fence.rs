//! No call to Astro outside of the term that it belongs to.

use std::sync::{Arc, Weak};

use async_trait::async_trait;
use jiff::Timestamp;

use super::{Leadership, Term};
use crate::astro::{Astro, Error, Invite, Listing, Role, UserPage};

/// Calls to Astro that belong to one term: after its end, none goes out.
///
/// The reads have no other check before them. The calls that change Astro do, where it also decides
/// what happens instead.
pub struct Fenced<A> {
    astro: A,
    leadership: Arc<Leadership>,
    // The term owns its connections, and they own this.
    term: Weak<Term>,
}

impl<A: Astro> Fenced<A> {
    /// Lets the calls of `astro` through while `term` lasts.
    pub fn new(astro: A, leadership: Arc<Leadership>, term: &Arc<Term>) -> Self {
        Self {
            astro,
            leadership,
            term: Arc::downgrade(term),
        }
    }

    fn open(&self) -> Result<&A, Error> {
        let holds = self
            .term
            .upgrade()
            .is_some_and(|term| self.leadership.holds(&term));
        if holds {
            return Ok(&self.astro);
        }
        Err(Error::Unknown {
            message: "not sent: this process does not lead any more".to_owned(),
            status: None,
            request_id: None,
        })
    }
}

#[async_trait]
impl<A: Astro> Astro for Fenced<A> {
    async fn create_invite(&self, email: &str, role: Role) -> Result<Invite, Error> {
        self.open()?.create_invite(email, role).await
    }

    async fn get_invite(&self, id: &str) -> Result<Invite, Error> {
        self.open()?.get_invite(id).await
    }

    async fn delete_invite(&self, id: &str) -> Result<(), Error> {
        self.open()?.delete_invite(id).await
    }

    async fn list_users(
        &self,
        listing: Listing,
        offset: usize,
        limit: usize,
    ) -> Result<UserPage, Error> {
        self.open()?.list_users(listing, offset, limit).await
    }

    fn server_time(&self) -> Option<Timestamp> {
        self.astro.server_time()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};
    use std::time::Duration;

    use tokio::time::Instant;

    use super::*;

    /// Counts the calls that get through.
    #[derive(Default)]
    struct Counting(Arc<AtomicU32>);

    impl Counting {
        fn count<T>(&self) -> Result<T, Error> {
            self.0.fetch_add(1, Ordering::Relaxed);
            Err(Error::Unknown {
                message: String::new(),
                status: None,
                request_id: None,
            })
        }
    }

    #[async_trait]
    impl Astro for Counting {
        async fn create_invite(&self, _: &str, _: Role) -> Result<Invite, Error> {
            self.count()
        }
        async fn get_invite(&self, _: &str) -> Result<Invite, Error> {
            self.count()
        }
        async fn delete_invite(&self, _: &str) -> Result<(), Error> {
            self.count()
        }
        async fn list_users(&self, _: Listing, _: usize, _: usize) -> Result<UserPage, Error> {
            self.count()
        }
        fn server_time(&self) -> Option<Timestamp> {
            None
        }
    }

    async fn call_everything(astro: &impl Astro) {
        let _ = astro.create_invite("", Role::OrganizationMember).await;
        let _ = astro.get_invite("").await;
        let _ = astro.delete_invite("").await;
        let _ = astro.list_users(Listing::Everybody, 0, 1).await;
    }

    #[tokio::test(start_paused = true)]
    async fn calls_go_out_within_their_own_term_only() {
        let leadership = Arc::new(Leadership::new(Duration::from_secs(10)));
        let count = Arc::new(AtomicU32::new(0));
        let term = leadership.renew(Instant::now()).unwrap();
        let fenced = Fenced::new(Counting(Arc::clone(&count)), Arc::clone(&leadership), &term);
        call_everything(&fenced).await;
        assert_eq!(count.load(Ordering::Relaxed), 4);
        tokio::time::advance(Duration::from_secs(10)).await;
        call_everything(&fenced).await;
        leadership.renew(Instant::now()).unwrap();
        call_everything(&fenced).await;
        assert_eq!(
            count.load(Ordering::Relaxed),
            4,
            "neither after the term nor in the next one"
        );
    }
}
