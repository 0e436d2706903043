//! The command line: names, help and nothing else.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

/// Measures how far behind each copy of your data is, and proves which data differs.
#[derive(Debug, Parser)]
#[command(
    name = "driftline",
    version,
    max_term_width = 100,
    after_help = "EXIT CODES\n  0  consistent, GO, drained\n  1  a confirmed divergence, a proved loss, INVESTIGATE, NO-GO\n  2  decided before any comparison: usage, configuration, password, TLS, identity\n  3  could not tell: unreachable, no rights, time-out, stopped, nothing matched, INCONCLUSIVE\n\nFIRST STEPS\n  driftline demo                        the whole story on PostgreSQL servers of its own\n  driftline config print                what the configuration means\n  driftline init --print                SQL, policies and access rules of canaries, least privilege\n  driftline check                       what can be verified, changing nothing"
)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// Options of every command.
#[derive(Debug, Args)]
pub(crate) struct Global {
    /// Configuration file
    #[arg(
        long,
        short,
        global = true,
        env = "DRIFTLINE_CONFIG",
        default_value = "driftline.toml",
        value_name = "FILE"
    )]
    pub(crate) config: PathBuf,
    /// Folder for Parquet, reports and journals, instead of the configuration's `output`
    #[arg(long, global = true, value_name = "DIR")]
    pub(crate) output: Option<PathBuf>,
    /// Site that takes writes now: `usw2`, or `orders-db=usw2` for one connection, or a dataset that has none. Repeat for several
    #[arg(long, global = true, value_name = "[CONNECTION=]SITE")]
    pub(crate) writers: Vec<String>,
    /// What to print on standard output; `csv` with `lag` alone
    #[arg(long, global = true, value_enum, default_value_t = FormatArg::Human)]
    pub(crate) format: FormatArg,
    /// How to log on standard error; text, unless it is a probe that runs without a terminal
    #[arg(long, global = true, value_enum)]
    pub(crate) log_format: Option<LogFormat>,
    /// Log more (twice: even more); RUST_LOG overrides
    #[arg(long, short, global = true, action = clap::ArgAction::Count)]
    pub(crate) verbose: u8,
}

/// Form of results as the command line writes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum FormatArg {
    /// Tables and sentences.
    Human,
    /// One JSON document.
    Json,
    /// One table with a header.
    Csv,
}

/// Form of results that every command has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Format {
    /// Tables and sentences.
    Human,
    /// One JSON document.
    Json,
}

/// Form of logs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum LogFormat {
    /// Lines for people.
    Text,
    /// One JSON object a line.
    Json,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Create what canaries need, or print the SQL, policies and access rules that do
    Init(InitArgs),
    /// Connect and print what can be verified, and which of the stores' own figures are collected; changes nothing
    #[command(
        after_help = "EXAMPLES\n  driftline check\n  driftline check --format json\n  driftline --writers usw2 check      as if usw2 took the writes"
    )]
    Check,
    /// Write canaries, time their arrival, serve /metrics, until stopped
    Probe(ProbeArgs),
    /// Prove from the ledger how much an event lost
    Rpo(RpoArgs),
    /// Find out which data differs
    #[command(subcommand)]
    Reconcile(ReconcileCommand),
    /// Explain one key that a run found: what differs, where it comes from, whether it still does
    Explain(ExplainArgs),
    /// Record a failover, switchover, failback, restore or maintenance
    #[command(subcommand)]
    Event(EventCommand),
    /// Judge the evidence by a policy: GO, INVESTIGATE, NO-GO or INCONCLUSIVE
    #[command(subcommand)]
    Gate(GateCommand),
    /// Lag over hours or days: percentiles merged from many files, as a table, CSV or a picture
    Lag(LagArgs),
    /// Look at the configuration
    #[command(subcommand)]
    Config(ConfigCommand),
    /// Keep PostgreSQL servers of driftline's own running, to try things on
    #[cfg(feature = "lab")]
    #[command(subcommand)]
    Lab(LabCommand),
    /// Tell the whole story on servers of its own: lag, failover, loss, divergences, verdict
    #[cfg(feature = "lab")]
    Demo(DemoArgs),
}

