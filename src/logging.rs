//! Logs: always on standard error.

mod limit;

use std::io::IsTerminal as _;

use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::format;

use self::limit::Limited;
use crate::cli::LogFormat;

/// Installs the subscriber. `verbose` 0 shows warnings and driftline's notices, 1 details, 2 everything of driftline. A service logs
/// JSON unless a person watches it or a form was asked for.
pub(crate) fn install(format: Option<LogFormat>, verbose: u8, is_service: bool) {
    let ours = ["info", "debug", "trace"][usize::from(verbose.min(2))];
    let default = [
        "driftline",
        "stores",
        "journal",
        "probes",
        "reconcile",
        "reports",
        "lab",
    ]
    .iter()
    .fold("warn".to_owned(), |all, krate| format!("{all},{krate}={ours}"));
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(default));
    let is_terminal = std::io::stderr().is_terminal();
    let colour = is_terminal && std::env::var_os("NO_COLOR").is_none();
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(colour);
    match form(format, is_service, is_terminal) {
        LogFormat::Text => builder
            .event_format(Limited::text(format::format().with_target(false)))
            .init(),
        LogFormat::Json => builder.json().event_format(Limited::json(json())).init(),
    }
}

fn form(asked: Option<LogFormat>, is_service: bool, is_terminal: bool) -> LogFormat {
    match asked {
        Some(format) => format,
        None if is_service && !is_terminal => LogFormat::Json,
        None => LogFormat::Text,
    }
}

/// The fields of a line at its top, those of its route under `span`.
fn json() -> format::Format<format::Json> {
    format::format()
        .json()
        .flatten_event(true)
        .with_current_span(true)
        .with_span_list(false)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_service_that_nobody_watches_logs_json_unless_asked_otherwise() {
        assert_eq!(form(None, true, false), LogFormat::Json);
        assert_eq!(form(None, true, true), LogFormat::Text);
        assert_eq!(form(None, false, false), LogFormat::Text);
        assert_eq!(form(Some(LogFormat::Text), true, false), LogFormat::Text);
        assert_eq!(form(Some(LogFormat::Json), false, true), LogFormat::Json);
    }
}
