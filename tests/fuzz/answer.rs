//! Whatever a server answers in place of Astro: the first byte chooses the call, the rest is sent as it is.
#![no_main]

use std::time::Duration;

use jiff::Timestamp;
use libfuzzer_sys::fuzz_target;
use orginvite_operator::astro::http::{CLOCK_TOLERANCE, Client, Endpoint};
use orginvite_operator::astro::{Astro, Error, Listing, Role};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::runtime::Runtime;

const TOKEN: &str = "planted-token";

struct World {
    runtime: Runtime,
    listener: TcpListener,
    client: Client,
}

impl World {
    fn new() -> Self {
        rustls::crypto::ring::default_provider()
            .install_default()
            .ok();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
        let url = format!("http://{}/v1alpha1", listener.local_addr().unwrap());
        let endpoint = Endpoint::with_deadline(&url, Duration::from_secs(1)).unwrap();
        let client = Client::new(&endpoint, "org1", TOKEN.into());
        Self {
            runtime,
            listener,
            client,
        }
    }

    async fn answer(&self, answer: &[u8]) {
        loop {
            let (mut stream, _) = self.listener.accept().await.unwrap();
            let mut request = Vec::new();
            while !request.windows(4).any(|end| end == b"\r\n\r\n") {
                if stream.read_buf(&mut request).await.unwrap_or_default() == 0 {
                    break;
                }
            }
            stream.write_all(answer).await.ok();
            stream.shutdown().await.ok();
            tokio::io::copy(&mut stream, &mut tokio::io::sink())
                .await
                .ok();
        }
    }

    async fn call(&self, kind: u8) -> Result<String, Error> {
        let client = &self.client;
        let role = Role::OrganizationMember;
        Ok(match kind % 4 {
            0 => format!(
                "{:?}",
                client.create_invite("ann@astro.example", role).await?
            ),
            1 => format!("{:?}", client.get_invite("invite-7").await?),
            2 => format!("{:?}", client.delete_invite("invite-7").await?),
            _ => format!("{:?}", client.list_users(Listing::Everybody, 0, 100).await?),
        })
    }
}

thread_local! {
    static WORLD: World = World::new();
}

fuzz_target!(|input: &[u8]| {
    let [kind, answer @ ..] = input else { return };
    WORLD.with(|world| {
        let outcome = world.runtime.block_on(async {
            tokio::select! {
                outcome = world.call(*kind) => outcome,
                () = world.answer(answer) => unreachable!("it answers for ever"),
            }
        });
        if let Err(error) = outcome {
            let told = error.to_string();
            assert!(!told.contains(TOKEN), "{told}");
            assert!(told.chars().count() <= 8_000, "{told}");
            assert!(!told.chars().any(char::is_control), "{told:?}");
            if let Error::Refused(refusal) = error {
                assert!((400..500).contains(&refusal.status), "{refusal:?}");
                assert!(refusal.retry_after.unwrap_or_default() <= Duration::from_hours(1));
            }
        }
        if let Some(now) = world.client.server_time() {
            let off = now.duration_since(Timestamp::now()).unsigned_abs();
            assert!(off <= CLOCK_TOLERANCE + Duration::from_mins(1), "{off:?}");
        }
    });
});