#[derive(Debug, Args)]
#[command(
    after_help = "EXAMPLES\n  driftline init --print > init.sql\n  driftline init --connection msk      makes the canary topic of a Kafka connection\n  driftline init --admin postgresql://admin@db.example:5432/postgres   (password from DRIFTLINE_ADMIN_PASSWORD)"
)]
pub(crate) struct InitArgs {
    /// Print what has to be applied, and make nothing. Rules of S3 are read for it; nothing else is asked
    #[arg(long)]
    pub(crate) print: bool,
    /// One connection only, or a dataset that has none
    #[arg(long, value_name = "NAME")]
    pub(crate) connection: Option<String>,
    /// URL of a role that may create roles and databases; its password is read from DRIFTLINE_ADMIN_PASSWORD
    #[arg(long, value_name = "URL", conflicts_with = "print")]
    pub(crate) admin: Option<String>,
}

#[derive(Debug, Args)]
#[command(
    after_help = "EXAMPLES\n  driftline probe                 until SIGTERM or Ctrl-C\n  driftline probe --for 60s       for a minute, then the figures"
)]
pub(crate) struct ProbeArgs {
    /// Stop after this time, e.g. `60s`, `5m`
    #[arg(long = "for", value_name = "TIME", value_parser = duration)]
    pub(crate) limit: Option<std::time::Duration>,
}

#[derive(Debug, Args)]
#[command(
    after_help = "EXAMPLES\n  driftline rpo --event latest\n  driftline rpo --ledger s3://ledger-usw2/driftline     by the copy, when the machine of the probe is gone"
)]
pub(crate) struct RpoArgs {
    /// The event: its ID, or `latest`
    #[arg(long, default_value = "latest", value_name = "ID")]
    pub(crate) event: String,
    /// A copy of the ledger, where this is not the machine that the probe ran on: `s3://bucket/prefix` or a folder
    #[arg(long, value_name = "PLACE")]
    pub(crate) ledger: Option<probes::CopyPlace>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum ReconcileCommand {
    /// Compare all selected tables of all pairs and write coverage, chunks and divergences as Parquet
    Run(ReconcileArgs),
    /// Pin what is to be compared and how, for workers that share the work; compares nothing
    Plan(PlanArgs),
    /// Compare one shard of a plan and keep its result where the plan is
    Shard(ShardArgs),
    /// Put the results of all shards together and write the tables
    Merge(MergeArgs),
}

#[derive(Debug, Args)]
#[command(
    after_help = "EXAMPLES\n  driftline reconcile run\n  driftline reconcile run --dataset payments --format json\n  driftline reconcile run --event latest --relation independent    after a failover, the old primary back\n  driftline reconcile run --estimate                               what it would take, before any row is read\n  driftline reconcile run --time-budget 20m                        as far as it gets; coverage says what remains (exit 3)\n  driftline reconcile run --resume RUN                             go on where a run was stopped or killed\n  driftline reconcile run --recheck latest                         only the keys that a run found: what still differs?\n  driftline reconcile run --against RUN --writers usw2             the other region is gone: compare with what RUN recorded of it"
)]
pub(crate) struct ReconcileArgs {
    #[command(flatten)]
    pub(crate) select: SelectArgs,
    /// Go on with a run of this output folder: what is committed is not compared again
    #[arg(long, value_name = "RUN", conflicts_with_all = ["dataset", "event", "relation", "include_values"])]
    pub(crate) resume: Option<String>,
    /// Begin no new chunk after this time, e.g. `20m`
    #[arg(long, value_name = "TIME", value_parser = duration)]
    pub(crate) time_budget: Option<std::time::Duration>,
    /// Only say what it would take: rows, bytes, chunks, minutes. Reads catalogs, no row
    #[arg(long, conflicts_with_all = ["resume", "time_budget", "event", "include_values"])]
    pub(crate) estimate: bool,
    /// Look again only at the keys that a run of this output folder found: its ID, or `latest`. Verifies no collection (never exit 0)
    #[arg(long, value_name = "RUN", conflicts_with_all = ["resume", "estimate", "against"])]
    pub(crate) recheck: Option<String>,
    /// Compare the site that writes now with what a run of this output folder recorded of the other one, which is not asked: its ID, or `latest`
    #[arg(long, value_name = "RUN", conflicts_with_all = ["resume", "estimate", "event", "relation", "include_values"])]
    pub(crate) against: Option<String>,
}

