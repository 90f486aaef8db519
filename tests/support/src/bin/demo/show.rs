//! What a person sees.

use k8s_openapi::api::events::v1::Event;
use kube::api::DynamicObject;
use serde_json::Value;

use crate::cluster::conditions;
use crate::stage::{NAMESPACE, Stage};

/// So wide may a message be.
const WIDTH: usize = 100;

/// A new act.
pub fn headline(what: &str) {
    println!("\n--- {what}");
}

impl Stage {
    /// Tells what happened, and when.
    pub fn say(&self, what: &str) {
        println!("[{:5.1} s] {what}", self.began.elapsed().as_secs_f64());
    }

    /// The table that the API server makes for `kubectl get orginvites`.
    pub async fn print_table(&self) -> anyhow::Result<()> {
        let request = http::Request::get(format!(
            "/apis/iam.astronomer.io/v1alpha1/namespaces/{NAMESPACE}/orginvites"
        ))
        .header("Accept", "application/json;as=Table;v=v1;g=meta.k8s.io")
        .body(Vec::new())?;
        let table: Value = self.client.request(request).await?;
        let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
        let columns = list(&table["columnDefinitions"]);
        // The others are for `-o wide`.
        let shown = |n: &usize| columns[*n]["priority"] == 0;
        let shown: Vec<usize> = (0..columns.len()).filter(shown).collect();
        let mut rows = vec![
            shown
                .iter()
                .map(|n| text(&columns[*n]["name"]).to_uppercase())
                .collect::<Vec<_>>(),
        ];
        for row in list(&table["rows"]) {
            rows.push(shown.iter().map(|n| text(&row["cells"][*n])).collect());
        }
        println!("\n  $ kubectl get orginvites");
        for line in aligned(&rows) {
            println!("  {line}");
        }
        Ok(())
    }
}

/// What `kubectl describe` says of how an object is.
pub fn describe(object: &DynamicObject, events: &[Event]) {
    println!(
        "\n  $ kubectl describe orginvite {}",
        object.metadata.name.as_deref().unwrap_or_default()
    );
    println!("  Conditions:");
    for condition in conditions(object) {
        let of = |field: &str| text(&condition[field]);
        println!("    {}: {}, {}", of("type"), of("status"), of("reason"));
        print_wrapped(&of("message"));
    }
    print_events(events);
}

/// The events, as `kubectl describe` shows them.
pub fn print_events(events: &[Event]) {
    println!("  Events:");
    let rows = events.iter().map(|event| {
        let of = |field: &Option<String>| field.clone().unwrap_or_default();
        vec![of(&event.type_), of(&event.reason)]
    });
    let rows: Vec<_> = rows.collect();
    for (line, event) in aligned(&rows).iter().zip(events) {
        println!("    {line}");
        print_wrapped(event.note.as_deref().unwrap_or_default());
    }
}

/// A message, on lines of a width that can be read.
pub fn print_wrapped(message: &str) {
    let mut line = String::new();
    for word in message.split(' ') {
        if !line.is_empty() && line.len() + word.len() >= WIDTH {
            println!("      {line}");
            line.clear();
        }
        if !line.is_empty() {
            line.push(' ');
        }
        line.push_str(word);
    }
    println!("      {line}");
}

fn aligned(rows: &[Vec<String>]) -> Vec<String> {
    let width = |n: usize| rows.iter().map(|row| row[n].len()).max().unwrap_or(0);
    rows.iter()
        .map(|row| {
            let cells = row.iter().enumerate();
            let cells: Vec<String> = cells
                .map(|(n, cell)| format!("{cell:0$}", width(n)))
                .collect();
            cells.join("  ").trim_end().to_owned()
        })
        .collect()
}

fn text(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}
