//! The commands: each file is one, from validated arguments to an exit code.

mod check;
mod config;
#[cfg(feature = "lab")]
mod demo;
mod event;
mod gate;
mod init;
#[cfg(feature = "lab")]
pub(crate) mod lab;
mod lag;
mod prices;
mod print;
mod probe;
mod reconcile;
mod rpo;

use std::path::PathBuf;

use crate::cli::{Cli, Command, ConfigCommand, Format, FormatArg, GateCommand, Global};
use crate::config::Config;
use crate::exit::{Failure, Outcome};
use crate::stated::Stated;

/// What every command that reads a configuration works with.
#[derive(Debug, Clone)]
pub(crate) struct Context {
    pub(crate) config: Config,
    pub(crate) output: PathBuf,
    pub(crate) format: Format,
    /// Where the configuration was read.
    pub(crate) file: PathBuf,
}

impl Context {
    fn load(global: &Global) -> Result<Self, Failure> {
        let format = match global.format {
            FormatArg::Human => Format::Human,
            FormatArg::Json => Format::Json,
            FormatArg::Csv => {
                return Err(Failure::refused(anyhow::anyhow!(
                    "only `driftline lag` writes CSV; use --format json"
                )));
            }
        };
        let mut config = Config::load(&global.config)?;
        let stated = Stated::load(&config.state).map_err(Failure::cannot_tell)?;
        stated.apply(&mut config).map_err(Failure::refused)?;
        config.state_writers(&global.writers).map_err(Failure::refused)?;
        Ok(Self {
            output: global.output.clone().unwrap_or_else(|| config.output.clone()),
            config,
            format,
            file: global.config.clone(),
        })
    }
}

/// Runs the command that the person asked for.
pub(crate) fn dispatch(cli: Cli) -> Outcome {
    let Cli { global, command } = cli;
    match command {
        Command::Config(ConfigCommand::Print) => config::print(&Context::load(&global)?),
        Command::Init(args) => on_runtime(init::run(&Context::load(&global)?, &args)),
        Command::Check => on_runtime(check::run(&Context::load(&global)?)),
        Command::Probe(args) => probe::run(&Context::load(&global)?, &args),
        Command::Rpo(args) => on_runtime(rpo::run(&Context::load(&global)?, &args)),
        Command::Reconcile(command) => {
            let context = Context::load(&global)?;
            on_worker(async move { reconcile::run(&context, &command).await })
        }
        Command::Explain(args) => on_runtime(reconcile::explain(&Context::load(&global)?, &args)),
        Command::Event(command) => on_runtime(event::run(&Context::load(&global)?, &command)),
        Command::Gate(GateCommand::Run(args)) => gate::run(&Context::load(&global)?, &args),
        Command::Lag(args) => lag::run(&global, &args),
        #[cfg(feature = "lab")]
        Command::Lab(crate::cli::LabCommand::Up(args)) => on_runtime(lab::up(&args)),
        #[cfg(feature = "lab")]
        Command::Demo(args) => on_runtime(demo::run(&args)),
    }
}

/// As [`on_runtime`], and by one of the runtime's own threads: rows that a connection brings are taken by the thread that received them, and
/// none has to be woken for each few of them.
fn on_worker(command: impl Future<Output = Outcome> + Send + 'static) -> Outcome {
    on_runtime(async {
        match tokio::spawn(command).await {
            Ok(outcome) => outcome,
            Err(error) => match error.try_into_panic() {
                Ok(panic) => std::panic::resume_unwind(panic),
                Err(error) => Err(Failure::cannot_tell(
                    anyhow::Error::new(error).context("the command was ended"),
                )),
            },
        }
    })
}

fn on_runtime(command: impl Future<Output = Outcome>) -> Outcome {
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::cannot_tell(anyhow::Error::new(error).context("start the runtime")))?
        .block_on(command)
}
