//! The fake Astro API as a program: for a demonstration, or for trying the API's calls with curl.

use std::{io::Write as _, net::SocketAddr, time::Duration};

use clap::Parser;
use support::fake_astro::{FakeAstro, Options};

/// A fake of the Astro API that keeps its state in memory. Its controls are under /fake/.
#[derive(Debug, Parser)]
struct Flags {
    /// Where to listen; a loopback address
    #[arg(long, default_value = "127.0.0.1:8080")]
    listen: SocketAddr,
    /// The organization's id
    #[arg(long, default_value = "fake-organization")]
    organization: String,
    /// The API token
    #[arg(long, default_value = "fake-token")]
    token: String,
    /// How long an invite is valid, such as 90s or 7d
    #[arg(long, default_value = "7d", value_parser = lifetime)]
    invite_lifetime: Duration,
}

fn lifetime(text: &str) -> Result<Duration, String> {
    let span: jiff::Span = text
        .parse()
        .map_err(|error: jiff::Error| error.to_string())?;
    span.to_duration(jiff::SpanRelativeTo::days_are_24_hours())
        .and_then(Duration::try_from)
        .map_err(|error| error.to_string())
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let flags = Flags::parse();
    let fake = FakeAstro::start_with(Options {
        listen: flags.listen,
        organization: flags.organization,
        token: flags.token,
        invite_lifetime: flags.invite_lifetime,
        control_surface: true,
    })
    .await?;
    let url = fake.url();
    writeln!(
        std::io::stdout(),
        "{url}\n\ncurl -s {url}/organizations/{organization}/invites -H 'Authorization: Bearer {token}' \\\n  \
         -H 'Accept: application/json' -H 'Content-Type: application/json' \\\n  \
         -d '{{\"inviteeEmail\": \"jane@example.com\", \"role\": \"ORGANIZATION_MEMBER\"}}'\n\
         curl -s http://{address}/fake/emails",
        organization = fake.organization_id(),
        token = fake.token(),
        address = fake.address(),
    )?;
    tokio::signal::ctrl_c().await?;
    Ok(())
}
