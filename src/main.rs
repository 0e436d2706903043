//! driftline: measures replication lag and proves which data differs between regions.
//!
//! This crate is the command line, the configuration, wiring, signals and logging. It holds no domain logic.

mod cli;
mod command;
mod config;
mod events;
mod exit;
mod lanes;
mod logging;
mod native;
mod reload;
mod run;
mod selection;
mod stated;
mod stop;
mod topology;

use std::process::ExitCode;

use clap::Parser as _;

use crate::exit::{Exit, Failure};

fn main() -> ExitCode {
    let cli = match cli::Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // Clap prints help and version to standard output, errors to standard error.
            let asked_for = !error.use_stderr();
            return match error.print() {
                Ok(()) if asked_for => Exit::Fine.into(),
                Ok(()) => Exit::Refused.into(),
                Err(_) => Exit::CannotTell.into(),
            };
        }
    };
    let is_service = matches!(cli.command, cli::Command::Probe(_));
    logging::install(cli.global.log_format, cli.global.verbose, is_service);
    if rustls::crypto::ring::default_provider().install_default().is_err() {
        tracing::error!("another TLS provider is installed already");
        return Exit::Refused.into();
    }
    match command::dispatch(cli) {
        Ok(exit) => exit.into(),
        Err(Failure { exit, error }) => {
            tell(&error);
            exit.into()
        }
    }
}

/// Tells a person what ended the command: the outermost context first, each cause on its own line.
fn tell(error: &anyhow::Error) {
    use std::io::Write as _;
    let mut stderr = std::io::stderr().lock();
    let mut text = format!("error: {error}\n");
    let mut told = error.to_string();
    for cause in error.chain().skip(1) {
        let cause = cause.to_string();
        // Errors of the libraries tell their cause in their own words already.
        if !told.contains(&cause) {
            text.push_str(&format!("  because: {cause}\n"));
        }
        told = cause;
    }
    // Nobody is left to tell when standard error itself is gone.
    drop(stderr.write_all(text.as_bytes()));
}
