//! One question to CloudWatch, and what its answer says.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use aws_config::SdkConfig;
use aws_sdk_cloudwatch::Client;
use aws_sdk_cloudwatch::config::retry::RetryConfig;
use aws_sdk_cloudwatch::config::timeout::TimeoutConfig;
use aws_sdk_cloudwatch::primitives::DateTime;
use aws_sdk_cloudwatch::types::{MetricDataResult, ScanBy, StatusCode};

use super::fault;
use super::figure::{Figure, Meaning, PERIOD_S, Unit};
use crate::aws::{Service, Site, shortened};

/// How long a connection may take to stand.
const CONNECT_PATIENCE: Duration = Duration::from_millis(1_500);
/// How long an answer may take. Shorter than the engine waits for all that an end says, so that CloudWatch never hides the rest.
const ANSWER_PATIENCE: Duration = Duration::from_millis(2_500);
/// A minute that was over for less may still change: data points arrive late.
const SETTLE_S: i64 = 60;
/// A data point that is older says nothing of now.
const LOOK_BACK_S: i64 = 15 * 60;
const US_PER_S: i64 = 1_000_000;

/// What was read. `None` is not collected, and never zero.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Told {
    /// Lag in time, microseconds: the worst of a minute.
    pub lag_us: Option<u64>,
    /// Operations that wait: of an S3 rule to be replicated, of an MSK Replicator to be read.
    pub operations: Option<u64>,
    /// Bytes that wait.
    pub bytes: Option<u64>,
    /// The minute that the oldest of the figures is of: its beginning, microseconds since 1970 UTC.
    pub as_of_us: Option<i64>,
    /// Why there is no lag.
    pub not_collected: Option<String>,
}

impl Told {
    pub(crate) fn nothing(reason: impl Into<String>) -> Self {
        Self {
            not_collected: Some(reason.into()),
            ..Self::default()
        }
    }
}

/// A span of whole minutes, seconds since 1970: the end is not part of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Span {
    start_s: i64,
    end_s: i64,
}

impl Span {
    /// The minutes that can be read at `now_s`.
    fn at(now_s: i64) -> Self {
        let period = i64::from(PERIOD_S);
        let end_s = (now_s - SETTLE_S).div_euclid(period) * period;
        Self {
            start_s: end_s - LOOK_BACK_S,
            end_s,
        }
    }

    fn holds(self, minute_s: i64) -> bool {
        minute_s >= self.start_s && minute_s + i64::from(PERIOD_S) <= self.end_s
    }
}

/// A client for the region of `sdk`. It sends nothing twice: what failed is asked for a minute later.
pub(crate) fn client(sdk: &SdkConfig, site: &Site) -> Client {
    let times = TimeoutConfig::builder()
        .connect_timeout(CONNECT_PATIENCE)
        .operation_timeout(ANSWER_PATIENCE)
        .build();
    let mut settings = aws_sdk_cloudwatch::config::Builder::from(sdk)
        .retry_config(RetryConfig::disabled())
        .timeout_config(times);
    if let Some(endpoint) = site.endpoint(Service::Cloudwatch) {
        settings = settings.endpoint_url(endpoint);
    }
    Client::from_conf(settings.build())
}

/// Asks for `figures`, one request.
pub(crate) async fn ask(client: &Client, figures: &[Figure]) -> Told {
    let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let span = Span::at(i64::try_from(since_1970.as_secs()).unwrap_or(i64::MAX));
    let queries = figures
        .iter()
        .enumerate()
        .map(|(index, figure)| figure.query(&id(index)));
    let answer = client
        .get_metric_data()
        .start_time(DateTime::from_secs(span.start_s))
        .end_time(DateTime::from_secs(span.end_s))
        .scan_by(ScanBy::TimestampDescending)
        .set_metric_data_queries(Some(queries.collect()))
        .send()
        .await;
    match answer {
        Ok(answer) => told(figures, answer.metric_data_results(), span),
        Err(error) => Told::nothing(fault::reason(&error)),
    }
}

fn id(index: usize) -> String {
    format!("f{index}")
}

