//! Logs, and traces for who wants them.

use std::io::IsTerminal;

use opentelemetry::trace::TracerProvider as _;
use opentelemetry_otlp::SpanExporter;
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::SdkTracerProvider;
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{EnvFilter, Layer as _, fmt};

/// How a line of the log looks.
#[derive(Clone, Copy, Debug, clap::ValueEnum)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

/// Why the traces cannot be exported.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    /// A protocol that is not built in.
    #[error(
        "{0} is {1:?}, but traces are exported by http/protobuf only (port 4318 of a collector)"
    )]
    Protocol(&'static str, String),
    /// One of the variables is not as it has to be.
    #[error("traces cannot be exported: {0}")]
    Build(#[from] opentelemetry_otlp::ExporterBuildError),
}

/// Logging, until the process ends.
pub struct Telemetry {
    traces: Option<SdkTracerProvider>,
}

impl Telemetry {
    /// Logs to standard error what `RUST_LOG` chooses, and exports the spans of reconciles and of calls
    /// to Astro if the standard variables of OpenTelemetry name an endpoint. `variable` looks one up.
    pub fn start(
        format: Option<LogFormat>,
        variable: impl Fn(&str) -> Option<String>,
    ) -> Result<Self, ExportError> {
        let terminal = std::io::stderr().is_terminal();
        let json = match format {
            Some(LogFormat::Json) => true,
            Some(LogFormat::Text) => false,
            None => !terminal,
        };
        let filter = variable("RUST_LOG").and_then(|text| EnvFilter::try_new(text).ok());
        let filter = filter.unwrap_or_else(|| EnvFilter::new("info"));
        let lines = fmt::layer().with_writer(std::io::stderr);
        let lines = if json {
            lines.json().flatten_event(true).boxed()
        } else {
            lines.with_ansi(terminal).boxed()
        };
        let traces = if is_wanted(&variable)? {
            Some(provider(&variable)?)
        } else {
            None
        };
        let spans = traces.as_ref().map(|traces| {
            let tracer = traces.tracer(env!("CARGO_PKG_NAME"));
            // What is traced does not depend on what is logged.
            let ours = Targets::new().with_target(env!("CARGO_CRATE_NAME"), LevelFilter::INFO);
            tracing_opentelemetry::layer()
                .with_tracer(tracer)
                .with_location(false)
                .with_threads(false)
                .with_filter(ours)
        });
        tracing_subscriber::registry()
            .with(spans)
            .with(lines.with_filter(filter))
            .init();
        Ok(Self { traces })
    }

    /// Sends what was not exported yet, for five seconds at most. Not from within a runtime.
    pub fn flush(self) {
        if let Some(traces) = self.traces
            && let Err(error) = traces.shutdown()
        {
            tracing::warn!(%error, "the last traces could not be exported");
        }
    }
}

/// Whether the variables ask for traces.
fn is_wanted(variable: &impl Fn(&str) -> Option<String>) -> Result<bool, ExportError> {
    let is = |name, value: &str| {
        variable(name).is_some_and(|text| text.trim().eq_ignore_ascii_case(value))
    };
    let endpoints = [
        "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT",
        "OTEL_EXPORTER_OTLP_ENDPOINT",
    ];
    let named = endpoints
        .iter()
        .any(|name| variable(name).is_some_and(|text| !text.is_empty()));
    if !named || is("OTEL_SDK_DISABLED", "true") || is("OTEL_TRACES_EXPORTER", "none") {
        return Ok(false);
    }
    let protocols = [
        "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL",
        "OTEL_EXPORTER_OTLP_PROTOCOL",
    ];
    for name in protocols {
        match variable(name) {
            Some(protocol) if protocol == "http/protobuf" => break,
            Some(protocol) if !protocol.is_empty() => {
                return Err(ExportError::Protocol(name, protocol));
            }
            _ => {}
        }
    }
    Ok(true)
}

/// Exports in batches from a thread of its own. Endpoint, headers, timeouts, sampling and batches are
/// what the standard variables say.
fn provider(variable: &impl Fn(&str) -> Option<String>) -> Result<SdkTracerProvider, ExportError> {
    let exporter = SpanExporter::builder().with_http().build()?;
    let named = variable("OTEL_SERVICE_NAME").is_some()
        || variable("OTEL_RESOURCE_ATTRIBUTES").is_some_and(|text| text.contains("service.name="));
    let mut resource = Resource::builder().with_attribute(opentelemetry::KeyValue::new(
        "service.version",
        env!("CARGO_PKG_VERSION"),
    ));
    if !named {
        resource = resource.with_service_name(env!("CARGO_PKG_NAME"));
    }
    Ok(SdkTracerProvider::builder()
        .with_batch_exporter(exporter)
        .with_resource(resource.build())
        .build())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wanted(set: &[(&str, &str)]) -> Result<bool, ExportError> {
        is_wanted(&|name: &str| {
            let found = set.iter().find(|(key, _)| *key == name);
            found.map(|(_, value)| (*value).to_owned())
        })
    }

    #[test]
    fn traces_are_exported_only_to_an_endpoint_that_somebody_names() {
        const ENDPOINT: (&str, &str) = ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://c:4318");
        const TRACES: (&str, &str) = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "http://c/v1/traces");
        assert!(!wanted(&[]).unwrap());
        assert!(!wanted(&[("OTEL_EXPORTER_OTLP_ENDPOINT", "")]).unwrap());
        assert!(!wanted(&[("OTEL_SERVICE_NAME", "a")]).unwrap());
        assert!(wanted(&[ENDPOINT]).unwrap());
        assert!(wanted(&[TRACES]).unwrap());
        assert!(!wanted(&[ENDPOINT, ("OTEL_SDK_DISABLED", "True")]).unwrap());
        assert!(!wanted(&[ENDPOINT, ("OTEL_TRACES_EXPORTER", "none")]).unwrap());
    }

    #[test]
    fn a_protocol_that_is_not_built_in_is_told() {
        let with =
            |name, value| wanted(&[("OTEL_EXPORTER_OTLP_ENDPOINT", "http://c"), (name, value)]);
        assert!(with("OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf").unwrap());
        let error = with("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc").unwrap_err();
        assert!(
            error
                .to_string()
                .contains("OTEL_EXPORTER_OTLP_PROTOCOL is \"grpc\"")
        );
        assert!(with("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "http/json").is_err());
    }
}
