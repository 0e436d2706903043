//! A `.hlog` back to intervals, checked.

use std::path::Path;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hdrhistogram::Histogram;
use hdrhistogram::serialization::Deserializer;
use hdrhistogram::serialization::interval_log::{IntervalLogHistogram, IntervalLogIterator, LogEntry};
use probes::Route;

use super::hlog::HLOG_BYTES_MAX;
use crate::spread::Spread;
use crate::tables::TableError;

/// Which end of lag a histogram holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    Low,
    High,
}

impl End {
    fn word(self) -> &'static str {
        match self {
            Self::Low => "low",
            Self::High => "high",
        }
    }
}

/// One interval of one route.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Logged {
    pub(super) route: Route,
    pub(super) start_us: i64,
    pub(super) end_us: i64,
    /// Settled canaries, by what their lag was at least.
    pub(super) low: Spread,
    /// Those of them that were seen, by what it was at most.
    pub(super) high: Spread,
}

/// A file that was read.
#[derive(Debug)]
pub(super) struct HlogFile {
    pub(super) run_id: String,
    pub(super) intervals: Vec<Logged>,
    /// The last line was cut off: the probe died while it wrote.
    pub(super) is_torn: bool,
}

/// The tag of a route and end. Parts are escaped, so that a tag tells its route whatever the names are.
pub(super) fn tag_text(route: &Route, end: End) -> String {
    let parts = [
        &route.dataset,
        &route.store,
        &route.primary_site,
        &route.secondary_site,
        &route.observer,
    ];
    let mut tag = String::new();
    for part in parts {
        for byte in part.bytes() {
            if byte.is_ascii_alphanumeric() || b"-_.@".contains(&byte) {
                tag.push(char::from(byte));
            } else {
                tag.push_str(&format!("%{byte:02X}"));
            }
        }
        tag.push('/');
    }
    tag + end.word()
}

fn route_of(tag: &str) -> Option<(Route, End)> {
    let parts: Vec<&str> = tag.split('/').collect();
    let [dataset, store, primary, secondary, observer, end] = parts.as_slice() else {
        return None;
    };
    let end = [End::Low, End::High].into_iter().find(|known| known.word() == *end)?;
    let route = Route {
        dataset: unescape(dataset)?,
        store: unescape(store)?,
        primary_site: unescape(primary)?,
        secondary_site: unescape(secondary)?,
        observer: unescape(observer)?,
    };
    Some((route, end))
}

fn unescape(part: &str) -> Option<String> {
    let mut pieces = part.split('%');
    let mut bytes = pieces.next()?.as_bytes().to_vec();
    for piece in pieces {
        let (digits, rest) = piece.split_at_checked(2)?;
        bytes.push(u8::from_str_radix(digits, 16).ok()?);
        bytes.extend_from_slice(rest.as_bytes());
    }
    String::from_utf8(bytes).ok()
}

/// Reads a file as a probe writes it.
///
/// # Errors
/// A file that cannot be read, was not written by driftline, or holds a line that is no histogram. A cut last line is no error.
pub(super) fn read_hlog(path: &Path) -> Result<HlogFile, TableError> {
    let corrupt = |problem: String| TableError::unreadable(path, problem);
    let length = std::fs::metadata(path)
        .map_err(|error| corrupt(error.to_string()))?
        .len();
    if length > HLOG_BYTES_MAX * 2 {
        return Err(corrupt(format!("{length} bytes: no probe writes so long a log")));
    }
    let bytes = std::fs::read(path).map_err(|error| corrupt(error.to_string()))?;
    let whole = bytes.iter().rposition(|byte| *byte == b'\n').map_or(0, |last| last + 1);
    let text = std::str::from_utf8(&bytes[..whole]).map_err(|_| corrupt("not a histogram log: not text".to_owned()))?;
    let run_id = text
        .lines()
        .find_map(|line| line.strip_prefix("#[Run: ")?.strip_suffix(']'));
    let run_id = run_id.ok_or_else(|| corrupt("not a histogram log of driftline: it names no run".to_owned()))?;
    let mut is_torn = whole < bytes.len();
    let mut intervals = Vec::new();
    let mut low: Option<Logged> = None;
    for entry in IntervalLogIterator::new(text.as_bytes()) {
        let entry = entry.map_err(|error| {
            let hdrhistogram::serialization::interval_log::LogIteratorError::ParseError { offset } = error;
            corrupt(format!("byte {offset} begins no line of a histogram log"))
        })?;
        let LogEntry::Interval(line) = entry else { continue };
        let (read, end) = interval(&line).map_err(|problem| {
            let at = line.start_timestamp().as_secs();
            corrupt(format!("the line of {at} s since 1970: {problem}"))
        })?;
        match (low.take(), end) {
            (None, End::Low) => low = Some(read),
            (Some(open), End::High) => intervals.push(pair(open, read).map_err(corrupt)?),
            _ => {
                return Err(corrupt(
                    "the low and the high end of a route do not follow each other".to_owned(),
                ));
            }
        }
    }
    is_torn |= low.is_some();
    Ok(HlogFile {
        run_id: run_id.to_owned(),
        intervals,
        is_torn,
    })
}

/// The histogram of a line in the place of either end.
fn interval(line: &IntervalLogHistogram<'_>) -> Result<(Logged, End), String> {
    let tag = line.tag().ok_or("it has no tag")?;
    let (route, end) = route_of(tag.as_str()).ok_or_else(|| format!("its tag `{}` names no route", tag.as_str()))?;
    let bytes = STANDARD
        .decode(line.encoded_histogram())
        .map_err(|error| format!("its histogram is not base64: {error}"))?;
    let histogram: Histogram<u64> = Deserializer::new()
        .deserialize(&mut bytes.as_slice())
        .map_err(|error| format!("its histogram cannot be read: {error}"))?;
    let mut spread = Spread::default();
    spread.add_histogram(&histogram);
    let start_us = micros(line.start_timestamp())?;
    let (low, high) = match end {
        End::Low => (spread, Spread::default()),
        End::High => (Spread::default(), spread),
    };
    let logged = Logged {
        route,
        start_us,
        end_us: start_us.saturating_add(micros(line.duration())?),
        low,
        high,
    };
    Ok((logged, end))
}

fn pair(low: Logged, high: Logged) -> Result<Logged, String> {
    if (&low.route, low.start_us, low.end_us) != (&high.route, high.start_us, high.end_us) {
        return Err("the low and the high end of a route do not follow each other".to_owned());
    }
    if high.high.count() > low.low.count() {
        return Err("a high end holds more canaries than its low end".to_owned());
    }
    Ok(Logged { high: high.high, ..low })
}

fn micros(at: Duration) -> Result<i64, String> {
    i64::try_from(at.as_micros()).map_err(|_| "its instant is out of range".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tag_tells_its_route_whatever_the_names_are() {
        let route = Route {
            dataset: "pay, ments/é%41".to_owned(),
            store: "aurora".to_owned(),
            primary_site: "use1".to_owned(),
            secondary_site: "us w2\n".to_owned(),
            observer: "usw2/probe-1".to_owned(),
        };
        for end in [End::Low, End::High] {
            let tag = tag_text(&route, end);
            assert!(!tag.contains([',', ' ', '\n', '\r']), "{tag}");
            assert_eq!(route_of(&tag), Some((route.clone(), end)));
        }
        assert_eq!(route_of("a/b/c/low"), None);
        assert_eq!(route_of("a/b/c/d/e/middle"), None);
        assert_eq!(route_of("%4/b/c/d/e/low"), None);
    }
}
