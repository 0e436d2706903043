//! Settings of a probe, as people write them: `{ rate = "5/s", schedule = "poisson", overdue_after = "30s" }`.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// Bound of the rate: the sizes of buffers are reckoned for it.
pub const RATE_PER_SECOND_MAX: u32 = 1_000;

/// How one route is probed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Canaries in a unit of time, e.g. `5/s`, `6/min`. Default: what is usual for the store, see [`Rate::usual`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rate: Option<Rate>,
    /// How they are spread.
    pub schedule: ScheduleKind,
    /// A canary that is unseen for longer is marked overdue; it stays pending.
    pub overdue_after: OverdueAfter,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            rate: None,
            schedule: ScheduleKind::Poisson,
            overdue_after: OverdueAfter(Duration::from_secs(30)),
        }
    }
}

impl Config {
    /// The rate for a route over `store`.
    pub fn rate(&self, store: &str) -> Rate {
        self.rate.unwrap_or_else(|| Rate::usual(store))
    }
}

/// How canaries are spread over time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ScheduleKind {
    /// Gaps are exponential: samples do not fall in step with periodic work of the stores.
    Poisson,
    /// Gaps are all alike.
    Fixed,
}

/// A number of canaries in a unit of time. Never zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    count: u32,
    unit: RateUnit,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum RateUnit {
    Second,
    Minute,
    Hour,
}

impl RateUnit {
    fn word(self) -> &'static str {
        match self {
            Self::Second => "s",
            Self::Minute => "min",
            Self::Hour => "h",
        }
    }

    fn seconds(self) -> u32 {
        match self {
            Self::Second => 1,
            Self::Minute => 60,
            Self::Hour => 3_600,
        }
    }
}

impl Rate {
    /// What is written to `store` when nobody says otherwise: 5/s where canaries are free (PostgreSQL, Kafka), 1/s on DynamoDB and 6/min
    /// on S3, whose requests cost money.
    pub fn usual(store: &str) -> Self {
        let (count, unit) = match store {
            "dynamodb" => (1, RateUnit::Second),
            "s3" => (6, RateUnit::Minute),
            _ => (5, RateUnit::Second),
        };
        Self { count, unit }
    }

    /// The canaries of one unit of time.
    pub fn count(&self) -> u32 {
        self.count
    }

    /// The unit of time.
    pub fn unit(&self) -> Duration {
        Duration::from_secs(u64::from(self.unit.seconds()))
    }

    /// The mean gap between two canaries.
    pub fn period(&self) -> Duration {
        self.unit() / self.count
    }
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.count, self.unit.word())
    }
}

/// Why a setting is refused, in words for the person who wrote it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct SettingError(pub(crate) String);

impl FromStr for Rate {
    type Err = SettingError;

    fn from_str(text: &str) -> Result<Self, SettingError> {
        let wrong = |why: &str| {
            SettingError(format!(
                "rate {text:?}: {why}; write a whole number of canaries and a unit, such as \"5/s\", \"6/min\" or \"30/h\""
            ))
        };
        let (count, unit) = text.split_once('/').ok_or_else(|| wrong("no unit of time"))?;
        let unit = match unit.trim() {
            "s" => RateUnit::Second,
            "min" => RateUnit::Minute,
            "h" => RateUnit::Hour,
            other => return Err(wrong(&format!("{other:?} is not a unit of time"))),
        };
        let count: u32 = count
            .trim()
            .parse()
            .map_err(|_| wrong(&format!("{:?} is not a whole number", count.trim())))?;
        if count == 0 {
            return Err(wrong("a probe that never writes measures nothing"));
        }
        if count > RATE_PER_SECOND_MAX.saturating_mul(unit.seconds()) {
            return Err(wrong(&format!("more than {RATE_PER_SECOND_MAX} a second")));
        }
        Ok(Self { count, unit })
    }
}

impl Serialize for Rate {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Rate {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        parse_text(deserializer, "a rate such as \"5/s\"")
    }
}

