//! The last quarter of an hour as a small drawing: a band from the median's low end to the 99th percentile's high end.

use std::fmt::Write as _;

use crate::metrics::{Lately, SPANS_MAX};

/// Pixels.
const WIDTH: f64 = 180.0;
const HEIGHT: f64 = 44.0;

/// Height of the lowest bar: narrow readings must still be seen.
const BAR_MIN: f64 = 3.0;

/// Decades of the scale, which is the same for all routes: 1 ms at the bottom, 1,000 s at the top.
const DECADES: f64 = 6.0;

/// Height of a lag on a logarithmic scale, from the top.
fn y(us: u64) -> f64 {
    let milliseconds = super::page::seconds(us) * 1_000.0;
    let decade = milliseconds.max(1.0).log10().min(DECADES);
    HEIGHT - decade / DECADES * HEIGHT
}

/// The drawing as SVG: one bar for each span in which something was seen, one mark at the bottom for each in which nothing was, and a
/// line at one second.
pub(super) fn spark(spans: &[Option<Lately>]) -> String {
    let count = u32::try_from(SPANS_MAX).unwrap_or(u32::MAX);
    let step = WIDTH / f64::from(count);
    let mut svg = format!(
        r#"<svg class="spark" viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" height="{HEIGHT}" role="img" aria-label="{}"><path class="second" d="M0 {second}H{WIDTH}"/>"#,
        label(spans),
        second = y(1_000_000),
    );
    let began = spans.iter().position(Option::is_some).unwrap_or(spans.len());
    for (at, span) in (0u32..).zip(spans) {
        let x = f64::from(at) * step;
        let is_before = usize::try_from(at).is_ok_and(|at| at < began);
        // Writing to a String cannot fail.
        let _ = match span {
            Some(span) => {
                let (top, bottom) = (y(span.high_p99_us), y(span.low_p50_us));
                let height = (bottom - top).max(BAR_MIN);
                write!(
                    svg,
                    r#"<rect class="seen" x="{x:.1}" y="{:.1}" width="{step:.1}" height="{height:.1}"/>"#,
                    top.min(HEIGHT - height)
                )
            }
            None if is_before => Ok(()),
            None => write!(
                svg,
                r#"<rect class="none" x="{x:.1}" y="{:.1}" width="{step:.1}" height="3"/>"#,
                HEIGHT - 3.0
            ),
        };
    }
    svg.push_str("</svg>");
    svg
}

/// The drawing in words.
fn label(spans: &[Option<Lately>]) -> String {
    let highest = spans.iter().flatten().map(|span| span.high_p99_us).max();
    match highest {
        Some(us) => format!("last 15 minutes: at most {}", super::page::duration(us)),
        None => "last 15 minutes: nothing seen".to_owned(),
    }
}