#[derive(Debug, Args)]
#[command(
    after_help = "EXAMPLES\n  driftline explain latest '{\"id\":17}'\n  driftline explain latest 17 --collection public.orders --rows      both rows side by side\n  driftline explain RUN 9f86d081...                                 by the hash that evidence shows with keys = \"hashed\"\n\nEXIT CODES\n  0  the key is equal now\n  1  it still differs\n  2  usage: no such run, no such key, several keys of that name\n  3  could not tell"
)]
pub(crate) struct ExplainArgs {
    /// The run: its ID, or `latest`
    #[arg(value_name = "RUN")]
    pub(crate) run: String,
    /// The key as it is printed (`{"id":17}`), the value alone where the key is one column, or its hash
    #[arg(value_name = "KEY")]
    pub(crate) key: String,
    /// Only in this dataset
    #[arg(long, value_name = "NAME")]
    pub(crate) dataset: Option<String>,
    /// Only in this collection
    #[arg(long, value_name = "NAME")]
    pub(crate) collection: Option<String>,
    /// Show both rows side by side. Refused unless keys may appear
    #[arg(long)]
    pub(crate) rows: bool,
    /// How the copies are related, when it cannot be detected
    #[arg(long, value_enum)]
    pub(crate) relation: Option<RelationArg>,
}

/// What is to be compared.
#[derive(Debug, Clone, Args)]
pub(crate) struct SelectArgs {
    /// One dataset only; repeat for several
    #[arg(long, value_name = "NAME")]
    pub(crate) dataset: Vec<String>,
    /// Tell lost writes, new writes and conflicts apart by this event: its ID, or `latest`
    #[arg(long, value_name = "ID")]
    pub(crate) event: Option<String>,
    /// How the copies are related, when it cannot be detected
    #[arg(long, value_enum)]
    pub(crate) relation: Option<RelationArg>,
    /// Put the values of differing rows into the output
    #[arg(long)]
    pub(crate) include_values: bool,
}

#[derive(Debug, Args)]
#[command(
    after_help = "EXAMPLES\n  driftline reconcile plan                                   below the output folder\n  driftline reconcile plan --out s3://evidence-usw2/driftline --format json\n  driftline reconcile plan --rows-per-shard 5000000          more and smaller shards\n\nIt prints where the plan is: give that to `reconcile shard --plan` and `reconcile merge --plan`."
)]
pub(crate) struct PlanArgs {
    #[command(flatten)]
    pub(crate) select: SelectArgs,
    /// Where the stages of the run meet: `s3://bucket/prefix` or a folder; default: the output folder
    #[arg(long, value_name = "PLACE")]
    pub(crate) out: Option<probes::CopyPlace>,
    /// Rows that one shard should hold
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) rows_per_shard: Option<u64>,
}

#[derive(Debug, Args)]
#[command(
    after_help = "EXAMPLES\n  driftline reconcile shard --plan out/_work/RUN --shard 0\n  driftline reconcile shard --plan s3://evidence-usw2/driftline/_work/RUN      in a Kubernetes Indexed Job or an AWS Batch array\n\nEXIT CODES\n  0   the result is durable, also when rows differ\n  2   usage, configuration, password, TLS, identity\n  64  bad plan: none, of another version or configuration, or without such a shard\n  65  bad data: what is stored of the run is damaged\n  75  try again"
)]
pub(crate) struct ShardArgs {
    /// What `reconcile plan` printed
    #[arg(long, value_name = "PLACE")]
    pub(crate) plan: probes::CopyPlace,
    /// Number of the shard; default: JOB_COMPLETION_INDEX or AWS_BATCH_JOB_ARRAY_INDEX
    #[arg(long, value_name = "N")]
    pub(crate) shard: Option<u64>,
}

#[derive(Debug, Args)]
#[command(
    after_help = "EXAMPLE\n  driftline reconcile merge --plan out/_work/RUN --format json\n\nWhile a shard has no result it writes nothing, says which, and exits with 3. Otherwise it exits as `reconcile run` does."
)]
pub(crate) struct MergeArgs {
    /// What `reconcile plan` printed
    #[arg(long, value_name = "PLACE")]
    pub(crate) plan: probes::CopyPlace,
}

