//! `driftline lag`

use std::path::PathBuf;

use anyhow::{Context as _, anyhow};
use reports::lag::{Filter, LagReport, collect, csv, plot, terminal};

use super::{gate, print};
use crate::cli::{FormatArg, Global, LagArgs};
use crate::config::Config;
use crate::exit::{Exit, Failure, Outcome};
use crate::run;

/// Reads files and connects nowhere. The configuration is only read for its output folder, when no path is named.
pub(super) fn run(global: &Global, args: &LagArgs) -> Outcome {
    let paths = paths(global, args)?;
    let to_us = args.to.map(|at| at.as_microsecond());
    let filter = Filter {
        from_us: args.from.map(|at| at.as_microsecond()),
        // What has not happened yet was not missed.
        to_us: to_us.map(|to_us| to_us.min(run::now_us())),
        routes: args.routes.clone(),
    };
    if filter.from_us.zip(to_us).is_some_and(|(from, to)| from >= to) {
        return Err(Failure::refused(anyhow!("--from does not lie before --to")));
    }
    let report = collect(&paths, &filter)
        .context("nothing is concluded from the other files")
        .map_err(Failure::cannot_tell)?;
    if report.routes.is_empty() {
        let named: Vec<String> = paths.iter().map(|path| path.display().to_string()).collect();
        return Err(Failure::cannot_tell(anyhow!(
            "no lag matched in {} ({} files looked at): name the output folder of a probe, or widen --from, --to and --route",
            named.join(", "),
            report.files
        )));
    }
    if let Some(svg) = &args.svg {
        gate::whole(svg, &plot(&report))
            .with_context(|| format!("write the picture {}", svg.display()))
            .map_err(Failure::cannot_tell)?;
    }
    let exit = if report.is_measured() {
        Exit::Fine
    } else {
        Exit::CannotTell
    };
    print::result(&text(global.format, &report)?, exit)
}

fn paths(global: &Global, args: &LagArgs) -> Result<Vec<PathBuf>, Failure> {
    if !args.paths.is_empty() {
        return Ok(args.paths.clone());
    }
    match &global.output {
        Some(output) => Ok(vec![output.clone()]),
        None => Ok(vec![Config::load(&global.config)?.output]),
    }
}

fn text(format: FormatArg, report: &LagReport) -> Result<String, Failure> {
    match format {
        FormatArg::Human => Ok(terminal(report)),
        FormatArg::Csv => Ok(csv(report)),
        FormatArg::Json => {
            let told = serde_json::json!({ "complete": report.is_measured(), "lag": report });
            serde_json::to_string_pretty(&told)
                .context("print the report")
                .map_err(Failure::cannot_tell)
        }
    }
}
