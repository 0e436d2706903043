//! `driftline gate run`

use std::path::Path;

use anyhow::{Context as _, anyhow};
use reports::gate::{self, GateReport, Policy, Supplied};
use reports::runs;
use reports::tables::{Hex, RunKind, RunRow, RunStatus};

use super::{Context, print};
use crate::cli::{Format, GateArgs};
use crate::exit::{Exit, Failure, Outcome};
use crate::run::{self, Run};
use crate::{events, topology};

/// Policies that come with driftline, by name.
const SHIPPED: [(&str, &str); 1] = [("ninety-day", gate::NINETY_DAY)];

/// Width of tables where standard output is no terminal.
const PLAIN_COLUMNS: u16 = 140;

pub(super) fn run(context: &Context, args: &GateArgs) -> Outcome {
    let report = judge(context, args)?;
    let text = match context.format {
        Format::Json => report
            .to_json()
            .context("print the report")
            .map_err(Failure::cannot_tell)?,
        Format::Human => {
            let page = context.output.join("gate.html");
            format!("{}\nreport: {}", words(&report), page.display())
        }
    };
    print::result(&text, Exit::from_code(report.exit_code()))
}

/// The report as text.
pub(crate) fn words(report: &GateReport) -> String {
    gate::terminal(report, PLAIN_COLUMNS)
}

/// Judges the evidence, and writes `gate.html`, `gate.json`, the criteria table and the run.
pub(crate) fn judge(context: &Context, args: &GateArgs) -> Result<GateReport, Failure> {
    let policy = policy(&args.policy)?;
    let supplied = supplied(args.evidence.as_deref(), &policy)?;
    let run = Run::begin();
    let event_id = match &args.event {
        Some(id) => Some(events::find(context, id)?.event_id),
        None => None,
    };
    let request = gate::Request {
        run_id: run.id.clone(),
        judged_at_us: run.started_at_us,
        from_us: args.from.map(|at| at.as_microsecond()),
        to_us: args.to.map(|at| at.as_microsecond()),
        event_id: event_id.clone(),
        reproduce: reproduce(args, &run),
    };
    let mut evidence = gate::load(&context.output, &context.config.state, &policy, &request);
    evidence.inventory = inventory(context);
    let report = gate::judge(&policy, &supplied, evidence, &request);
    write(context, &report, event_id, run)?;
    Ok(report)
}

fn write(context: &Context, report: &GateReport, event_id: Option<String>, run: Run) -> Result<(), Failure> {
    let page = gate::html(report)
        .context("make the HTML page")
        .map_err(Failure::cannot_tell)?;
    let json = report
        .to_json()
        .context("make the JSON report")
        .map_err(Failure::cannot_tell)?;
    let output = &context.output;
    let place = || format!("write the report below {}", output.display());
    for (name, text) in [("gate.html", page), ("gate.json", json)] {
        whole(&output.join(name), &text)
            .with_context(place)
            .map_err(Failure::cannot_tell)?;
    }
    gate::write_gate(output, report)
        .with_context(place)
        .map_err(Failure::cannot_tell)?;
    let mut row = RunRow::begin(RunKind::Gate, run.id, run.started_at_us, run.executed_by, run.host);
    row.config_sha256 = Some(Hex(context.config.sha256()));
    row.dataset_fingerprints = context.config.fingerprints();
    row.sites = topology::sites(&context.config, &[]);
    row.event_id = event_id;
    let code = report.exit_code();
    let complete = Exit::from_code(code) != Exit::CannotTell;
    runs::write_run(output, row.end(RunStatus::Succeeded, complete, code, run::now_us()))
        .and_then(|_| reports::views::write_views(output))
        .with_context(place)
        .map_err(Failure::cannot_tell)?;
    Ok(())
}

/// A file that appears whole or not at all.
pub(super) fn whole(path: &Path, text: &str) -> std::io::Result<()> {
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder)?;
    }
    let draft = path.with_extension("draft");
    std::fs::write(&draft, text)?;
    std::fs::rename(&draft, path)
}

fn policy(name: &str) -> Result<Policy, Failure> {
    if let Some((name, text)) = SHIPPED.iter().find(|(known, _)| *known == name) {
        return Policy::parse(name, text).map_err(Failure::refused);
    }
    let text = std::fs::read_to_string(name).map_err(|error| {
        let known: Vec<&str> = SHIPPED.iter().map(|(known, _)| *known).collect();
        Failure::refused(anyhow!(
            "policy {name}: {error}; it is neither a file nor one of: {}",
            known.join(", ")
        ))
    })?;
    Policy::parse(name, &text).map_err(Failure::refused)
}

fn supplied(file: Option<&Path>, policy: &Policy) -> Result<Supplied, Failure> {
    let Some(file) = file else {
        return Ok(Supplied::default());
    };
    let origin = file.display().to_string();
    let text =
        std::fs::read_to_string(file).map_err(|error| Failure::refused(anyhow!("evidence {origin}: {error}")))?;
    Supplied::parse(&origin, &text, policy).map_err(Failure::refused)
}

/// Every dataset on every route that the configuration wants measured: what no probe ever measured must not be missed.
fn inventory(context: &Context) -> Vec<gate::InventoryItem> {
    let mut items = Vec::new();
    for unit in topology::units(&context.config) {
        for dataset in unit.datasets.keys() {
            for secondary in unit.secondaries() {
                items.push(gate::InventoryItem {
                    dataset: (*dataset).to_owned(),
                    unit: unit.lag_name().to_owned(),
                    store: unit.store().to_owned(),
                    primary_site: unit.primary().to_owned(),
                    secondary_site: secondary.to_owned(),
                });
            }
        }
    }
    // The tables and buckets of a dataset share its routes.
    items.dedup();
    items
}

/// The command that judges the same evidence again.
fn reproduce(args: &GateArgs, run: &Run) -> String {
    let instant =
        |at_us: i64| jiff::Timestamp::from_microsecond(at_us).map_or_else(|_| at_us.to_string(), |at| at.to_string());
    let mut words = vec![format!("driftline gate run {}", args.policy)];
    if let Some(from) = args.from {
        words.push(format!("--from {from}"));
    }
    words.push(format!(
        "--to {}",
        args.to.map_or_else(|| instant(run.started_at_us), |to| to.to_string())
    ));
    words.extend(args.event.as_ref().map(|event| format!("--event {event}")));
    words.extend(
        args.evidence
            .as_ref()
            .map(|file| format!("--evidence {}", file.display())),
    );
    words.join(" ")
}
