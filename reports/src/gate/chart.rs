//! Lag over time as a small inline SVG: each column spans the low and the high end of the worst block in it. No script, no colour
//! that carries meaning alone: thresholds have their words, unbounded columns an arrow.

use std::fmt::Write as _;

use super::blocks::Block;
use super::calendar::{BLOCK_US, DAY_US, date_text, instant_text};
use super::policy::Quantile;
use super::quantity::{Quantity, to_f64};
use super::report::Chart;
use super::terminal::rounded;

const WIDTH: f64 = 960.0;
const HEIGHT: f64 = 220.0;
const LEFT: f64 = 64.0;
const RIGHT: f64 = 172.0;
const TOP: f64 = 14.0;
const BOTTOM: f64 = 28.0;
/// Columns at most: a day of blocks stays one block a column.
const COLUMNS_MAX: i64 = 336;
/// So many blocks are shown at least: two blocks do not fill the page.
const BLOCKS_SHOWN_MIN: i64 = 36;

/// One column: the worst of its blocks by each end.
#[derive(Debug, Clone, Copy)]
struct Bar {
    low_us: u64,
    high_us: Option<u64>,
    in_peak: bool,
}

/// Where things lie.
struct Frame {
    from_us: i64,
    to_us: i64,
    low_us: f64,
    high_us: f64,
}

impl Frame {
    fn x(&self, at_us: i64) -> f64 {
        LEFT + to_f64(at_us - self.from_us) / to_f64(self.to_us - self.from_us) * (WIDTH - LEFT - RIGHT)
    }

    /// Logarithmic: lag of 2 ms and of 20 minutes stand in one picture.
    fn y(&self, us: f64) -> f64 {
        let share = (us.max(self.low_us) / self.low_us).ln() / (self.high_us / self.low_us).ln();
        HEIGHT - BOTTOM - share.min(1.0) * (HEIGHT - TOP - BOTTOM)
    }
}

/// Draws the blocks of a route for one criterion.
pub(super) fn draw(title: &str, chart: &Chart, blocks: &[Block]) -> String {
    let Some((frame, width_us)) = frame(chart, blocks) else {
        return String::new();
    };
    let bars = bars(&frame, width_us, chart.quantile, blocks);
    let mut svg = format!(
        "<svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" class=\"chart\"><title>{}</title>",
        escape(title)
    );
    draw_peaks(&mut svg, &frame, width_us, &bars);
    draw_axes(&mut svg, &frame);
    draw_bars(&mut svg, &frame, width_us, &bars);
    draw_thresholds(&mut svg, &frame, chart);
    svg.push_str("</svg>");
    svg
}

fn frame(chart: &Chart, blocks: &[Block]) -> Option<(Frame, i64)> {
    let first = blocks.first()?.start_us;
    let last = blocks.last()?.start_us + BLOCK_US;
    let from_us = first.min(last - BLOCKS_SHOWN_MIN * BLOCK_US);
    let blocks_shown = (last - from_us) / BLOCK_US;
    let per_column = (blocks_shown + COLUMNS_MAX - 1) / COLUMNS_MAX;
    let figures = blocks.iter().flat_map(|block| {
        let figures = &block.figures;
        [Some(figures.low(chart.quantile)), figures.high(chart.quantile)]
    });
    let bounds = chart.thresholds.iter().map(|(_, us)| us.unsigned_abs());
    let (mut least, mut most) = (u64::MAX, 1_000);
    for us in figures.flatten().chain(bounds).filter(|us| *us > 0) {
        least = least.min(us);
        most = most.max(us);
    }
    let frame = Frame {
        from_us,
        to_us: last,
        low_us: decade_below(least.min(most)),
        // Head room for the arrows of unbounded columns.
        high_us: micros(most) * 2.0,
    };
    Some((frame, per_column * BLOCK_US))
}

fn decade_below(us: u64) -> f64 {
    let mut decade = 1_u64;
    while decade.saturating_mul(10) <= us {
        decade *= 10;
    }
    micros(decade)
}

fn micros(us: u64) -> f64 {
    to_f64(i64::try_from(us).unwrap_or(i64::MAX))
}