/// The age at which a pending canary is marked overdue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OverdueAfter(pub Duration);

impl fmt::Display for OverdueAfter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match jiff::SignedDuration::try_from(self.0) {
            Ok(span) => write!(f, "{span:#}"),
            Err(_) => write!(f, "{:?}", self.0),
        }
    }
}

impl FromStr for OverdueAfter {
    type Err = SettingError;

    fn from_str(text: &str) -> Result<Self, SettingError> {
        let wrong = |why: &str| {
            SettingError(format!(
                "overdue_after {text:?}: {why}; write a number and a unit, such as \"500ms\", \"30s\" or \"5min\""
            ))
        };
        let span: jiff::SignedDuration = text.parse().map_err(|_| wrong("not a duration"))?;
        if span <= jiff::SignedDuration::ZERO {
            return Err(wrong("must be longer than nothing"));
        }
        Duration::try_from(span).map(Self).map_err(|_| wrong("not a duration"))
    }
}

impl Serialize for OverdueAfter {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for OverdueAfter {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        parse_text(deserializer, "a duration with its unit such as \"30s\"")
    }
}

/// Reads a value that is written as text; a bare number is refused with words that show the right form.
pub(crate) fn parse_text<'de, D, T>(deserializer: D, expected: &'static str) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: FromStr<Err = SettingError>,
{
    struct Text<T>(&'static str, std::marker::PhantomData<T>);

    impl<T: FromStr<Err = SettingError>> de::Visitor<'_> for Text<T> {
        type Value = T;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str(self.0)
        }

        fn visit_str<E: de::Error>(self, text: &str) -> Result<T, E> {
            text.parse().map_err(E::custom)
        }
    }

    deserializer.deserialize_str(Text(expected, std::marker::PhantomData))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(json: &str) -> Result<Config, String> {
        serde_json::from_str(json).map_err(|error| error.to_string())
    }

    #[test]
    fn what_a_person_writes_is_what_the_probe_does() {
        let config = parse(r#"{"rate":"6/min","schedule":"fixed","overdue_after":"1500ms"}"#).unwrap();
        assert_eq!(config.rate("aurora").period(), Duration::from_secs(10));
        assert_eq!(config.schedule, ScheduleKind::Fixed);
        assert_eq!(config.overdue_after.0, Duration::from_millis(1_500));
        assert_eq!(parse("{}").unwrap(), Config::default());
    }

    #[test]
    fn canaries_that_cost_money_are_written_more_rarely() {
        let usual = |store| Config::default().rate(store).to_string();
        assert_eq!(
            ["aurora", "kafka", "dynamodb", "s3"].map(usual),
            ["5/s", "5/s", "1/s", "6/min"]
        );
    }

    #[test]
    fn settings_survive_being_printed_and_read_again() {
        let config = parse(r#"{"rate":"90/h","overdue_after":"2m 30s"}"#).unwrap();
        let printed = serde_json::to_string(&config).unwrap();
        assert_eq!(parse(&printed).unwrap(), config, "{printed}");
    }

    #[test]
    fn a_wrong_setting_is_refused_with_the_right_form() {
        for (json, words) in [
            (r#"{"rate":"5"}"#, "no unit of time"),
            (r#"{"rate":"5/day"}"#, "is not a unit of time"),
            (r#"{"rate":"0/s"}"#, "measures nothing"),
            (r#"{"rate":"1001/s"}"#, "more than 1000 a second"),
            (r#"{"rate":"2.5/s"}"#, "is not a whole number"),
            (r#"{"rate":5}"#, "a rate such as"),
            (r#"{"overdue_after":"30"}"#, "not a duration"),
            (r#"{"overdue_after":30}"#, "a duration with its unit"),
            (r#"{"overdue_after":"-3s"}"#, "longer than nothing"),
            (r#"{"schedule":"burst"}"#, "poisson"),
            (r#"{"rat":"5/s"}"#, "unknown field"),
        ] {
            let error = parse(json).unwrap_err();
            assert!(error.contains(words), "{json}: {error}");
        }
    }
}
