//! A connection that can be cut: what a partition of the network is to a process.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// Passes connections on to one address.
pub struct Cable {
    address: SocketAddr,
    line: Arc<Line>,
    server: JoinHandle<()>,
}

struct Line {
    /// Bytes that came from the client's side.
    sent: AtomicU64,
    /// Connections with a lower number pass nothing on.
    stalled_below: watch::Sender<u64>,
    /// Connections with a lower number are closed.
    severed_below: watch::Sender<u64>,
    /// Whether what is sent from now on gets no answer.
    withholds: watch::Sender<bool>,
    /// How many connections there were.
    opened: AtomicU64,
}

impl Cable {
    /// A cable to `target`.
    pub async fn to(target: SocketAddr) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let line = Arc::new(Line {
            sent: AtomicU64::new(0),
            stalled_below: watch::Sender::new(0),
            severed_below: watch::Sender::new(0),
            withholds: watch::Sender::new(false),
            opened: AtomicU64::new(0),
        });
        let server = tokio::spawn({
            let line = Arc::clone(&line);
            async move {
                while let Ok((client, _)) = listener.accept().await {
                    let number = line.opened.fetch_add(1, Ordering::SeqCst);
                    let line = Arc::clone(&line);
                    tokio::spawn(async move {
                        let mut severed_below = line.severed_below.subscribe();
                        tokio::select! {
                            () = Arc::clone(&line).pass(number, client, target) => {}
                            _ = severed_below.wait_for(|below| number < *below) => {}
                        }
                    });
                }
            }
        });
        Self {
            address,
            line,
            server,
        }
    }

    /// Where to connect to.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// How many bytes the client has sent.
    pub fn sent(&self) -> u64 {
        self.line.sent.load(Ordering::SeqCst)
    }

    /// The same, once nothing more comes of what it had begun.
    pub async fn sent_at_last(&self) -> u64 {
        loop {
            let before = self.sent();
            tokio::time::sleep(Duration::from_millis(200)).await;
            if self.sent() == before {
                return before;
            }
        }
    }

    /// Nothing passes any more, and nobody is told: packets are lost on the way.
    pub fn cut(&self) {
        self.line.stalled_below.send_replace(u64::MAX);
    }

    /// The same for the connections that there are; new ones work.
    pub fn stall(&self) {
        let opened = self.line.opened.load(Ordering::SeqCst);
        self.line.stalled_below.send_replace(opened);
    }

    /// Closes the connections that there are; what they held up is lost.
    pub fn sever(&self) {
        let opened = self.line.opened.load(Ordering::SeqCst);
        self.line.severed_below.send_replace(opened);
    }

    /// Requests arrive from now on, and their answers do not. What was asked before, such as a watch, goes on.
    pub fn withhold_answers(&self) {
        self.line.withholds.send_replace(true);
    }

    /// Everything passes again, what was held up included.
    pub fn mend(&self) {
        self.line.withholds.send_replace(false);
        self.line.stalled_below.send_replace(0);
    }
}

impl Drop for Cable {
    fn drop(&mut self) {
        self.server.abort();
        self.mend();
    }
}

impl Line {
    async fn pass(self: Arc<Self>, number: u64, client: TcpStream, target: SocketAddr) {
        self.works(number).await;
        let Ok(server) = TcpStream::connect(target).await else {
            return;
        };
        let (mut from_client, mut to_client) = client.into_split();
        let (mut from_server, mut to_server) = server.into_split();
        let unanswered = AtomicBool::new(false);
        let out = async {
            let mut buffer = vec![0; 16 << 10];
            let mut greeted = false;
            while let Ok(length @ 1..) = from_client.read(&mut buffer).await {
                self.sent.fetch_add(length as u64, Ordering::SeqCst);
                // Without an answer to its greeting, the client would not get as far as to ask.
                if greeted && *self.withholds.borrow() {
                    unanswered.store(true, Ordering::SeqCst);
                }
                greeted = true;
                self.works(number).await;
                if to_server.write_all(&buffer[..length]).await.is_err() {
                    break;
                }
            }
        };
        let back = async {
            let mut buffer = vec![0; 16 << 10];
            let mut withholds = self.withholds.subscribe();
            while let Ok(length @ 1..) = from_server.read(&mut buffer).await {
                self.works(number).await;
                if unanswered.load(Ordering::SeqCst) {
                    // Fails only when the cable is gone.
                    let _ = withholds.wait_for(|withholds| !*withholds).await;
                    unanswered.store(false, Ordering::SeqCst);
                }
                if to_client.write_all(&buffer[..length]).await.is_err() {
                    break;
                }
            }
        };
        // Either end closes both: HTTP/1.1 needs no half-open connections.
        tokio::select! {
            () = out => {}
            () = back => {}
        }
    }

    /// Waits while the connection is stalled.
    async fn works(&self, number: u64) {
        let mut stalled_below = self.stalled_below.subscribe();
        stalled_below.wait_for(|below| number >= *below).await.ok();
    }
}
