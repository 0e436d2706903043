//! `driftline reconcile run --estimate`

use std::fmt::Write as _;

use reconcile::{Estimate, STATED_BYTES_PER_SECOND, Stop, estimates, rows_per_second};

use super::planning::open_all;
use super::{Compared, Context};
use crate::cli::{Format, SelectArgs};
use crate::command::print;
use crate::exit::{Failure, Outcome};
use crate::topology;

/// Asks the catalogs of both ends and reads no row.
pub(super) async fn run(context: &Context, args: &SelectArgs, stop: Stop) -> Outcome {
    let mut compared = Compared::new();
    let units = topology::units(&context.config);
    let opened = open_all(&units, args, &stop, &mut compared).await?;
    let limits = super::limits(context)?;
    let rows_per_second = rows_per_second(&limits);
    let of = opened.iter();
    let all: Vec<_> = of
        .map(|one| (one.job.about(), estimates(&one.ends.selected, &limits)))
        .collect();
    let text = match context.format {
        Format::Json => {
            let of = |(about, estimates): &(String, Vec<Estimate>)| serde_json::json!({ "about": about, "collections": estimates });
            serde_json::to_string_pretty(&serde_json::json!({
                "throughput": "stated",
                "rows_per_second": rows_per_second,
                "bytes_per_second": STATED_BYTES_PER_SECOND,
                "usd": null,
                "estimates": all.iter().map(of).collect::<Vec<_>>(),
                "not_estimated": compared.not_compared,
            }))
            .map_err(|error| Failure::cannot_tell(anyhow::Error::new(error)))?
        }
        Format::Human => {
            let mut text: String = all
                .iter()
                .map(|(about, estimates)| told(about, estimates, rows_per_second))
                .collect();
            for reason in &compared.not_compared {
                let _ = writeln!(text, "NOT ESTIMATED: {reason}");
            }
            text
        }
    };
    print::result(&text, compared.exit)
}

fn told(about: &str, estimates: &[Estimate], rows_per_second: u64) -> String {
    let mut table = comfy_table::Table::new();
    table.load_style(comfy_table::presets::ASCII_MARKDOWN);
    table.set_header([
        "collection",
        "rows",
        "bytes",
        "chunks",
        "minutes",
        "page reads, at most",
    ]);
    let maybe = |figure: Option<u64>| figure.map_or_else(|| "not known".to_owned(), |figure| figure.to_string());
    let minutes = |seconds: f64| format!("{:.1}", seconds / 60.0);
    for one in estimates {
        table.add_row([
            one.collection.clone(),
            maybe(one.rows),
            maybe(one.bytes),
            maybe(one.chunks),
            one.seconds.map_or_else(|| "not known".to_owned(), minutes),
            maybe(one.page_reads_max),
        ]);
    }
    let known: f64 = estimates.iter().filter_map(|one| one.seconds).sum();
    let unknown = estimates.iter().filter(|one| one.seconds.is_none()).count();
    let mut text = format!("{about}\n{table}\n{} minutes together", minutes(known));
    if unknown > 0 {
        let _ = write!(
            text,
            ", without {unknown} collections of which the catalogs do not say how large they are (ANALYZE them)"
        );
    }
    let _ = writeln!(
        text,
        ". Rows and bytes are the servers' own estimates; minutes are by a stated throughput of {rows_per_second} rows and \
         {STATED_BYTES_PER_SECOND} bytes a second, not by a measured one. PostgreSQL bills nothing for a statement; where storage bills \
         for reads (Aurora Standard), it is for the page reads that memory does not serve. Their price is not known here."
    );
    text
}