/// A relation as the command line writes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum RelationArg {
    /// The secondary applies what the primary writes.
    Replicating,
    /// No link between the copies.
    Independent,
}

#[derive(Debug, Subcommand)]
pub(crate) enum EventCommand {
    /// Declare an event
    Start(EventStartArgs),
    /// Record an instant of it; `promoted` also reads the fork from the promoted server
    Mark(EventMarkArgs),
    /// Close it
    End(EventEndArgs),
    /// List events
    List,
}

#[derive(Debug, Args)]
#[command(
    after_help = "EXAMPLE\n  driftline event start failover --from use1 --to usw2 --exercise --scenario 'primary region lost'"
)]
pub(crate) struct EventStartArgs {
    /// What kind
    #[arg(value_enum)]
    pub(crate) kind: EventKindArg,
    /// The site that wrote before
    #[arg(long, value_name = "SITE")]
    pub(crate) from: String,
    /// The site that writes after
    #[arg(long, value_name = "SITE")]
    pub(crate) to: String,
    /// It is a drill
    #[arg(long)]
    pub(crate) exercise: bool,
    /// The scenario of a drill
    #[arg(long, value_name = "WORDS")]
    pub(crate) scenario: Option<String>,
    /// Datasets that it touches; none = all
    #[arg(long, value_name = "NAME")]
    pub(crate) dataset: Vec<String>,
    /// When it was declared, if not now (RFC 3339)
    #[arg(long, value_name = "INSTANT")]
    pub(crate) at: Option<jiff::Timestamp>,
    /// Free words
    #[arg(long, default_value = "", value_name = "WORDS")]
    pub(crate) notes: String,
}

/// A kind of event as the command line writes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum EventKindArg {
    /// The primary failed and another site took over.
    Failover,
    /// A planned change of roles.
    Switchover,
    /// The return to the old site.
    Failback,
    /// Data was restored from a backup.
    Restore,
    /// Work that disturbs replication.
    Maintenance,
}

#[derive(Debug, Args)]
#[command(
    after_help = "EXAMPLES\n  driftline event mark promoted              reads the fork at the promoted server\n  driftline event mark traffic-shifted --at 2026-11-21T03:12:00Z"
)]
pub(crate) struct EventMarkArgs {
    /// Which instant
    #[arg(value_enum)]
    pub(crate) mark: Mark,
    /// The event: its ID, or `latest`
    #[arg(long, default_value = "latest", value_name = "ID")]
    pub(crate) event: String,
    /// The instant, if not now (RFC 3339)
    #[arg(long, value_name = "INSTANT")]
    pub(crate) at: Option<jiff::Timestamp>,
}

/// An instant of an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Mark {
    /// The new site takes writes.
    Promoted,
    /// Applications write to it.
    TrafficShifted,
    /// Somebody verified that it works.
    Verified,
}

#[derive(Debug, Args)]
#[command(after_help = "EXAMPLE\n  driftline event end --outcome 'back on use1, reconciled'")]
pub(crate) struct EventEndArgs {
    /// The event: its ID, or `latest`
    #[arg(long, default_value = "latest", value_name = "ID")]
    pub(crate) event: String,
    /// How it ended
    #[arg(long, value_name = "WORDS")]
    pub(crate) outcome: Option<String>,
    /// The instant, if not now (RFC 3339)
    #[arg(long, value_name = "INSTANT")]
    pub(crate) at: Option<jiff::Timestamp>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum GateCommand {
    /// Apply a policy to the evidence in the output folder
    Run(GateArgs),
}

#[derive(Debug, Args)]
#[command(
    after_help = "EXAMPLES\n  driftline gate run ninety-day\n  driftline gate run policies/ninety-day.toml --from 2026-11-20T00:00:00Z --evidence evidence.toml"
)]
pub(crate) struct GateArgs {
    /// A policy that comes with driftline (`ninety-day`), or a file
    pub(crate) policy: String,
    /// Start of the window (RFC 3339); default: the policy's window before its end
    #[arg(long, value_name = "INSTANT")]
    pub(crate) from: Option<jiff::Timestamp>,
    /// End of the window; default: now
    #[arg(long, value_name = "INSTANT")]
    pub(crate) to: Option<jiff::Timestamp>,
    /// Judge this event: its ID, or `latest`
    #[arg(long, value_name = "ID")]
    pub(crate) event: Option<String>,
    /// Figures, waivers and not-applicable items supplied by people
    #[arg(long, value_name = "FILE")]
    pub(crate) evidence: Option<PathBuf>,
}

