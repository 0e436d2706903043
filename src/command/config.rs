//! `driftline config print`

use anyhow::Context as _;

use super::{Context, print};
use crate::cli::Format;
use crate::exit::{Exit, Failure, Outcome};

pub(super) fn print(context: &Context) -> Outcome {
    let text = match context.format {
        Format::Human => context
            .config
            .to_toml()
            .context("print the configuration")
            .map_err(Failure::cannot_tell)?,
        Format::Json => serde_json::to_string_pretty(&context.config)
            .context("print the configuration")
            .map_err(Failure::cannot_tell)?,
    };
    print::line(&text)?;
    Ok(Exit::Fine)
}
