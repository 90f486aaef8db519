//! What was measured, as a table and as JSON.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use anyhow::Context as _;
use serde::Serialize;

use super::machine::Machine;
use super::process::Memory;

/// One scenario, run once with so many objects.
#[derive(Debug, Serialize)]
pub struct Outcome {
    scenario: &'static str,
    objects: usize,
    figures: Vec<Figure>,
    counts: Vec<Count>,
}

/// Something that was measured and is only told.
#[derive(Debug, Serialize)]
struct Figure {
    name: String,
    value: f64,
    unit: &'static str,
}

/// Something that was counted.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Count {
    name: String,
    counted: usize,
    must_be: usize,
}

impl Outcome {
    /// Nothing measured yet.
    pub fn new(scenario: &'static str, objects: usize) -> Self {
        Self {
            scenario,
            objects,
            figures: Vec::new(),
            counts: Vec::new(),
        }
    }

    /// Tells a figure.
    pub fn tell(&mut self, name: impl Into<String>, value: f64, unit: &'static str) {
        self.figures.push(Figure {
            name: name.into(),
            value,
            unit,
        });
    }

    /// Tells a number of things.
    pub fn tell_number(&mut self, name: impl Into<String>, number: usize) {
        self.tell(name, float(number), "");
    }

    /// Tells a time.
    pub fn tell_time(&mut self, name: impl Into<String>, time: Duration) {
        self.tell(name, time.as_secs_f64(), "s");
    }

    /// Tells the median and the 99th percentile of `times`.
    pub fn tell_percentiles(&mut self, name: &str, times: &mut [Duration]) {
        times.sort_unstable();
        for percent in [50, 99] {
            let at = (times.len() * percent).div_ceil(100).max(1) - 1;
            if let Some(time) = times.get(at) {
                self.tell(
                    format!("{name}, p{percent}"),
                    time.as_secs_f64() * 1000.0,
                    "ms",
                );
            }
        }
    }

    /// Tells the memory of the operator.
    pub fn tell_memory(&mut self, memory: Memory) {
        let mib = |kib: u32| f64::from(kib) / 1024.0;
        self.tell("resident memory, peak", mib(memory.peak), "MiB");
        self.tell("resident memory, at the end", mib(memory.resident), "MiB");
        self.tell("of it heap and stacks", mib(memory.anonymous), "MiB");
    }

    /// What was counted must be that.
    pub fn check(&mut self, name: impl Into<String>, counted: usize, must_be: usize) {
        self.counts.push(Count {
            name: name.into(),
            counted,
            must_be,
        });
    }

    /// The value of a figure, for one that is made of several outcomes.
    pub fn figure(&self, name: &str) -> Option<f64> {
        let figure = self.figures.iter().find(|figure| figure.name == name)?;
        Some(figure.value)
    }

    /// How many objects there were.
    pub fn objects(&self) -> usize {
        self.objects
    }

    /// Writes it for a person.
    pub fn print(&self) {
        println!("\n{}, {} objects", self.scenario, self.objects);
        for figure in &self.figures {
            println!(
                "  {:<52} {:>10} {}",
                figure.name,
                show(figure.value),
                figure.unit
            );
        }
        for count in &self.counts {
            let verdict = if count.counted == count.must_be {
                String::new()
            } else {
                format!("must be {}", count.must_be)
            };
            println!("  {:<52} {:>10} {verdict}", count.name, count.counted);
        }
    }
}

/// Everything that was measured.
#[derive(Debug, Serialize)]
pub struct Report {
    machine: Machine,
    outcomes: Vec<Outcome>,
}

impl Report {
    /// Nothing measured yet.
    pub fn new(machine: Machine) -> Self {
        Self {
            machine,
            outcomes: Vec::new(),
        }
    }

    /// Adds an outcome.
    pub fn add(&mut self, outcome: Outcome) {
        self.outcomes.push(outcome);
    }

    /// Whether everything that was counted is what it must be.
    pub fn is_as_it_must_be(&self) -> bool {
        let mut counts = self.outcomes.iter().flat_map(|outcome| &outcome.counts);
        counts.all(|count| count.counted == count.must_be)
    }

    /// Says what it is measured on.
    pub fn print_machine(&self) {
        println!("{:#?}", self.machine);
    }

    /// The median and the range of each figure, over the runs of one scenario.
    pub fn print_summary(&self) {
        let kinds: BTreeSet<_> = self
            .outcomes
            .iter()
            .map(|outcome| (outcome.scenario, outcome.objects))
            .collect();
        println!("\nmedian (least to most)");
        for (scenario, objects) in kinds {
            let mut runs = self
                .outcomes
                .iter()
                .filter(|run| (run.scenario, run.objects) == (scenario, objects));
            println!("\n{scenario}, {objects} objects");
            let first = runs.clone().next();
            for figure in first.into_iter().flat_map(|run| &run.figures) {
                let mut values: Vec<f64> = runs
                    .clone()
                    .filter_map(|run| {
                        let same = run.figures.iter().find(|one| one.name == figure.name)?;
                        Some(same.value)
                    })
                    .collect();
                values.sort_by(f64::total_cmp);
                println!(
                    "  {:<52} {:>10} ({} to {}) {}",
                    figure.name,
                    show(values[values.len() / 2]),
                    show(values[0]),
                    show(values[values.len() - 1]),
                    figure.unit
                );
            }
            let wrong = runs.any(|run| run.counts.iter().any(|one| one.counted != one.must_be));
            println!(
                "  counts {}",
                if wrong { "differ" } else { "exact in all runs" }
            );
        }
    }

    /// Writes everything as JSON.
    pub fn write(&self, path: &Path) -> anyhow::Result<()> {
        let text = serde_json::to_string_pretty(self)?;
        std::fs::write(path, text).with_context(|| format!("writing {}", path.display()))
    }
}

/// Three digits that count.
fn show(value: f64) -> String {
    match value.abs() {
        _ if value.fract() == 0.0 => format!("{value:.0}"),
        100.0.. => format!("{value:.0}"),
        10.0..100.0 => format!("{value:.1}"),
        1.0..10.0 => format!("{value:.2}"),
        _ => format!("{value:.3}"),
    }
}

/// A number of things as a figure.
#[expect(
    clippy::cast_precision_loss,
    reason = "far fewer than 2^52 of anything"
)]
pub fn float(number: usize) -> f64 {
    number as f64
}
