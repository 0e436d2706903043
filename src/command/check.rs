//! `driftline check`: what can be verified, changing nothing.

use serde::Serialize;
use stores::s3::Found;
use stores::{Collection, End, Identity, KeyShape, NativeStatus, Role, StoreError};

use super::{Context, print};
use crate::cli::Format;
use crate::exit::{Exit, Failure, Outcome};
use crate::native;
use crate::selection::Selection;
use crate::topology::{self, Source, Unit};

/// What was found.
#[derive(Debug, Serialize)]
struct Report {
    /// The configuration and every end are fit for what was asked.
    fine: bool,
    connections: Vec<ConnectionReport>,
}

#[derive(Debug, Serialize)]
struct ConnectionReport {
    connection: String,
    writers: Vec<String>,
    sites: Vec<SiteReport>,
    pairs: Vec<PairReport>,
    datasets: Vec<DatasetReport>,
}

#[derive(Debug, Serialize)]
struct SiteReport {
    site: String,
    identity: Option<Identity>,
    status: Option<NativeStatus>,
    /// What is not as the canaries need it.
    canary_problems: Vec<String>,
    problem: Option<String>,
}

#[derive(Debug, Serialize)]
struct PairReport {
    primary_site: String,
    secondary_site: String,
    relation: Option<stores::Relation>,
    problem: Option<String>,
    /// What is not as the canaries between these two sites need it.
    canary_problems: Vec<String>,
    /// What would be better, and keeps nothing from being probed.
    suggestions: Vec<String>,
    /// What CloudWatch says, where it is asked.
    native: Vec<NativeReport>,
}

/// One figure of the store's own that stands beside the canaries.
#[derive(Debug, Serialize)]
struct NativeReport {
    /// The metric with its dimensions, and the region that publishes it.
    figure: String,
    lag_us: Option<u64>,
    as_of_us: Option<i64>,
    pending_operations: Option<u64>,
    /// Why there is no lag.
    not_collected: Option<String>,
}

#[derive(Debug, Serialize)]
struct DatasetReport {
    dataset: String,
    tables: Vec<TableReport>,
    unmatched_patterns: Vec<String>,
    /// Why its data is not compared at all; its lag and loss are probed.
    not_compared: Option<String>,
}

#[derive(Debug, Serialize)]
struct TableReport {
    table: String,
    rows_estimate: Option<u64>,
    /// Why it, or a part of it, cannot be verified; empty when it can.
    not_verifiable: Vec<String>,
    /// Why its rows are told apart by their contents alone; null where they have a key.
    by_contents: Option<String>,
}

pub(super) async fn run(context: &Context) -> Outcome {
    let mut exit = Exit::Fine;
    let mut connections = Vec::new();
    for unit in topology::units(&context.config) {
        connections.push(connection(&unit, &mut exit).await);
    }
    if connections.is_empty() {
        return Err(Failure::refused(anyhow::anyhow!(
            "the configuration has no connections: nothing to check"
        )));
    }
    let report = Report {
        fine: exit == Exit::Fine,
        connections,
    };
    print::line(&match context.format {
        Format::Json => {
            serde_json::to_string_pretty(&report).map_err(|error| Failure::cannot_tell(anyhow::Error::new(error)))?
        }
        Format::Human => words(&report),
    })?;
    Ok(exit)
}

/// Raises the exit code: a refusal (configuration, identity) beats what could not be told.
fn raise(exit: &mut Exit, to: Exit) {
    *exit = match (*exit, to) {
        (Exit::Refused, _) | (_, Exit::Refused) => Exit::Refused,
        (Exit::CannotTell, _) | (_, Exit::CannotTell) => Exit::CannotTell,
        (other, Exit::Fine) => other,
        (_, other) => other,
    };
}

fn fault(exit: &mut Exit, error: StoreError) -> String {
    let failure = Failure::from(error);
    raise(exit, failure.exit);
    failure.error.to_string()
}

