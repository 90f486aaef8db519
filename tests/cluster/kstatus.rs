//! Every status that the API server ever shows reads right under the kstatus conventions: tools that
//! wait for objects (kubectl wait, Flux) are never told something wrong.

use std::collections::HashMap;
use std::sync::Arc;

use futures::StreamExt;
use kube::runtime::watcher::Event;
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, Client, ResourceExt};
use orginvite_operator::resources::{OrgInvite, Reason};
use parking_lot::Mutex;

/// What was wrong with a status, at whatever moment.
#[derive(Clone, Default)]
pub struct Judge(Arc<Mutex<Vec<String>>>);

impl Judge {
    /// Watches a namespace until the runtime ends.
    pub fn watch(client: Client, namespace: &str) -> Self {
        let judge = Self::default();
        let found = judge.0.clone();
        let api: Api<OrgInvite> = Api::namespaced(client, namespace);
        tokio::spawn(async move {
            let events = watcher(api, watcher::Config::default()).default_backoff();
            let mut events = std::pin::pin!(events);
            let mut before: HashMap<String, OrgInvite> = HashMap::new();
            while let Some(event) = events.next().await {
                let object = match event {
                    Ok(Event::Apply(object) | Event::Delete(object) | Event::InitApply(object)) => {
                        object
                    }
                    // What came in between is not known.
                    Ok(Event::Init) => {
                        before.clear();
                        continue;
                    }
                    Ok(Event::InitDone) | Err(_) => continue,
                };
                let uid = object.uid().unwrap_or_default();
                let wrong = wrong(&object, before.get(&uid));
                found.lock().extend(wrong);
                before.insert(uid, object);
            }
        });
        judge
    }

    pub fn verdict(&self) -> Vec<String> {
        self.0.lock().clone()
    }
}

/// What is wrong with the status of `object`, which was `before`.
fn wrong(object: &OrgInvite, before: Option<&OrgInvite>) -> Vec<String> {
    let Some(status) = &object.status else {
        return vec![format!("{}: no status", object.name_any())];
    };
    let is = |kind: &str| {
        let condition = status.conditions.iter().find(|one| one.type_ == kind);
        condition.map(|one| one.status.as_str())
    };
    let (ready, reconciling, stalled) = (is("Ready"), is("Reconciling"), is("Stalled"));
    let new = status.observed_generation < 0;
    let busy = new || Some(status.observed_generation) != object.metadata.generation;
    let mut wrong = Vec::new();
    let mut demand = |holds: bool, what: &str| {
        if !holds {
            wrong.push(format!("{}: {what}: {status:#?}", object.name_any()));
        }
    };
    demand(
        [reconciling, stalled]
            .iter()
            .all(|one| matches!(one, None | Some("True"))),
        "Reconciling and Stalled are there only while they are true",
    );
    demand(
        reconciling.is_none() || stalled.is_none(),
        "it is either under way or waits for a person",
    );
    demand(
        stalled.is_none() || ready == Some("False"),
        "what waits for a person is not ready",
    );
    demand(
        ready != Some("Unknown") || reconciling.is_some(),
        "what is unknown is under way",
    );
    demand(
        ready != Some("False") || reconciling.is_some() || stalled.is_some(),
        "what is not ready says whether it goes on by itself",
    );
    demand(
        new || ready.is_some() || !status.conditions.is_empty() || busy,
        "what was observed has a Ready condition",
    );
    demand(
        object.metadata.generation >= Some(status.observed_generation),
        "no generation is observed before it is there",
    );
    for one in &status.conditions {
        // kubectl wait goes by the condition's own, whatever the status observed. A new object's is -1, a condition's
        // at least 0.
        demand(
            reconciling.is_some()
                || one.observed_generation <= Some(status.observed_generation.max(0)),
            "no condition is of a later generation than what was observed",
        );
        demand(
            Reason::ALL
                .iter()
                .any(|reason| reason.as_str() == one.reason),
            "every reason is documented",
        );
        demand(one.message.len() > 10, "every condition has a message");
        let earlier = before
            .and_then(|before| before.status.as_ref())
            .and_then(|status| status.conditions.iter().find(|it| it.type_ == one.type_));
        demand(
            earlier.is_none_or(|earlier| {
                earlier.status != one.status
                    || earlier.last_transition_time == one.last_transition_time
            }),
            "a transition time changes only with the status",
        );
    }
    wrong
}
