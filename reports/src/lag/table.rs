//! The figures for a person and as CSV.

use std::fmt::Write as _;

use probes::Quantiles;

use super::report::{LagReport, Spectrum};
use crate::gate::instant_text;
use crate::render::{at_least, at_most, canaries, plain, table};

/// Gaps that the text names; JSON has more.
const GAPS_TOLD_MAX: usize = 3;

/// The percentile table and what has to be known beside it.
pub fn terminal(report: &LagReport) -> String {
    let mut figures = table(&[
        "dataset", "route", "observer", "lag is", "p50", "p90", "p95", "p99", "p99.9", "max",
    ]);
    for spectrum in &report.routes {
        let observed = &spectrum.observed;
        let name = [
            plain(&observed.dataset),
            plain(&observed.arrow()),
            plain(&observed.observer),
        ];
        figures.add_row(
            name.into_iter()
                .chain(["at least".to_owned()])
                .chain(low_cells(spectrum)),
        );
        let under = [String::new(), String::new(), String::new(), "at most".to_owned()];
        figures.add_row(under.into_iter().chain(high_cells(spectrum)));
    }
    let mut text = format!("{figures}\n");
    for spectrum in &report.routes {
        text.push('\n');
        text.push_str(&remarks(spectrum));
    }
    if !report.unmeasured.is_empty() || !report.notes.is_empty() {
        text.push('\n');
    }
    for one in &report.unmeasured {
        let _ = writeln!(
            text,
            "UNMEASURED: {} ({}) {}: {}; its lag is not known, which is not zero",
            plain(&one.dataset),
            plain(&one.store),
            plain(&one.collection),
            plain(&one.reason)
        );
    }
    for note in &report.notes {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "note: {note}");
    }
    text
}

fn ends(quantiles: &Quantiles) -> [Option<u64>; 6] {
    [
        quantiles.p50_us,
        quantiles.p90_us,
        quantiles.p95_us,
        quantiles.p99_us,
        quantiles.p99_9_us,
        quantiles.max_us,
    ]
}

/// A quantile without upper bound is one of a canary that may still be on its way: its low end is an age.
fn low_cells(spectrum: &Spectrum) -> impl Iterator<Item = String> {
    let ends = ends(&spectrum.low).into_iter().zip(ends(&spectrum.high));
    ends.map(|(low, high)| match (low, high) {
        (Some(_), None) => format!(">= {}", at_least(low)),
        _ => at_least(low),
    })
}

fn high_cells(spectrum: &Spectrum) -> impl Iterator<Item = String> {
    let is_measured = spectrum.canaries > 0;
    ends(&spectrum.high).into_iter().map(move |high| match high {
        None if is_measured => "+inf".to_owned(),
        None => "-".to_owned(),
        high => at_most(high),
    })
}

fn remarks(spectrum: &Spectrum) -> String {
    let observed = &spectrum.observed;
    let mut text = format!(
        "{} {} by {}: ",
        plain(&observed.dataset),
        plain(&observed.arrow()),
        plain(&observed.observer)
    );
    let count =
        |name: &str, count: Option<u64>| format!("{} {name}", count.map_or("?".to_owned(), |count| count.to_string()));
    let fates = [
        count("pending", observed.pending),
        count("lost", observed.lost),
        count("superseded", observed.superseded),
        count("not written", observed.write_failed),
        count("of unknown outcome", observed.write_unknown),
        count("skipped", observed.skipped),
    ];
    // Writing to a String cannot fail.
    let _ = writeln!(
        text,
        "{} planned: {} seen, {}.",
        observed.planned.map_or("? canaries".to_owned(), canaries),
        observed.seen,
        fates.join(", ")
    );
    if spectrum.canaries == 0 {
        text.push_str("  NOTHING WAS MEASURED.\n");
    }
    if observed.planned.is_none() {
        text.push_str("  Read from .hlog, which holds settled canaries only: `?` is not in it, and pending canaries could raise every figure.\n");
    }
    if spectrum.bounded < spectrum.canaries {
        let _ = writeln!(
            text,
            "  {} of {} without upper bound: quantiles beyond {} are +inf.",
            canaries(spectrum.canaries - spectrum.bounded),
            spectrum.canaries,
            percent(spectrum.bounded, spectrum.canaries)
        );
    }
    if let Some(age) = observed.oldest_unseen_us {
        let _ = writeln!(
            text,
            "  The oldest canary still unseen in the last word on its minute: for {} at least.",
            at_least(Some(age))
        );
    }
    if observed.intervals_open > 0 {
        let _ = writeln!(
            text,
            "  {} of {} intervals were not settled.",
            observed.intervals_open, observed.intervals
        );
    }
    if observed.intervals_without_histogram > 0 {
        let _ = writeln!(
            text,
            "  {} of {} intervals came without histogram: their {} count as anything from 0 to +inf.",
            observed.intervals_without_histogram,
            observed.intervals,
            canaries(spectrum.without_histogram)
        );
    }
    text.push_str(&gaps(spectrum));
    text
}

