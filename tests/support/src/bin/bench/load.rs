//! What users do: create and delete objects.

use std::collections::HashMap;
use std::ops::Range;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use futures::{StreamExt as _, TryStreamExt as _, stream};
use kube::Api;
use kube::api::{DeleteParams, PostParams};

use super::world::{Invite, World, object_name};

/// How many requests are under way at once.
const CONCURRENCY: usize = 50;

/// When a request was sent and when it was answered, by the object's name.
pub type Requests = HashMap<String, (Instant, Instant)>;

/// Creates objects for the people of these numbers, all at once.
pub async fn create(world: &World, numbers: Range<usize>) -> anyhow::Result<Requests> {
    create_in(&world.invites(), world, numbers).await
}

/// The same in that API's namespace.
pub async fn create_in(
    api: &Api<Invite>,
    world: &World,
    numbers: Range<usize>,
) -> anyhow::Result<Requests> {
    stream::iter(numbers)
        .map(|number| {
            let (api, object) = (api.clone(), world.invite(number));
            async move {
                let sent = Instant::now();
                api.create(&PostParams::default(), &object)
                    .await
                    .context("creating an object")?;
                anyhow::Ok((object_name(number), (sent, Instant::now())))
            }
        })
        .buffer_unordered(CONCURRENCY)
        .try_collect()
        .await
}

/// Creates objects one by one, so many a second.
pub async fn create_paced(
    world: &World,
    numbers: Range<usize>,
    per_second: u32,
) -> anyhow::Result<Requests> {
    let api = world.invites();
    let mut pace = tokio::time::interval(Duration::from_secs(1) / per_second);
    let mut requests = Requests::new();
    for number in numbers {
        pace.tick().await;
        let sent = Instant::now();
        api.create(&PostParams::default(), &world.invite(number))
            .await
            .context("creating an object")?;
        requests.insert(object_name(number), (sent, Instant::now()));
    }
    Ok(requests)
}

/// Deletes the objects for the people of these numbers, all at once.
pub async fn delete(world: &World, numbers: Range<usize>) -> anyhow::Result<Requests> {
    let api = world.invites();
    stream::iter(numbers)
        .map(|number| {
            let api = api.clone();
            async move {
                let name = object_name(number);
                let sent = Instant::now();
                api.delete(&name, &DeleteParams::default())
                    .await
                    .context("deleting an object")?;
                anyhow::Ok((name, (sent, Instant::now())))
            }
        })
        .buffer_unordered(CONCURRENCY)
        .try_collect()
        .await
}
