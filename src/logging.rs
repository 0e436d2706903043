//! Logs: always on standard error.

use std::io::IsTerminal as _;

use tracing_subscriber::EnvFilter;

use crate::cli::LogFormat;

/// Installs the subscriber. `verbose` 0 shows warnings and driftline's notices, 1 details, 2 everything of driftline.
pub(crate) fn install(format: LogFormat, verbose: u8) {
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
    let colour = std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(colour);
    match format {
        LogFormat::Text => builder.with_target(false).init(),
        LogFormat::Json => builder.json().init(),
    }
}