fn gaps(spectrum: &Spectrum) -> String {
    let observed = &spectrum.observed;
    let span = |us: i64| at_most(u64::try_from(us).ok());
    if observed.gaps == 0 {
        return format!(
            "  Observed for {} without a gap.\n",
            at_least(u64::try_from(observed.observed_us).ok())
        );
    }
    let listed: Vec<String> = observed
        .longest_gaps
        .iter()
        .take(GAPS_TOLD_MAX)
        .map(|gap| format!("{} for {}", instant_text(gap.from_us), span(gap.length_us)))
        .collect();
    format!(
        "  Observed for {}; NOT OBSERVED for {} in {}, the longest: {}.\n",
        at_least(u64::try_from(observed.observed_us).ok()),
        span(observed.gap_us),
        if observed.gaps == 1 {
            "1 gap".to_owned()
        } else {
            format!("{} gaps", observed.gaps)
        },
        listed.join("; ")
    )
}

/// A share in per cent, rounded down to thousandths: a quantile below it is bounded.
fn percent(part: u64, whole: u64) -> String {
    let thousandths = u128::from(part) * 100_000 / u128::from(whole.max(1));
    format!("p{}.{:03}", thousandths / 1_000, thousandths % 1_000)
}

/// One line a route and observer, with a header. Microseconds. A quantile without bound is `inf`, one that was not measured and a count that is not
/// known are empty.
pub fn csv(report: &LagReport) -> String {
    let mut text = String::from("dataset,store,primary_site,secondary_site,observer");
    for end in ["low", "high"] {
        for quantile in ["p50", "p90", "p95", "p99", "p99_9", "max"] {
            let _ = write!(text, ",{end}_{quantile}_us");
        }
    }
    text.push_str(
        ",canaries,bounded,without_histogram,seen,planned,pending,lost,superseded,write_failed,write_unknown,skipped,\
         oldest_unseen_us,intervals,intervals_open,intervals_without_histogram,observed_us,gap_us,gaps\n",
    );
    for spectrum in &report.routes {
        text.push_str(&line(spectrum).join(","));
        text.push('\n');
    }
    text
}

fn line(spectrum: &Spectrum) -> Vec<String> {
    let observed = &spectrum.observed;
    let maybe = |figure: Option<u64>| figure.map_or_else(String::new, |figure| figure.to_string());
    let unbounded = if spectrum.canaries > 0 { "inf" } else { "" };
    let names = [
        &observed.dataset,
        &observed.store,
        &observed.primary_site,
        &observed.secondary_site,
        &observed.observer,
    ];
    let mut cells: Vec<String> = names.into_iter().map(|name| quoted(name)).collect();
    cells.extend(ends(&spectrum.low).into_iter().map(maybe));
    cells.extend(
        ends(&spectrum.high)
            .into_iter()
            .map(|high| high.map_or_else(|| unbounded.to_owned(), |high| high.to_string())),
    );
    cells.extend(
        [
            spectrum.canaries,
            spectrum.bounded,
            spectrum.without_histogram,
            observed.seen,
        ]
        .map(|count| count.to_string()),
    );
    let counts = [
        observed.planned,
        observed.pending,
        observed.lost,
        observed.superseded,
        observed.write_failed,
        observed.write_unknown,
        observed.skipped,
        observed.oldest_unseen_us,
    ];
    cells.extend(counts.map(maybe));
    cells.extend(
        [
            observed.intervals,
            observed.intervals_open,
            observed.intervals_without_histogram,
        ]
        .map(|count| count.to_string()),
    );
    cells.extend([observed.observed_us, observed.gap_us].map(|us| us.to_string()));
    cells.push(observed.gaps.to_string());
    cells
}

/// A cell of CSV (RFC 4180): quoted where it must be.
fn quoted(text: &str) -> String {
    if text.contains([',', '"', '\n', '\r']) {
        format!("\"{}\"", text.replace('"', "\"\""))
    } else {
        text.to_owned()
    }
}
