//! The watch of one process on the OrgInvites: in order, late, and read afresh when asked.

use std::sync::Arc;

use futures::{Stream, StreamExt as _};
use kube::runtime::WatchStreamExt as _;
use kube::runtime::reflector::ObjectRef;
use kube::runtime::reflector::store::Writer;
use kube::runtime::watcher::{self, Event};
use orginvite_operator::reconcile::cache::slim;
use orginvite_operator::reconcile::context::Context;
use orginvite_operator::resources::OrgInvite;
use tokio::sync::{mpsc, oneshot};
use tokio_stream::wrappers::UnboundedReceiverStream;

use crate::api_server::Change;
use crate::network::{Call, send};
use crate::world::{State, World};

/// Asks for a consistent list; answered when the cache has it.
pub type Relist = oneshot::Sender<()>;

type Told = watcher::Result<Event<OrgInvite>>;

/// Feeds the cache of `context` for ever, as the operator's wiring does it.
pub async fn follow(
    world: Arc<World>,
    context: Arc<Context>,
    writer: Writer<OrgInvite>,
    mut relists: mpsc::UnboundedReceiver<Relist>,
) {
    let (tell, told) = mpsc::unbounded_channel::<Told>();
    let trigger = context.trigger_invites.clone();
    let events = UnboundedReceiverStream::new(told)
        .modify(slim)
        .reflect(writer);
    let mut events = Box::pin(context.invites.clone().follow(events, move |others| {
        for other in others {
            trigger.send(other).ok();
        }
    }));
    let mut place = None;
    loop {
        tokio::select! { biased;
            Some(done) = relists.recv() => {
                // Objects and the place of the watch in one answer.
                let list = |state: &mut State| {
                    (state.api.all().cloned().collect::<Vec<_>>(), state.api.place())
                };
                // Without an answer nobody is told that it is done, and it is asked for again.
                let Ok((objects, at)) = send(&world, Call::Read, list).await else { continue };
                place = Some(at);
                tell.send(Ok(Event::Init)).unwrap();
                for object in objects {
                    tell.send(Ok(Event::InitApply(object))).unwrap();
                }
                tell.send(Ok(Event::InitDone)).unwrap();
                pass_on(&context, &mut events).await;
                done.send(()).ok();
            }
            () = world.when(|state| place.is_some_and(|place| state.api.place() > place)) => {
                let lag = world.with(|state| {
                    let longest = state.network.weather.watch_lag;
                    state.some(longest)
                });
                tokio::time::sleep(lag).await;
                if let Some(place) = &mut place {
                    let change = world.with(|state| state.api.changes_from(*place)[0].clone());
                    *place += 1;
                    tell.send(Ok(match change {
                        Change::Applied(object) => Event::Apply(object),
                        Change::Deleted(object) => Event::Delete(object),
                    })).unwrap();
                    pass_on(&context, &mut events).await;
                }
            }
        }
    }
}

/// Lets the cache take what it was told, and triggers the objects concerned.
async fn pass_on(context: &Context, events: &mut (impl Stream<Item = Told> + Unpin)) {
    while let Some(Some(event)) = futures::FutureExt::now_or_never(events.next()) {
        if let Ok(Event::Apply(object) | Event::InitApply(object)) = event {
            context
                .trigger_invites
                .send(ObjectRef::from_obj(&object))
                .ok();
        }
    }
}