async fn connection(unit: &Unit<'_>, exit: &mut Exit) -> ConnectionReport {
    let mut sites = Vec::new();
    let mut reached: Vec<(String, Identity)> = Vec::new();
    let mut catalog = None;
    for site in unit.sites.iter().copied() {
        let (report, collections) = look_at(unit, site, exit).await;
        if let Some(identity) = &report.identity {
            reached.push((site.to_owned(), identity.clone()));
        }
        if site == unit.primary() {
            catalog = collections;
        }
        sites.push(report);
    }
    let mut pairs = Vec::new();
    for secondary in unit.secondaries() {
        let mut report = pair(unit, secondary, &reached, exit);
        if report.problem.is_none() {
            let found = look_between(unit, secondary, exit).await;
            (report.canary_problems, report.suggestions) = (found.problems, found.suggestions);
            report.native = native_figures(unit, secondary, exit).await;
        }
        pairs.push(report);
    }
    let mut datasets = catalog.map(|tables| datasets(unit, &tables, exit)).unwrap_or_default();
    if unit.aurora().is_none() {
        datasets.extend(unit.datasets.keys().map(|dataset| DatasetReport {
            dataset: (*dataset).to_owned(),
            tables: Vec::new(),
            unmatched_patterns: Vec::new(),
            not_compared: Some(format!("this version compares PostgreSQL only, not {}", unit.store())),
        }));
    }
    ConnectionReport {
        connection: match unit.collection() {
            Some(collection) => format!("{} ({} {collection})", unit.name, unit.store()),
            None => unit.name.to_owned(),
        },
        writers: unit.writers.iter().map(|site| (*site).to_owned()).collect(),
        sites,
        pairs,
        datasets,
    }
}

async fn look_at(unit: &Unit<'_>, site: &str, exit: &mut Exit) -> (SiteReport, Option<Vec<Collection>>) {
    let mut report = SiteReport {
        site: site.to_owned(),
        identity: None,
        status: None,
        canary_problems: Vec::new(),
        problem: None,
    };
    let end: End = match unit.reader_end(site).await {
        Ok(end) => end,
        Err(error) => {
            report.problem = Some(fault(exit, error));
            return (report, None);
        }
    };
    match end.identify.identity().await {
        Ok(identity) => report.identity = Some(identity),
        Err(error) => {
            report.problem = Some(fault(exit, error));
            return (report, None);
        }
    }
    if let Some(status) = &end.status {
        match status.status().await {
            Ok(status) => report.status = Some(status),
            Err(error) => report.problem = Some(fault(exit, error)),
        }
    }
    match canary_problems(unit, site).await {
        Ok(problems) => {
            if !problems.is_empty() {
                raise(exit, Exit::CannotTell);
            }
            report.canary_problems = problems;
        }
        Err(error) => report.canary_problems.push(fault(exit, error)),
    }
    let Some(catalog) = &end.catalog else {
        return (report, None);
    };
    match catalog.collections().await {
        Ok(collections) => (report, Some(collections)),
        Err(error) => {
            report.problem = Some(fault(exit, error));
            (report, None)
        }
    }
}

/// What is not as the canaries need it at `site`; empty when all is well.
async fn canary_problems(unit: &Unit<'_>, site: &str) -> Result<Vec<String>, StoreError> {
    match unit.source {
        Source::Aurora(config) => stores::aurora::check_canary(config, site, stores::aurora::Endpoint::Reader).await,
        Source::Dynamodb(config, names) => {
            let writes = unit.writers.contains(&site);
            stores::dynamodb::check_canary(config, names, site, unit.aws(site)?, writes).await
        }
        // What they need lies between two sites.
        Source::Kafka(_) | Source::S3(..) => Ok(Vec::new()),
    }
}

/// What is not as the canaries from the primary to `secondary` need it.
async fn look_between(unit: &Unit<'_>, secondary: &str, exit: &mut Exit) -> Found {
    match between(unit, unit.primary(), secondary).await {
        Ok(found) => {
            if !found.problems.is_empty() {
                raise(exit, Exit::CannotTell);
            }
            found
        }
        Err(error) => Found {
            problems: vec![fault(exit, error)],
            suggestions: Vec::new(),
        },
    }
}

async fn between(unit: &Unit<'_>, primary: &str, secondary: &str) -> Result<Found, StoreError> {
    match unit.source {
        Source::Kafka(config) => Ok(Found {
            problems: stores::kafka::check_canary(config, primary, secondary).await?,
            suggestions: Vec::new(),
        }),
        Source::S3(config, bucket) => {
            let (writer, watched) = ((primary, unit.aws(primary)?), (secondary, unit.aws(secondary)?));
            let rules = stores::s3::rules(config, bucket, writer.0, writer.1).await?;
            let pair = stores::s3::CheckedPair { writer, watched };
            let found = stores::s3::check_canary(config, bucket, &rules.key_sets, pair).await?;
            let disabled = rules.disabled.iter().map(|keys| {
                format!(
                    "rule {} is switched off: what is written meanwhile is never replicated",
                    keys.rule.as_deref().unwrap_or(&keys.prefix)
                )
            });
            Ok(Found {
                problems: rules.notes.into_iter().chain(disabled).chain(found.problems).collect(),
                suggestions: found.suggestions,
            })
        }
        Source::Aurora(_) | Source::Dynamodb(..) => Ok(Found::default()),
    }
}

