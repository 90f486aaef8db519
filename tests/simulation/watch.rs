//! The watch of one process on the OrgInvites: in order, and late.

use std::sync::Arc;
use std::time::Duration;

use futures::{Stream, StreamExt as _};
use kube::runtime::WatchStreamExt as _;
use kube::runtime::reflector::ObjectRef;
use kube::runtime::reflector::store::Writer;
use kube::runtime::watcher::{self, Event};
use orginvite_operator::reconcile::cache::slim;
use orginvite_operator::reconcile::context::Context;
use orginvite_operator::resources::OrgInvite;
use tokio::sync::mpsc;
use tokio_stream::wrappers::UnboundedReceiverStream;

use crate::api_server::Change;
use crate::network::{Call, send};
use crate::world::World;

type Told = watcher::Result<Event<OrgInvite>>;

/// Feeds the cache of `context` for ever, as the operator's wiring does it.
pub async fn follow(world: Arc<World>, context: Arc<Context>, writer: Writer<OrgInvite>) {
    let (tell, told) = mpsc::unbounded_channel::<Told>();
    let triggering = Arc::clone(&context);
    let events = UnboundedReceiverStream::new(told)
        .modify(slim)
        .reflect(writer);
    let invites = context.invites.clone();
    let mut events = Box::pin(invites.follow(events, move |other| triggering.trigger(other)));
    let (objects, mut place) = list(&world).await;
    let objects = objects.into_iter().map(Event::InitApply);
    for event in std::iter::once(Event::Init)
        .chain(objects)
        .chain([Event::InitDone])
    {
        tell.send(Ok(event)).unwrap();
    }
    pass_on(&context, &mut events).await;
    loop {
        world.when(|state| state.api.place() > place).await;
        let lag = world.with(|state| {
            let longest = state.network.weather.watch_lag;
            state.some(longest)
        });
        tokio::time::sleep(lag).await;
        let event = world.with(|state| match &state.api.changes_from(place)[0] {
            Change::Applied(object) => Event::Apply(object.clone()),
            Change::Deleted(object) => Event::Delete(object.clone()),
        });
        place += 1;
        tell.send(Ok(event)).unwrap();
        pass_on(&context, &mut events).await;
    }
}

/// The objects, and the place of the watch behind them, in one answer.
async fn list(world: &Arc<World>) -> (Vec<OrgInvite>, usize) {
    loop {
        let answer = send(world, Call::Read, |state| {
            (state.api.all().cloned().collect(), state.api.place())
        });
        if let Ok(list) = answer.await {
            return list;
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
}

/// Lets the cache take what it was told, and triggers the objects concerned.
async fn pass_on(context: &Context, events: &mut (impl Stream<Item = Told> + Unpin)) {
    // However many there are: tokio would let other tasks go on in between.
    let mut next = async || tokio::task::unconstrained(events.next()).await;
    while let Some(Some(event)) = futures::FutureExt::now_or_never(next()) {
        if let Ok(Event::Apply(object) | Event::InitApply(object)) = event {
            context
                .trigger_invites
                .send(ObjectRef::from_obj(&object))
                .ok();
        }
    }
}
