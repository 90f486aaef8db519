//! What a new term does before it plans anything: rule 6 of the one-e-mail protocol.
//!
//! A standby's caches may be behind: another leader may have written a moment ago. So a new term
//! lists what it plans from, consistently, and waits until its caches show at least that.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::Namespace;
use kube::api::ListParams;
use kube::core::ObjectMeta;
use kube::{Api, Resource};
use tokio::time::Instant;

use crate::leadership::Term;
use crate::reconcile::cache::Kind;
use crate::reconcile::context::Context;
use crate::reconcile::memory::version;
use crate::resources::{OrgInvite, Organization};
use crate::stored::{self, PAGE, list_metadata};

/// How often the cache is compared while it is behind.
const GLANCE: Duration = Duration::from_millis(20);
/// How long the cache may be behind one list before there is another: what is listed and deleted
/// right away never shows, and perhaps nothing else changes.
const PATIENCE: Duration = Duration::from_secs(2);
/// How long a page of a list may take.
const PAGE_DEADLINE: Duration = Duration::from_secs(10);

/// Waits until the caches are new enough for `term`, opens it, and has everything planned. Returns
/// early when the term ends before.
pub async fn begin(term: &Arc<Term>, context: &Context) {
    let began = Instant::now();
    let client = &context.client;
    let organizations = catch_up(
        Kind::Organizations,
        Api::<Organization>::all(client.clone()),
        ListParams::default(),
        || context.organizations.state(),
        term,
        context,
    );
    let namespaces = catch_up(
        Kind::Namespaces,
        Api::<Namespace>::all(client.clone()),
        ListParams::default(),
        || context.namespaces.state(),
        term,
        context,
    );
    let invites = catch_up(
        Kind::OrgInvites,
        Api::<OrgInvite>::all(client.clone()),
        ListParams {
            field_selector: context.invite_selector(),
            ..ListParams::default()
        },
        || context.invites.all(),
        term,
        context,
    );
    let (organizations, namespaces, invites) = tokio::join!(organizations, namespaces, invites);
    if !(organizations && namespaces && invites) {
        return;
    }
    term.open();
    tracing::info!(
        milliseconds = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX),
        "the caches are new enough: planning begins"
    );
    for object in context.organizations.state() {
        context.trigger_organization(&object);
    }
    context.trigger_all();
}

/// Waits until `cache` shows what a consistent list shows, or what came after. False when the term ends before.
async fn catch_up<L, C>(
    kind: Kind,
    api: Api<L>,
    selection: ListParams,
    cache: impl Fn() -> Vec<Arc<C>>,
    term: &Arc<Term>,
    context: &Context,
) -> bool
where
    L: Resource<DynamicType = ()> + Clone,
    C: Resource<DynamicType = ()> + Clone + 'static,
{
    let what = kind.plural();
    let holds = || context.leadership.holds(term);
    while holds() {
        let listed = match list(&api, selection.clone()).await {
            Ok(Some(listed)) => listed,
            Ok(None) => {
                tracing::warn!(what, "the cluster gave no list in time; it is asked again");
                continue;
            }
            Err(error) => {
                tracing::warn!(%error, what, "the cluster gave no list; it is asked again");
                tokio::time::sleep(PATIENCE).await;
                continue;
            }
        };
        let until = Instant::now() + PATIENCE;
        while Instant::now() < until && holds() {
            // What is listed and deleted right away never shows: then a later change tells.
            if context.filled.version(kind) >= listed.version
                || listed.is_in(cache().iter().map(|object| object.meta()))
            {
                return true;
            }
            tokio::time::sleep(GLANCE).await;
        }
        tracing::warn!(
            what,
            "a cache is behind the cluster: nothing is planned meanwhile"
        );
    }
    false
}

/// What a consistent list shows.
struct Listed {
    /// The resource version of the list.
    version: u64,
    /// Resource versions by UID.
    objects: HashMap<String, u64>,
}

impl Listed {
    /// Whether a cache with those objects is at least as new.
    fn is_in<'a>(&self, cache: impl Iterator<Item = &'a ObjectMeta>) -> bool {
        let mut shown = 0;
        for object in cache {
            let (Some(uid), Some(at)) = (&object.uid, version(object)) else {
                return false;
            };
            match self.objects.get(uid) {
                Some(listed) if at < *listed => return false,
                Some(_) => shown += 1,
                // Gone since the cache saw it, unless it is younger than the list.
                None if at <= self.version => return false,
                None => {}
            }
        }
        shown == self.objects.len()
    }
}

/// Lists without a resource version: what etcd has, and never what some cache remembers. `None` when
/// there is no answer in time.
async fn list<K>(api: &Api<K>, selection: ListParams) -> Result<Option<Listed>, kube::Error>
where
    K: Resource<DynamicType = ()> + Clone,
{
    let mut params = selection.limit(PAGE);
    let mut objects = HashMap::new();
    loop {
        let answer = tokio::time::timeout(PAGE_DEADLINE, list_metadata(api, &params)).await;
        let Ok(page) = answer else {
            return Ok(None);
        };
        let page = page?;
        for stored::Listed(object) in page.items {
            let at = version(&object).unwrap_or(u64::MAX);
            objects.insert(object.uid.unwrap_or_default(), at);
        }
        match page.metadata.continue_ {
            Some(token) if !token.is_empty() => params = params.continue_token(&token),
            // All pages are of one moment.
            _ => {
                let version = page.metadata.resource_version;
                return Ok(Some(Listed {
                    version: version
                        .and_then(|version| version.parse().ok())
                        .unwrap_or(u64::MAX),
                    objects,
                }));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn object(uid: &str, version: u64) -> ObjectMeta {
        ObjectMeta {
            uid: Some(uid.to_owned()),
            resource_version: Some(version.to_string()),
            ..ObjectMeta::default()
        }
    }

    #[test]
    fn a_cache_is_new_enough_when_nothing_in_it_is_older_than_the_list() {
        let listed = Listed {
            version: 10,
            objects: HashMap::from([("a".to_owned(), 3), ("b".to_owned(), 8)]),
        };
        let cases = [
            (vec![("a", 3), ("b", 8)], true, "the same"),
            (vec![("a", 12), ("b", 8)], true, "written after the list"),
            (vec![("a", 3), ("b", 7)], false, "a write is missing"),
            (vec![("a", 3)], false, "an object is missing"),
            (
                vec![("a", 3), ("b", 8), ("c", 11)],
                true,
                "created after the list",
            ),
            (
                vec![("a", 3), ("b", 8), ("c", 9)],
                false,
                "a deletion is missing",
            ),
            (vec![], false, "empty"),
        ];
        for (cache, expected, case) in cases {
            let cache: Vec<_> = cache
                .into_iter()
                .map(|(uid, version)| object(uid, version))
                .collect();
            assert_eq!(listed.is_in(cache.iter()), expected, "{case}");
        }
    }
}
