//! Blocks, days and peak windows.

use jiff::civil::{Date, Time, Weekday};
use jiff::tz::TimeZone;
use jiff::{Timestamp, ToSpan};
use serde::{Deserialize, Deserializer};

/// Length of a block: 5 minutes.
pub const BLOCK_US: i64 = 300_000_000;
/// Length of a UTC day.
pub const DAY_US: i64 = 86_400_000_000;

/// The start of the block that holds an instant (microseconds since 1970 UTC).
pub(crate) fn block_start(at_us: i64) -> i64 {
    at_us - at_us.rem_euclid(BLOCK_US)
}

/// The start of the UTC day that holds an instant.
pub(crate) fn day_start(at_us: i64) -> i64 {
    at_us - at_us.rem_euclid(DAY_US)
}

/// An instant for people: `2026-11-21 02:04:05 UTC`. Instants that no calendar holds are printed as their number.
pub(crate) fn instant_text(at_us: i64) -> String {
    Timestamp::from_microsecond(at_us).map_or_else(
        |_| format!("{at_us} us"),
        |timestamp| timestamp.strftime("%Y-%m-%d %H:%M:%S UTC").to_string(),
    )
}

/// An instant in ISO 8601: `2026-11-21T02:04:05Z`.
pub(crate) fn instant_iso(at_us: i64) -> String {
    Timestamp::from_microsecond(at_us).map_or_else(
        |_| format!("{at_us} us"),
        |timestamp| timestamp.strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
    )
}

/// The UTC date of an instant: `2026-11-21`.
pub(crate) fn date_text(at_us: i64) -> String {
    instant_text(at_us).chars().take(10).collect()
}

/// Hours in which the data layer must hold its bounds under load.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PeakWindow {
    /// Stable name.
    pub name: String,
    /// Days of the week, at which it starts.
    #[serde(deserialize_with = "weekdays")]
    pub days: Vec<Weekday>,
    /// Start of the window, `"08:00"`; a multiple of 5 minutes.
    #[serde(deserialize_with = "time")]
    pub from: Time,
    /// End, exclusive; at or before `from` means on the next day.
    #[serde(deserialize_with = "time")]
    pub to: Time,
    /// IANA name of the time zone of `from` and `to`.
    #[serde(deserialize_with = "zone", default = "utc")]
    pub time_zone: TimeZone,
}

fn utc() -> TimeZone {
    TimeZone::UTC
}

fn time<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Time, D::Error> {
    let text = String::deserialize(deserializer)?;
    Time::strptime("%H:%M", &text)
        .map_err(|_| serde::de::Error::custom(format!("`{text}` is not a time of day: write for example \"08:00\"")))
}

fn zone<'de, D: Deserializer<'de>>(deserializer: D) -> Result<TimeZone, D::Error> {
    let text = String::deserialize(deserializer)?;
    TimeZone::get(&text).map_err(|_| {
        serde::de::Error::custom(format!(
            "`{text}` is not a time zone that this machine knows: write for example \"UTC\" or \"Europe/Berlin\", and see that tzdata is installed"
        ))
    })
}

fn weekdays<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Weekday>, D::Error> {
    Vec::<String>::deserialize(deserializer)?
        .into_iter()
        .map(|text| match text.as_str() {
            "mon" => Ok(Weekday::Monday),
            "tue" => Ok(Weekday::Tuesday),
            "wed" => Ok(Weekday::Wednesday),
            "thu" => Ok(Weekday::Thursday),
            "fri" => Ok(Weekday::Friday),
            "sat" => Ok(Weekday::Saturday),
            "sun" => Ok(Weekday::Sunday),
            _ => Err(serde::de::Error::custom(format!(
                "`{text}` is not a day: use mon, tue, wed, thu, fri, sat, sun"
            ))),
        })
        .collect()
}

impl PeakWindow {
    /// What cannot work, in words.
    pub(crate) fn contradiction(&self) -> Option<String> {
        if self.days.is_empty() {
            return Some(format!("peak window `{}` has no day", self.name));
        }
        let aligned = |time: Time| time.minute() % 5 == 0;
        if !aligned(self.from) || !aligned(self.to) {
            return Some(format!(
                "peak window `{}` must start and end at a multiple of 5 minutes: blocks do",
                self.name
            ));
        }
        None
    }

    /// The local date at which the window that holds this instant started; `None` outside of the window.
    pub(crate) fn occurrence(&self, at_us: i64) -> Option<Date> {
        let local = Timestamp::from_microsecond(at_us)
            .ok()?
            .to_zoned(self.time_zone.clone());
        let (date, time) = (local.date(), local.time());
        let started = if self.from < self.to {
            (self.from <= time && time < self.to).then_some(date)
        } else if time >= self.from {
            Some(date)
        } else if time < self.to {
            date.checked_sub(1.day()).ok()
        } else {
            None
        }?;
        self.days.contains(&started.weekday()).then_some(started)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peak(text: &str) -> PeakWindow {
        toml::from_str(text).unwrap()
    }

    fn at(text: &str) -> i64 {
        text.parse::<Timestamp>().unwrap().as_microsecond()
    }

    #[test]
    fn a_window_knows_its_hours_and_days() {
        let window = peak("name='m'\ndays=['mon','fri']\nfrom='08:00'\nto='10:00'");
        // 2026-11-20 is a Friday.
        assert!(window.occurrence(at("2026-11-20T07:59:59Z")).is_none());
        assert_eq!(window.occurrence(at("2026-11-20T08:00:00Z")).unwrap().day(), 20);
        assert!(window.occurrence(at("2026-11-20T10:00:00Z")).is_none());
        assert!(window.occurrence(at("2026-11-21T08:30:00Z")).is_none());
    }

    #[test]
    fn a_window_over_midnight_belongs_to_the_day_it_started() {
        let window = peak("name='n'\ndays=['fri']\nfrom='22:00'\nto='02:00'");
        assert_eq!(window.occurrence(at("2026-11-20T23:00:00Z")).unwrap().day(), 20);
        assert_eq!(window.occurrence(at("2026-11-21T01:55:00Z")).unwrap().day(), 20);
        assert!(window.occurrence(at("2026-11-20T01:00:00Z")).is_none());
    }

    #[test]
    fn local_hours_follow_the_clock_change() {
        let window = peak(
            "name='ny'\ndays=['mon','tue','wed','thu','fri']\nfrom='09:00'\nto='10:00'\ntime_zone='America/New_York'",
        );
        assert!(window.occurrence(at("2026-07-01T13:30:00Z")).is_some());
        assert!(window.occurrence(at("2026-11-20T13:30:00Z")).is_none());
        assert!(window.occurrence(at("2026-11-20T14:30:00Z")).is_some());
    }

    #[test]
    fn blocks_are_aligned_also_before_1970() {
        assert_eq!(block_start(299_999_999), 0);
        assert_eq!(block_start(-1), -BLOCK_US);
        assert_eq!(day_start(-1), -DAY_US);
    }
}