fn bars(frame: &Frame, width_us: i64, quantile: Quantile, blocks: &[Block]) -> Vec<(i64, Bar)> {
    let mut bars: Vec<(i64, Bar)> = Vec::new();
    for block in blocks {
        let start = block.start_us - (block.start_us - frame.from_us).rem_euclid(width_us);
        let (low_us, high_us) = (block.figures.low(quantile), block.figures.high(quantile));
        match bars.last_mut() {
            Some((held, bar)) if *held == start => {
                bar.low_us = bar.low_us.max(low_us);
                bar.high_us = bar.high_us.zip(high_us).map(|(a, b)| a.max(b));
                bar.in_peak |= block.in_peak;
            }
            _ => bars.push((
                start,
                Bar {
                    low_us,
                    high_us,
                    in_peak: block.in_peak,
                },
            )),
        }
    }
    bars
}

// Writing to a String cannot fail, so the results below are dropped.

fn draw_peaks(svg: &mut String, frame: &Frame, width_us: i64, bars: &[(i64, Bar)]) {
    let is_next = |a: &(i64, Bar), b: &(i64, Bar)| a.1.in_peak == b.1.in_peak && b.0 - a.0 == width_us;
    for stretch in bars.chunk_by(is_next) {
        if let ([(start, bar), ..], [.., (end, _)]) = (stretch, stretch)
            && bar.in_peak
        {
            let (from, to) = (frame.x(*start), frame.x((*end + width_us).min(frame.to_us)));
            let _ = write!(
                svg,
                "<rect class=\"peak\" x=\"{from:.1}\" y=\"{TOP}\" width=\"{:.1}\" height=\"{:.1}\"/>",
                to - from,
                HEIGHT - TOP - BOTTOM
            );
        }
    }
}

fn draw_axes(svg: &mut String, frame: &Frame) {
    let floor = HEIGHT - BOTTOM;
    let right = WIDTH - RIGHT;
    let mut decade = frame.low_us;
    let mut tick_us = 1_i64;
    while to_f64(tick_us) < decade {
        tick_us *= 10;
    }
    while decade <= frame.high_us {
        let y = frame.y(decade);
        let _ = write!(
            svg,
            "<line class=\"grid\" x1=\"{LEFT}\" x2=\"{right}\" y1=\"{y:.1}\" y2=\"{y:.1}\"/><text class=\"tick\" x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>",
            LEFT - 8.0,
            y + 4.0,
            Quantity::micros(tick_us)
        );
        decade *= 10.0;
        tick_us *= 10;
    }
    let is_long = frame.to_us - frame.from_us > 2 * DAY_US;
    for step in 0..=4_i64 {
        let at = frame.from_us + (frame.to_us - frame.from_us) / 4 * step;
        let label = if is_long {
            date_text(at)
        } else {
            instant_text(at).chars().skip(5).take(11).collect()
        };
        let anchor = match step {
            0 => "start",
            4 => "end",
            _ => "middle",
        };
        let _ = write!(
            svg,
            "<text class=\"tick\" x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"{anchor}\">{label}</text>",
            frame.x(at),
            floor + 18.0
        );
    }
}

fn draw_bars(svg: &mut String, frame: &Frame, width_us: i64, bars: &[(i64, Bar)]) {
    let step = frame.x(frame.from_us + width_us) - frame.x(frame.from_us);
    let width = (step * 0.72).max(1.0);
    for (start, bar) in bars {
        let x = frame.x(*start) + (step - width) / 2.0;
        let bottom = frame.y(micros(bar.low_us.max(1)));
        let top = bar.high_us.map_or(TOP, |us| frame.y(micros(us)));
        let class = if bar.high_us.is_some() { "bar" } else { "bar open" };
        let _ = write!(
            svg,
            "<rect class=\"{class}\" x=\"{x:.1}\" y=\"{top:.1}\" width=\"{width:.1}\" height=\"{:.1}\"/>",
            (bottom - top).max(1.5)
        );
        if bar.high_us.is_none() {
            let middle = x + width / 2.0;
            let half = (width / 2.0 + 1.0).clamp(2.0, 5.0);
            let _ = write!(
                svg,
                "<path class=\"arrow\" d=\"M{:.1} {TOP} L{middle:.1} {:.1} L{:.1} {TOP} Z\"/>",
                middle - half,
                TOP - 8.0,
                middle + half
            );
        }
    }
}