fn told(figures: &[Figure], results: &[MetricDataResult], span: Span) -> Told {
    let mut told = Told::default();
    for (index, figure) in figures.iter().enumerate() {
        let result = results.iter().find(|result| result.id() == Some(&id(index)));
        match (read(figure, result, span), figure.meaning) {
            (Ok((value, minute_s)), meaning) => {
                match meaning {
                    Meaning::Lag { .. } => told.lag_us = Some(value),
                    Meaning::Operations => told.operations = Some(value),
                    Meaning::Bytes => told.bytes = Some(value),
                }
                let at_us = minute_s.saturating_mul(US_PER_S);
                told.as_of_us = Some(told.as_of_us.map_or(at_us, |oldest| oldest.min(at_us)));
            }
            (Err(reason), Meaning::Lag { .. }) => told.not_collected = Some(reason),
            // What waits is told beside the lag, where it is published at all.
            (Err(_), Meaning::Operations | Meaning::Bytes) => {}
        }
    }
    told
}

/// The newest value that can be relied on, and its minute.
fn read(figure: &Figure, result: Option<&MetricDataResult>, span: Span) -> Result<(u64, i64), String> {
    let name = figure.name;
    let result = result.ok_or_else(|| format!("the answer holds no {name}"))?;
    let (minutes, values) = (result.timestamps(), result.values());
    if minutes.len() != values.len() {
        return Err(format!("the answer gives {name} other instants than values"));
    }
    let points = minutes.iter().map(DateTime::secs).zip(values);
    let newest = points
        .filter(|(minute, _)| span.holds(*minute))
        .max_by_key(|(minute, _)| *minute);
    let Some((minute, value)) = newest else {
        return Err(nothing_there(figure, result));
    };
    let value = figure
        .value(*value)
        .ok_or_else(|| format!("the answer gives {name} the value {value}"))?;
    Ok((value, minute))
}

fn nothing_there(figure: &Figure, result: &MetricDataResult) -> String {
    let minutes = LOOK_BACK_S / i64::from(PERIOD_S);
    let words = figure.words();
    match result.status_code() {
        Some(StatusCode::Complete) | None => {
            format!(
                "no data point of {words} in the last {minutes} minutes: nothing was published, which is not a lag of 0"
            )
        }
        Some(other) => {
            let why = result
                .messages()
                .iter()
                .filter_map(aws_sdk_cloudwatch::types::MessageData::value);
            let why = shortened(&why.collect::<Vec<_>>().join("; "));
            format!("{words} was answered with {}: {why}", other.as_str())
        }
    }
}

impl Figure {
    /// Microseconds, or a count; `None`: no such number. Rounded up, so that little is never told as nothing.
    fn value(&self, value: f64) -> Option<u64> {
        /// A count is read by way of a duration, whose whole seconds it becomes: checked, and without a lossy cast.
        fn whole(value: f64) -> Option<u64> {
            Some(Duration::try_from_secs_f64(value.ceil()).ok()?.as_secs())
        }
        match self.meaning {
            Meaning::Lag { unit } => whole(
                value
                    * match unit {
                        Unit::Milliseconds => 1e3,
                        Unit::Seconds => 1e6,
                    },
            ),
            Meaning::Operations | Meaning::Bytes => whole(value),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cloudwatch::figure;

    #[test]
    fn a_minute_is_read_when_it_has_been_over_for_another_one() {
        const MINUTE_S: i64 = 999_999_960;
        assert_eq!(Span::at(MINUTE_S + 119).end_s, MINUTE_S);
        let span = Span::at(MINUTE_S + 120);
        assert_eq!(span.end_s, MINUTE_S + 60);
        assert!(span.holds(MINUTE_S), "the newest");
        assert!(!span.holds(MINUTE_S + 60), "not settled");
        assert!(span.holds(span.start_s) && !span.holds(span.start_s - 60), "too old");
    }

    #[test]
    fn units_become_microseconds_and_nonsense_becomes_nothing() {
        let table = &figure::of_table("t", "r")[0];
        let rule = figure::of_rule("a", "b", "r");
        assert_eq!(table.value(1_234.5), Some(1_234_500));
        assert_eq!(table.value(0.0004), Some(1), "little is not nothing");
        assert_eq!(table.value(0.0), Some(0));
        assert_eq!(rule[0].value(2.5), Some(2_500_000));
        assert_eq!(rule[1].value(7.0), Some(7));
        for nonsense in [f64::NAN, -1.0, f64::INFINITY, 1e300] {
            assert_eq!(table.value(nonsense), None, "{nonsense}");
        }
    }
}