/// What CloudWatch says of the route to `secondary`. That it says nothing is no fault: the canaries measure, and a figure beside them is missing.
async fn native_figures(unit: &Unit<'_>, secondary: &str, exit: &mut Exit) -> Vec<NativeReport> {
    let watches = match native::of_route(unit, unit.primary(), secondary).await {
        Ok(watches) => watches,
        Err(error) => {
            return vec![NativeReport {
                figure: "CloudWatch".to_owned(),
                lag_us: None,
                as_of_us: None,
                pending_operations: None,
                not_collected: Some(fault(exit, error)),
            }];
        }
    };
    let mut reports = Vec::new();
    for watch in watches {
        let told = watch.now().await;
        reports.push(NativeReport {
            figure: watch.words(),
            lag_us: told.lag_us,
            as_of_us: told.as_of_us,
            pending_operations: told.operations,
            not_collected: told.not_collected,
        });
    }
    reports
}

fn native_words(native: &NativeReport) -> String {
    let figure = &native.figure;
    match (native.lag_us, &native.not_collected) {
        (Some(lag_us), _) => {
            let as_of = native
                .as_of_us
                .and_then(|at| jiff::Timestamp::from_microsecond(at).ok());
            let as_of = as_of.map_or_else(String::new, |at| format!(" in the minute from {at}"));
            let waiting = native.pending_operations;
            let waiting = waiting.map_or_else(String::new, |waiting| format!(", {waiting} operations waiting"));
            format!("    native lag {lag_us} us{as_of}{waiting}: {figure}")
        }
        (None, reason) => {
            let reason = reason.as_deref().unwrap_or("nothing was said");
            if reason == figure {
                format!("    native lag NOT COLLECTED: {reason}")
            } else {
                format!("    native lag NOT COLLECTED: {figure}: {reason}")
            }
        }
    }
}

fn pair(unit: &Unit<'_>, secondary: &str, reached: &[(String, Identity)], exit: &mut Exit) -> PairReport {
    let identity = |site: &str| {
        reached
            .iter()
            .find(|(name, _)| name == site)
            .map(|(_, identity)| identity)
    };
    let mut report = PairReport {
        primary_site: unit.primary().to_owned(),
        secondary_site: secondary.to_owned(),
        relation: None,
        problem: None,
        canary_problems: Vec::new(),
        suggestions: Vec::new(),
        native: Vec::new(),
    };
    let (Some(a), Some(b)) = (identity(unit.primary()), identity(secondary)) else {
        report.problem = Some("not both ends could be reached".to_owned());
        raise(exit, Exit::CannotTell);
        return report;
    };
    if a.same_data(b) {
        report.problem = Some(format!(
            "both sites reach the same data ({}): a comparison would prove nothing; correct the addresses",
            a.instance
        ));
        raise(exit, Exit::Refused);
        return report;
    }
    if unit.aurora().is_none() {
        // Whether these stores replicate is what the canaries tell.
        return report;
    }
    match topology::relation(unit.aurora().and_then(|aurora| aurora.relation), a, b) {
        Ok(relation) => report.relation = Some(relation),
        Err(problem) => {
            report.problem = Some(problem);
            raise(exit, Exit::Refused);
        }
    }
    report
}

fn datasets(unit: &Unit<'_>, collections: &[Collection], exit: &mut Exit) -> Vec<DatasetReport> {
    let mut reports = Vec::new();
    for (name, tables) in unit.tables() {
        // The patterns were checked when the configuration was read.
        let Ok(selection) = Selection::of(tables) else { continue };
        let unmatched = selection.unmatched(collections);
        let report = DatasetReport {
            dataset: name.to_owned(),
            unmatched_patterns: unmatched.into_iter().map(str::to_owned).collect(),
            not_compared: None,
            tables: collections
                .iter()
                .filter(|collection| selection.selects(&collection.name) && !collection.is_canary)
                .map(table)
                .collect(),
        };
        if !report.unmatched_patterns.is_empty() || report.tables.iter().any(|table| !table.not_verifiable.is_empty()) {
            raise(exit, Exit::CannotTell);
        }
        reports.push(report);
    }
    reports
}

fn table(collection: &Collection) -> TableReport {
    let mut not_verifiable = Vec::new();
    not_verifiable.extend(collection.unreadable.clone());
    for column in &collection.columns {
        if let Some(reason) = &column.not_comparable {
            not_verifiable.push(format!("column {}: {reason}", column.name));
        }
    }
    TableReport {
        table: collection.name.clone(),
        rows_estimate: collection.rows_estimate,
        not_verifiable,
        by_contents: match &collection.key {
            _ if collection.is_counter => None,
            KeyShape::Usable { .. } => None,
            KeyShape::Unusable(reason) => Some(reason.clone()),
        },
    }
}

