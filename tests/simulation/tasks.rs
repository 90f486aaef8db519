//! The tasks of one process: paused together, as when its machine stops, and ended together.

use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use futures::FutureExt as _;
use parking_lot::Mutex;
use tokio::task::{AbortHandle, JoinHandle};

use crate::world::World;

/// The tasks of one process.
#[derive(Clone)]
pub struct Tasks {
    world: Arc<World>,
    shared: Arc<Mutex<Shared>>,
}

#[derive(Default)]
struct Shared {
    paused: bool,
    waiting: Vec<Waker>,
    handles: Vec<AbortHandle>,
}

impl Tasks {
    pub fn new(world: &Arc<World>) -> Self {
        Self {
            world: Arc::clone(world),
            shared: Arc::default(),
        }
    }

    /// Runs `future` as a part of the process. A panic breaks the run.
    pub fn spawn(&self, future: impl Future<Output = ()> + Send + 'static) -> JoinHandle<()> {
        let world = Arc::clone(&self.world);
        let guarded = async move {
            if AssertUnwindSafe(future).catch_unwind().await.is_err() {
                world.with(|state| state.violate("a panic"));
            }
        };
        let handle = tokio::spawn(Pausable {
            future: Box::pin(guarded),
            shared: Arc::clone(&self.shared),
        });
        let mut shared = self.shared.lock();
        shared.handles.retain(|handle| !handle.is_finished());
        shared.handles.push(handle.abort_handle());
        handle
    }

    /// Nothing of the process goes on until [`Tasks::resume`]; what it sent is on its way.
    pub fn pause(&self) {
        self.shared.lock().paused = true;
    }

    /// Everything goes on, with no idea that time has passed.
    pub fn resume(&self) {
        let mut shared = self.shared.lock();
        shared.paused = false;
        for waker in shared.waiting.drain(..) {
            waker.wake();
        }
    }

    /// Ends the process.
    pub fn end(&self) {
        for handle in self.shared.lock().handles.drain(..) {
            handle.abort();
        }
    }
}

struct Pausable {
    future: Pin<Box<dyn Future<Output = ()> + Send>>,
    shared: Arc<Mutex<Shared>>,
}

impl Future for Pausable {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        {
            let mut shared = self.shared.lock();
            if shared.paused {
                shared.waiting.push(cx.waker().clone());
                return Poll::Pending;
            }
        }
        self.future.as_mut().poll(cx)
    }
}