#[derive(Debug, Args)]
#[command(
    after_help = "EXAMPLES\n  driftline lag\n  driftline lag --from 2026-11-20T00:00:00Z --to 2026-11-21T00:00:00Z --route 'payments:use1->usw2' --svg lag.svg\n  driftline lag site-a/driftline-out site-b/driftline-out --format csv     no configuration needed\n\nA canary that was not seen is unbounded: a quantile that falls among such canaries is `+inf`, never a number."
)]
pub(crate) struct LagArgs {
    /// Output folders, `.parquet` files of lag_intervals, `.hlog` files; default: the output folder of the configuration
    #[arg(value_name = "PATH")]
    pub(crate) paths: Vec<PathBuf>,
    /// Only intervals that start at or after this instant
    #[arg(long, value_name = "INSTANT")]
    pub(crate) from: Option<jiff::Timestamp>,
    /// Only intervals that start before this instant
    #[arg(long, value_name = "INSTANT")]
    pub(crate) to: Option<jiff::Timestamp>,
    /// Only this route: DATASET, PRIMARY->SECONDARY or DATASET:PRIMARY->SECONDARY; repeat for several
    #[arg(long = "route", value_name = "ROUTE")]
    pub(crate) routes: Vec<reports::lag::RouteFilter>,
    /// Also draw the percentile spectrum
    #[arg(long, value_name = "FILE")]
    pub(crate) svg: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum ConfigCommand {
    /// Print the effective configuration, defaults filled in, secrets as references
    #[command(after_help = "EXAMPLE\n  driftline --config driftline.toml config print")]
    Print,
}

#[cfg(feature = "lab")]
#[derive(Debug, Subcommand)]
pub(crate) enum LabCommand {
    /// Start a pair of each store (PostgreSQL servers; stand-ins of DynamoDB, S3 and Kafka) and keep them until Ctrl-C
    Up(LabUpArgs),
}

#[cfg(feature = "lab")]
#[derive(Debug, Args)]
#[command(after_help = "EXAMPLE\n  driftline lab up --folder lab &\n  driftline --config lab/driftline.toml check")]
pub(crate) struct LabUpArgs {
    /// Folder for the configuration and the password files
    #[arg(long, default_value = "driftline-lab", value_name = "DIR")]
    pub(crate) folder: PathBuf,
    /// Rows in the sample tables altogether
    #[arg(long, default_value_t = 200_000, value_name = "N")]
    pub(crate) rows: u32,
    /// How long the standby waits before it applies, e.g. `500ms`
    #[arg(long, value_name = "TIME", value_parser = duration)]
    pub(crate) replay_delay: Option<std::time::Duration>,
}

#[cfg(feature = "lab")]
#[derive(Debug, Args)]
#[command(after_help = "EXAMPLE\n  driftline demo --folder ./driftline-demo")]
pub(crate) struct DemoArgs {
    /// Folder for everything that the demo leaves behind; emptied first if an earlier demo made it
    #[arg(long, default_value = "driftline-demo", value_name = "DIR")]
    pub(crate) folder: PathBuf,
}

fn duration(text: &str) -> Result<std::time::Duration, String> {
    let signed: jiff::SignedDuration = text
        .parse()
        .map_err(|error: jiff::Error| format!("{error}; write e.g. `60s` or `5m`"))?;
    std::time::Duration::try_from(signed).map_err(|_| "a time cannot be negative".to_owned())
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    #[test]
    fn the_command_line_is_well_formed() {
        super::Cli::command().debug_assert();
    }

    #[test]
    fn a_time_without_a_unit_is_refused() {
        assert!(super::duration("60").is_err());
        assert!(super::duration("-5s").is_err());
        assert_eq!(super::duration("60s").unwrap().as_secs(), 60);
    }
}