/// Thresholds at one height share a line; labels that would overlap move down.
fn draw_thresholds(svg: &mut String, frame: &Frame, chart: &Chart) {
    let mut merged: Vec<(i64, String)> = Vec::new();
    for (words, us) in &chart.thresholds {
        match merged.iter_mut().find(|(held, _)| held == us) {
            Some((_, held)) => {
                let _ = write!(held, " | {words}");
            }
            None => merged.push((*us, words.clone())),
        }
    }
    merged.sort_by_key(|(us, _)| std::cmp::Reverse(*us));
    let right = WIDTH - RIGHT;
    let mut free_from = 0.0_f64;
    for (us, words) in merged {
        let y = frame.y(to_f64(us));
        let _ = write!(
            svg,
            "<line class=\"bound\" x1=\"{LEFT}\" x2=\"{:.1}\" y1=\"{y:.1}\" y2=\"{y:.1}\"/>",
            right + 6.0
        );
        let mut label = (y + 4.0).max(free_from);
        for part in words.split(" | ") {
            let _ = write!(
                svg,
                "<text class=\"label\" x=\"{:.1}\" y=\"{label:.1}\">{}</text>",
                right + 10.0,
                escape(part)
            );
            label += 14.0;
        }
        free_from = label;
    }
}

/// The bounds of a picture in words, for those who do not see it.
pub(super) fn title(route: &str, chart: &Chart, blocks: &[Block]) -> String {
    let low = blocks
        .iter()
        .map(|block| block.figures.low(chart.quantile))
        .max()
        .unwrap_or(0);
    let high = blocks.iter().try_fold(0, |worst, block| {
        block.figures.high(chart.quantile).map(|high| high.max(worst))
    });
    let held = |us: u64| rounded(i64::try_from(us).unwrap_or(i64::MAX));
    let high = high.map_or("unbounded".to_owned(), |high| held(high).to_string());
    format!(
        "{} of lag of {route} over {} blocks; the worst block by its low end {}, by its high end {high}",
        chart.quantile.word(),
        blocks.len(),
        held(low)
    )
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::super::fixture::{Canary, MONDAY_US, blocks, collect, policy};
    use super::*;

    fn chart() -> Chart {
        Chart {
            criterion_id: "c".to_owned(),
            quantile: Quantile::P50,
            thresholds: vec![
                ("GO <= 200 ms".to_owned(), 200_000),
                ("NO-GO > 500 ms".to_owned(), 500_000),
            ],
        }
    }

    #[test]
    fn unbounded_blocks_have_an_arrow_and_words_are_escaped() {
        let intervals = blocks(MONDAY_US, 3, |block, _| {
            if block == 1 {
                Canary::Skipped
            } else {
                Canary::Seen(20_000, 60_000)
            }
        });
        let (lag, _) = collect(&policy(), intervals);
        let svg = draw("a < b", &chart(), &lag[0].blocks);
        assert_eq!(svg.matches("class=\"arrow\"").count(), 1);
        assert_eq!(svg.matches("class=\"bar").count(), 3);
        assert!(svg.contains("a &lt; b") && svg.contains("GO &lt;= 200 ms"), "{svg}");
        assert!(!svg.contains("NaN") && !svg.contains("inf"), "{svg}");
    }

    #[test]
    fn many_blocks_share_columns_and_keep_the_worst() {
        let intervals = blocks(MONDAY_US, 2_016, |block, _| {
            Canary::Seen(20_000, if block == 777 { 450_000 } else { 60_000 })
        });
        let (lag, _) = collect(&policy(), intervals);
        let (frame, width_us) = frame(&chart(), &lag[0].blocks).unwrap();
        let bars = bars(&frame, width_us, Quantile::P50, &lag[0].blocks);
        assert!(i64::try_from(bars.len()).unwrap() <= COLUMNS_MAX + 1, "{}", bars.len());
        assert_eq!(
            bars.iter()
                .filter(|(_, bar)| bar.high_us.is_some_and(|us| us > 400_000))
                .count(),
            1
        );
    }

    #[test]
    fn nothing_measured_draws_nothing() {
        assert_eq!(draw("t", &chart(), &[]), "");
    }
}
