//! The way to the cluster through a proxy.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use parking_lot::Mutex;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::world::World;

/// A proxy that makes tunnels, and tells to where.
struct Proxy {
    address: SocketAddr,
    tunnels: Arc<Mutex<Vec<String>>>,
}

impl Proxy {
    async fn start() -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let proxy = Self {
            address: listener.local_addr().unwrap(),
            tunnels: Arc::default(),
        };
        let tunnels = Arc::clone(&proxy.tunnels);
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                tokio::spawn(tunnel(client, Arc::clone(&tunnels)));
            }
        });
        proxy
    }

    fn environment(&self, no_proxy: &str) -> Vec<(String, String)> {
        [
            ("HTTPS_PROXY", format!("http://{}", self.address)),
            ("NO_PROXY", no_proxy.to_owned()),
        ]
        .map(|(name, value)| (name.to_owned(), value))
        .into()
    }

    fn tunnels(&self) -> Vec<String> {
        self.tunnels.lock().clone()
    }
}

async fn tunnel(mut client: TcpStream, tunnels: Arc<Mutex<Vec<String>>>) -> Option<()> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(client.read_u8().await.ok()?);
    }
    let head = String::from_utf8(head).ok()?;
    let target = head.strip_prefix("CONNECT ")?.split(' ').next()?;
    tunnels.lock().push(target.to_owned());
    let mut server = TcpStream::connect(target).await.ok()?;
    client
        .write_all(b"HTTP/1.1 200 Connection established\r\n\r\n")
        .await
        .ok()?;
    tokio::io::copy_bidirectional(&mut client, &mut server)
        .await
        .ok()?;
    Some(())
}

async fn invites_with(environment: Vec<(String, String)>) -> World {
    let mut world = World::prepare(json!({})).await;
    world.environment = environment;
    world.start_operator();
    world.apply("jane", "jane@example.com").await;
    world.state("jane", "Invited").await;
    world
}

#[tokio::test(flavor = "multi_thread")]
async fn the_cluster_is_reached_through_a_proxy() {
    let proxy = Proxy::start().await;
    let world = invites_with(proxy.environment("")).await;
    let tunnels = proxy.tunnels();
    let cluster = world.api_server().to_string();
    assert!(!tunnels.is_empty());
    assert!(tunnels.iter().all(|one| *one == cluster), "{tunnels:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn no_proxy_may_name_the_cluster() {
    let proxy = Proxy::start().await;
    let _world = invites_with(proxy.environment("example.com,127.0.0.0/8")).await;
    assert_eq!(proxy.tunnels(), Vec::<String>::new());
}