fn words(report: &Report) -> String {
    let mut lines = Vec::new();
    for connection in &report.connections {
        lines.push(format!(
            "connection {}  (writers: {})",
            connection.connection,
            connection.writers.join(", ")
        ));
        for site in &connection.sites {
            site_words(site, &mut lines);
        }
        for pair in &connection.pairs {
            let relation = match (&pair.relation, &pair.problem) {
                (Some(relation), None) => relation.word().to_owned(),
                (_, Some(problem)) => format!("PROBLEM: {problem}"),
                (None, None) => "as the canaries tell".to_owned(),
            };
            lines.push(format!(
                "  pair {} -> {}: {relation}",
                pair.primary_site, pair.secondary_site
            ));
            lines.extend(
                pair.canary_problems
                    .iter()
                    .map(|problem| format!("    canaries: PROBLEM: {problem}")),
            );
            lines.extend(
                pair.suggestions
                    .iter()
                    .map(|suggestion| format!("    canaries: suggestion: {suggestion}")),
            );
            lines.extend(pair.native.iter().map(native_words));
        }
        for dataset in &connection.datasets {
            dataset_words(dataset, &mut lines);
        }
    }
    let mut datasets = report.connections.iter().flat_map(|one| &one.datasets);
    lines.push(
        match (report.fine, datasets.any(|dataset| dataset.not_compared.is_some())) {
            (true, false) => "everything selected can be verified".to_owned(),
            (true, true) => {
                "everything selected can be probed; what is said above to be not compared cannot be verified".to_owned()
            }
            (false, _) => "NOT everything can be verified: see PROBLEM lines".to_owned(),
        },
    );
    lines.join("\n")
}

fn site_words(site: &SiteReport, lines: &mut Vec<String>) {
    if let Some(identity) = &site.identity {
        let role = match identity.role {
            Role::Writable => "takes writes",
            Role::ReadOnly => "read only (in recovery)",
        };
        lines.push(format!("  site {}: {}, {role}", site.site, identity.version));
        lines.push(format!("    identity {}", identity.instance));
    }
    if let Some(status) = &site.status {
        let figure = |value: Option<u64>, unit: &str| {
            value.map_or("not collected".to_owned(), |value| format!("{value} {unit}"))
        };
        lines.push(format!(
            "    store's own lag {}, {}; link {}",
            figure(status.lag_us, "us"),
            figure(status.lag_bytes, "bytes"),
            status.link.as_deref().unwrap_or("not visible to this role")
        ));
        let why = status.not_collected.iter();
        lines.extend(why.map(|reason| format!("    own lag not collected: {reason}")));
        if status.is_logical {
            lines.push(
                "    takes part in logical replication: its tables are verified where relation = \"replicating\" is stated and the same \
                 subscription brings driftline.canary; without canaries, where fence = { time = ... } is stated too"
                    .to_owned(),
            );
        }
    }
    lines.extend(
        site.problem
            .iter()
            .map(|problem| format!("  site {}: PROBLEM: {problem}", site.site)),
    );
    lines.extend(
        site.canary_problems
            .iter()
            .map(|problem| format!("    canaries: PROBLEM: {problem}")),
    );
}

fn dataset_words(dataset: &DatasetReport, lines: &mut Vec<String>) {
    if let Some(reason) = &dataset.not_compared {
        lines.push(format!(
            "  dataset {}: lag and loss are probed; its data is not compared: {reason}",
            dataset.dataset
        ));
        return;
    }
    lines.push(format!(
        "  dataset {}: {} tables",
        dataset.dataset,
        dataset.tables.len()
    ));
    for pattern in &dataset.unmatched_patterns {
        lines.push(format!("    PROBLEM: pattern `{pattern}` matches no table"));
    }
    for table in &dataset.tables {
        let rows = table
            .rows_estimate
            .map_or("unknown".to_owned(), |rows| rows.to_string());
        if table.not_verifiable.is_empty() {
            lines.push(format!("    {}: about {rows} rows, can be verified", table.table));
        }
        if let Some(reason) = &table.by_contents {
            lines.push(format!(
                "    {}: compared by contents and number of rows: {reason}",
                table.table
            ));
        }
        for reason in &table.not_verifiable {
            lines.push(format!("    {}: PROBLEM: {reason}", table.table));
        }
    }
}
