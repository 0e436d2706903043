//! The percentile spectrum as an SVG by hand: lag against how rare it is, both logarithmic. Readable on a light and on a dark ground; numbers and
//! dashes tell what colours tell.

use std::fmt::Write as _;

use super::report::{LagReport, Spectrum};
use crate::gate::to_f64;
use crate::render::{at_least, at_most, canaries, visible};

/// Routes in one picture; of more, the first are drawn and the picture says so.
pub const PLOT_ROUTES_MAX: usize = 6;

const WIDTH: f64 = 960.0;
const LEFT: f64 = 70.0;
const RIGHT: f64 = 40.0;
const TOP: f64 = 80.0;
const PLOT_HEIGHT: f64 = 340.0;
const LEGEND_LINE: f64 = 22.0;
/// Points closer than this are one.
const POINT_WIDTH: f64 = 0.75;
/// p99.99999: so far the axis goes at most.
const RARITY_MAX: f64 = 7.0;

const STYLE: &str = "
svg { --page: #ffffff; --ink: #16202c; --soft: #526070; --line: #d9dfe6; --s1: #1c5aa6; --s2: #b3470a; --s3: #12703a; --s4: #7a2f9b; --s5: #8a5200; --s6: #0b6f7d; }
@media (prefers-color-scheme: dark) { svg { --page: #10151b; --ink: #e8edf2; --soft: #a2afbd; --line: #303b47; --s1: #8dbcf2; --s2: #ffab7a; --s3: #6fd59a; --s4: #d7a6f0; --s5: #f3bd62; --s6: #6fd3de; } }
.page { fill: var(--page); } text { fill: var(--ink); font: 13px system-ui, -apple-system, 'Segoe UI', Roboto, 'Liberation Sans', sans-serif; }
.title { font-size: 16px; font-weight: 650; } .soft { fill: var(--soft); } .grid { stroke: var(--line); } .end { text-anchor: end; } .middle { text-anchor: middle; }
.s1 { --c: var(--s1); } .s2 { --c: var(--s2); } .s3 { --c: var(--s3); } .s4 { --c: var(--s4); } .s5 { --c: var(--s5); } .s6 { --c: var(--s6); }
.high { fill: none; stroke: var(--c); stroke-width: 2; } .low { fill: none; stroke: var(--c); stroke-width: 1.5; stroke-dasharray: 5 4; } .band { fill: var(--c); fill-opacity: .14; }
.inf { stroke: var(--c); stroke-width: 2; stroke-dasharray: 1 4; } .mark { fill: var(--c); font-weight: 650; }
";

/// Draws the routes of a report that were measured.
pub fn plot(report: &LagReport) -> String {
    let measured: Vec<&Spectrum> = report.routes.iter().filter(|spectrum| spectrum.canaries > 0).collect();
    let shown = &measured[..measured.len().min(PLOT_ROUTES_MAX)];
    let frame = Frame::of(shown);
    let height = TOP + PLOT_HEIGHT + 64.0 + LEGEND_LINE * to_f64(i64::try_from(shown.len() + 1).unwrap_or(0)) + 12.0;
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" width=\"{WIDTH}\" height=\"{height}\" role=\"img\">\n\
         <title>Replication lag by percentile</title>\n<style>{STYLE}</style>\n<rect class=\"page\" width=\"100%\" height=\"100%\"/>\n"
    );
    // Writing to a String cannot fail.
    let _ = writeln!(
        svg,
        "<text class=\"title\" x=\"{LEFT}\" y=\"26\">Replication lag by percentile</text>"
    );
    let _ = writeln!(
        svg,
        "<text class=\"soft\" x=\"{LEFT}\" y=\"46\">dashed: lag was at least this; solid: at most this; the truth lies in between</text>"
    );
    if shown.is_empty() {
        let _ = writeln!(
            svg,
            "<text x=\"{LEFT}\" y=\"{}\">NOTHING WAS MEASURED.</text>",
            TOP + 40.0
        );
    } else {
        axes(&mut svg, &frame);
    }
    for (index, spectrum) in shown.iter().enumerate() {
        draw(&mut svg, &frame, index + 1, spectrum);
    }
    legend(&mut svg, shown, measured.len(), report.routes.len());
    svg.push_str("</svg>\n");
    svg
}

/// Where things lie.
struct Frame {
    rarity_max: f64,
    low_us: f64,
    high_us: f64,
}

impl Frame {
    fn of(shown: &[&Spectrum]) -> Self {
        let (mut least, mut most, mut count) = (u64::MAX, 10_u64, 100_u64);
        for spectrum in shown {
            count = count.max(spectrum.canaries);
            for (smallest, _, _) in spectrum.low_spread.steps() {
                least = least.min(smallest.max(1));
                most = most.max(smallest);
            }
            for (_, largest, _) in spectrum.high_spread.steps() {
                least = least.min(largest.max(1));
                most = most.max(largest);
            }
        }
        let low_us = 10_f64.powf(float(least.min(most)).log10().floor());
        Self {
            rarity_max: (float(count) * 2.0).log10().min(RARITY_MAX),
            low_us,
            high_us: (float(most) * 2.0).max(low_us * 10.0),
        }
    }

    /// Of the share of canaries that are not above: each step to the right is ten times as rare.
    fn x(&self, rank: u64, of: u64) -> f64 {
        let rarer = of.saturating_sub(rank);
        let rarity = if rarer == 0 {
            self.rarity_max
        } else {
            (float(of) / float(rarer)).log10()
        };
        self.x_of(rarity)
    }

    fn x_of(&self, rarity: f64) -> f64 {
        LEFT + rarity.min(self.rarity_max) / self.rarity_max * (WIDTH - LEFT - RIGHT)
    }

    fn y(&self, us: f64) -> f64 {
        let share = (us.max(self.low_us) / self.low_us).ln() / (self.high_us / self.low_us).ln();
        TOP + PLOT_HEIGHT * (1.0 - share.min(1.0))
    }
}

fn float(count: u64) -> f64 {
    to_f64(i64::try_from(count).unwrap_or(i64::MAX))
}

fn axes(svg: &mut String, frame: &Frame) {
    let bottom = TOP + PLOT_HEIGHT;
    let mut us = 1_u64;
    while float(us) <= frame.high_us {
        if float(us) >= frame.low_us {
            let y = frame.y(float(us));
            let _ = writeln!(
                svg,
                "<line class=\"grid\" x1=\"{LEFT}\" x2=\"{:.1}\" y1=\"{y:.1}\" y2=\"{y:.1}\"/><text class=\"soft end\" x=\"{:.1}\" y=\"{:.1}\">{}</text>",
                WIDTH - RIGHT,
                LEFT - 8.0,
                y + 4.0,
                decade(us)
            );
        }
        us = us.saturating_mul(10);
    }
    let ticks = [
        (0.0, "p0"),
        (2_f64.log10(), "p50"),
        (1.0, "p90"),
        (2.0, "p99"),
        (3.0, "p99.9"),
        (4.0, "p99.99"),
        (5.0, "p99.999"),
        (6.0, "p99.9999"),
    ];
    for (rarity, word) in ticks.into_iter().filter(|(rarity, _)| *rarity < frame.rarity_max) {
        let x = frame.x_of(rarity);
        let _ = writeln!(
            svg,
            "<line class=\"grid\" x1=\"{x:.1}\" x2=\"{x:.1}\" y1=\"{TOP}\" y2=\"{bottom}\"/><text class=\"soft middle\" x=\"{x:.1}\" y=\"{:.1}\">{word}</text>",
            bottom + 18.0
        );
    }
    let _ = writeln!(
        svg,
        "<text class=\"soft end\" x=\"{:.1}\" y=\"{:.1}\">max</text>",
        WIDTH - RIGHT,
        bottom + 18.0
    );
}

fn decade(us: u64) -> String {
    match us {
        0..1_000 => format!("{us} us"),
        1_000..1_000_000 => format!("{} ms", us / 1_000),
        _ => format!("{} s", us / 1_000_000),
    }
}

/// Corners of a step function, from left to right.
struct Line {
    points: Vec<(f64, f64)>,
}

impl Line {
    /// Of buckets in ascending order, the first of which starts behind `skipped` canaries.
    fn of(frame: &Frame, steps: impl Iterator<Item = (u64, u64)>, skipped: u64, of: u64) -> Self {
        let mut points: Vec<(f64, f64)> = Vec::new();
        let mut rank = skipped;
        if skipped > 0 {
            let floor = frame.y(0.0);
            points.extend([(frame.x(0, of), floor), (frame.x(skipped, of), floor)]);
        }
        // Where the last step began that is wide enough to be seen; narrower ones behind it are drawn as one.
        let mut anchor = f64::NEG_INFINITY;
        for (us, count) in steps {
            let y = frame.y(float(us));
            let from = frame.x(rank, of);
            rank += count;
            let to = frame.x(rank, of);
            match points.last_mut() {
                Some(last) if to - anchor < POINT_WIDTH => *last = (to, y),
                _ => {
                    points.extend([(from, y), (to, y)]);
                    anchor = to;
                }
            }
        }
        Self { points }
    }

    fn path(&self) -> String {
        let mut path = String::new();
        for (index, (x, y)) in self.points.iter().enumerate() {
            let _ = write!(path, "{}{x:.1} {y:.1}", if index == 0 { "M" } else { "L" });
        }
        path
    }
}

fn draw(svg: &mut String, frame: &Frame, number: usize, spectrum: &Spectrum) {
    let of = spectrum.canaries;
    let low_steps = spectrum
        .low_spread
        .steps()
        .map(|(smallest, _, count)| (smallest, count));
    let high_steps = spectrum.high_spread.steps().map(|(_, largest, count)| (largest, count));
    let low = Line::of(frame, low_steps, spectrum.without_histogram, of);
    let high = Line::of(frame, high_steps, 0, of);
    let _ = writeln!(svg, "<g class=\"s{number}\">");
    let edge = frame.x(spectrum.bounded, of);
    if !high.points.is_empty() {
        let mut band = high.path();
        for (x, y) in low.points.iter().rev().filter(|(x, _)| *x <= edge) {
            let _ = write!(band, "L{x:.1} {y:.1}");
        }
        let _ = writeln!(svg, "<path class=\"band\" d=\"{band}Z\"/>");
    }
    let _ = writeln!(svg, "<path class=\"low\" d=\"{}\"/>", low.path());
    let last = high.points.last().copied().unwrap_or((edge, frame.y(0.0)));
    if !high.points.is_empty() {
        let _ = writeln!(svg, "<path class=\"high\" d=\"{}\"/>", high.path());
    }
    if spectrum.bounded < of {
        let _ = writeln!(
            svg,
            "<line class=\"inf\" x1=\"{0:.1}\" x2=\"{0:.1}\" y1=\"{1:.1}\" y2=\"{TOP}\"/><text class=\"mark middle\" x=\"{0:.1}\" y=\"{2:.1}\">{number}: +inf</text>",
            last.0.min(WIDTH - RIGHT - 10.0),
            last.1,
            TOP - 5.0
        );
    } else {
        let _ = writeln!(
            svg,
            "<text class=\"mark\" x=\"{:.1}\" y=\"{:.1}\">{number}</text>",
            last.0 + 6.0,
            last.1 + 4.0
        );
    }
    svg.push_str("</g>\n");
}

fn legend(svg: &mut String, shown: &[&Spectrum], measured: usize, routes: usize) {
    let mut y = TOP + PLOT_HEIGHT + 52.0;
    for (index, spectrum) in shown.iter().enumerate() {
        let number = index + 1;
        let observed = &spectrum.observed;
        let upper = |high: Option<u64>| high.map_or("+inf".to_owned(), |high| at_most(Some(high)));
        let name = format!("{} {} by {}", observed.dataset, observed.arrow(), observed.observer);
        let _ = writeln!(
            svg,
            "<g class=\"s{number}\"><text class=\"mark\" x=\"{LEFT}\" y=\"{y}\">{number}</text><line class=\"high\" x1=\"{}\" x2=\"{}\" y1=\"{2}\" y2=\"{2}\"/><text x=\"{3}\" y=\"{y}\">{4}: p50 {5} .. {6}, p99 {7} .. {8}, of {9}</text></g>",
            LEFT + 16.0,
            LEFT + 40.0,
            y - 4.0,
            LEFT + 50.0,
            escape(&name),
            at_least(spectrum.low.p50_us),
            upper(spectrum.high.p50_us),
            at_least(spectrum.low.p99_us),
            upper(spectrum.high.p99_us),
            canaries(spectrum.canaries)
        );
        y += LEGEND_LINE;
    }
    let mut left_out = Vec::new();
    if measured > shown.len() {
        left_out.push(format!(
            "the first {} of {measured} measured routes; choose with --route",
            shown.len()
        ));
    }
    if routes > measured {
        left_out.push(format!("{} without any canary not drawn", routes - measured));
    }
    if !left_out.is_empty() {
        let _ = writeln!(
            svg,
            "<text class=\"soft\" x=\"{LEFT}\" y=\"{y}\">{}</text>",
            escape(&left_out.join("; "))
        );
    }
}

fn escape(text: &str) -> String {
    visible(text)
        .replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
}
