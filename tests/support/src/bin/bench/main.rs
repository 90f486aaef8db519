//! What the operator costs and how long it takes: `make bench`.
//!
//! The operator runs as its own process against a real API server and a fake of Astro. Counts are asserted; times,
//! CPU and memory are only told, since they are the machine's as much as the operator's.

mod cost;
mod load;
mod machine;
mod process;
mod report;
mod scenarios;
mod witness;
mod world;

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Context as _, ensure};
use clap::{Parser, ValueEnum};
use support::control_plane::ControlPlane;

use report::Report;
use scenarios::Scenario;
use world::Setup;

/// Measures the operator on a real API server and a fake of Astro.
#[derive(Parser)]
struct Arguments {
    /// What to measure; everything when nothing is named.
    #[arg(value_enum)]
    scenarios: Vec<Scenario>,
    /// How many objects: a few, to see that everything works, or as many as the figures are told for.
    #[arg(long, value_enum, default_value_t = Size::Smoke)]
    size: Size,
    /// How many objects instead, for each scenario that is run.
    #[arg(long, value_name = "N", value_delimiter = ',')]
    objects: Vec<usize>,
    /// How often each scenario is run.
    #[arg(long, value_name = "N", default_value_t = 1)]
    repeat: u32,
    /// The operator [default: the one beside this program].
    #[arg(long, value_name = "FILE")]
    operator: Option<PathBuf>,
    /// It is another operator, which writes no events and does not read the organization: for burst,
    /// paced, deletion, kills and lost-answers.
    #[arg(long, requires = "operator")]
    peer: bool,
    /// Where to write a CPU profile of kube-apiserver, of the first seconds of what is measured, for `go tool pprof`. The
    /// last scenario's is kept.
    #[arg(long, value_name = "FILE")]
    profile: Option<PathBuf>,
    /// Where everything that was measured is written as JSON.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

/// How many objects.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Size {
    Smoke,
    Full,
}

#[tokio::main]
async fn main() -> ExitCode {
    match bench(Arguments::parse()).await {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => {
            eprintln!(
                "\nSomething was counted that should be another number: see \"must be\" above."
            );
            ExitCode::FAILURE
        }
        Err(error) => {
            eprintln!("\nThe benchmark failed: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Runs the scenarios; whether everything that was counted is what it must be.
async fn bench(arguments: Arguments) -> anyhow::Result<bool> {
    let operator = match &arguments.operator {
        Some(path) => path.clone(),
        None => std::env::current_exe()?.with_file_name("orginvite-operator"),
    };
    ensure!(
        operator.is_file(),
        "{} is not there: build it with `cargo build --release --workspace --bins`",
        operator.display()
    );
    let mut report = Report::new(machine::describe(&operator)?);
    report.print_machine();
    // Small runs are about what the scenarios do, so that they can share the servers.
    let shared = match arguments.size {
        Size::Smoke => Some(Arc::new(ControlPlane::start().await?)),
        Size::Full => None,
    };
    let chosen = Scenario::chosen(&arguments.scenarios);
    for scenario in &chosen {
        ensure!(
            scenario.compares() || !arguments.peer,
            "--peer does not go with {}",
            scenario.name()
        );
    }
    for scenario in chosen {
        for _ in 0..arguments.repeat {
            let plan = scenario.plan(arguments.size, &arguments.objects);
            // A scenario of its own for each size, so that none inherits another one's API server.
            for sizes in plan {
                let setup = Setup {
                    plane: match &shared {
                        Some(plane) => Arc::clone(plane),
                        None => Arc::new(ControlPlane::start().await?),
                    },
                    is_shared: shared.is_some(),
                    operator: operator.clone(),
                    is_peer: arguments.peer,
                    profile: arguments.profile.clone(),
                };
                let outcomes = scenario
                    .run(&setup, &sizes, arguments.size)
                    .await
                    .with_context(|| format!("{} with {sizes:?} objects", scenario.name()))?;
                for outcome in outcomes {
                    outcome.print();
                    report.add(outcome);
                }
            }
        }
    }
    if arguments.repeat > 1 {
        report.print_summary();
    }
    if let Some(path) = &arguments.json {
        report.write(path)?;
    }
    Ok(report.is_as_it_must_be())
}
