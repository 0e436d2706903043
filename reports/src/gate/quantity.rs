//! Quantities as people write them in a policy: `"200 ms"`, `"20 %"`, and bounds such as `"<= 200 ms"`.

use std::fmt;

use serde::{Deserialize, Serialize};

/// What a quantity measures. Quantities of different kinds are never compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Measure {
    /// A length of time, held in microseconds.
    Duration,
    /// A share, held in thousandths of a percent.
    Percent,
}

impl Measure {
    /// The word of the `gate_criteria.unit` column: what the numbers of that row count.
    pub fn unit(self) -> &'static str {
        match self {
            Self::Duration => "us",
            Self::Percent => "percent",
        }
    }
}

/// An exact amount with its measure.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Quantity {
    amount: i64,
    measure: Measure,
}

/// Units and what one of them is worth in the held unit (microseconds; thousandths of a percent).
const UNITS: [(&str, Measure, i64); 8] = [
    ("us", Measure::Duration, 1),
    ("ms", Measure::Duration, 1_000),
    ("s", Measure::Duration, 1_000_000),
    ("min", Measure::Duration, 60_000_000),
    ("h", Measure::Duration, 3_600_000_000),
    ("d", Measure::Duration, 86_400_000_000),
    ("%", Measure::Percent, 1_000),
    ("µs", Measure::Duration, 1),
];

impl Quantity {
    /// A length of time.
    pub fn micros(amount: i64) -> Self {
        Self {
            amount,
            measure: Measure::Duration,
        }
    }

    /// A share in thousandths of a percent.
    pub fn milli_percent(amount: i64) -> Self {
        Self {
            amount,
            measure: Measure::Percent,
        }
    }

    /// Microseconds, or thousandths of a percent.
    pub fn amount(self) -> i64 {
        self.amount
    }

    /// What it measures.
    pub fn measure(self) -> Measure {
        self.measure
    }

    /// The number of the `gate_criteria` columns, in [`Measure::unit`].
    pub fn in_unit(self) -> f64 {
        match self.measure {
            Measure::Duration => to_f64(self.amount),
            Measure::Percent => to_f64(self.amount) / 1_000.0,
        }
    }

    /// Reads `"200 ms"`. A number alone is refused: nobody can tell what it counts.
    ///
    /// # Errors
    /// Words that say what was expected.
    pub fn parse(text: &str) -> Result<Self, String> {
        let text = text.trim();
        let split = text
            .find(|c: char| !(c.is_ascii_digit() || c == '.' || c == '-'))
            .ok_or_else(|| format!("`{text}` has no unit: write for example \"200 ms\", \"15 min\" or \"20 %\""))?;
        let (number, unit) = text.split_at(split);
        let unit = unit.trim();
        let &(_, measure, worth) = UNITS
            .iter()
            .find(|(name, _, _)| *name == unit)
            .ok_or_else(|| format!("`{unit}` is not a unit: use one of us, ms, s, min, h, d, %"))?;
        let amount = scaled(number, worth)
            .ok_or_else(|| format!("`{number}` is not a number that can be held exactly in `{unit}`"))?;
        Ok(Self { amount, measure })
    }
}

/// `number` x `worth`, only if the result is a whole number.
fn scaled(number: &str, worth: i64) -> Option<i64> {
    let (negative, digits) = match number.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, number),
    };
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    if !(whole.bytes().chain(fraction.bytes())).all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    if whole.is_empty() || (digits.contains('.') && fraction.is_empty()) || fraction.len() > 9 {
        return None;
    }
    let all: i64 = format!("{whole}{fraction}").parse().ok()?;
    let divisor = 10_i64.checked_pow(u32::try_from(fraction.len()).ok()?)?;
    let product = all.checked_mul(worth)?;
    if product % divisor != 0 {
        return None;
    }
    Some(if negative {
        -(product / divisor)
    } else {
        product / divisor
    })
}

impl TryFrom<String> for Quantity {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        Self::parse(&text)
    }
}

impl From<Quantity> for String {
    fn from(quantity: Quantity) -> Self {
        quantity.to_string()
    }
}

impl fmt::Display for Quantity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.measure {
            Measure::Duration => f.write_str(&duration_text(self.amount)),
            Measure::Percent => write!(f, "{} %", decimal(self.amount, 1_000)),
        }
    }
}

/// A duration in the largest unit that leaves at least 1, cut to three significant decimals for figures below a minute.
fn duration_text(us: i64) -> String {
    let size = us.unsigned_abs();
    if size < 1_000 {
        format!("{us} us")
    } else if size < 1_000_000 {
        format!("{} ms", decimal(us, 1_000))
    } else if size < 120_000_000 {
        format!("{} s", decimal(us / 1_000, 1_000))
    } else if size < 7_200_000_000 {
        format!("{} min", decimal(us / 60_000, 1_000))
    } else if size < 172_800_000_000 {
        format!("{} h", decimal(us / 3_600_000, 1_000))
    } else {
        format!("{} d", decimal(us / 86_400_000, 1_000))
    }
}

/// `amount / per` without trailing zeros.
fn decimal(amount: i64, per: i64) -> String {
    let sign = if amount < 0 { "-" } else { "" };
    let amount = amount.unsigned_abs();
    let per = per.unsigned_abs();
    let width = per.to_string().len() - 1;
    let text = format!("{sign}{}.{:0width$}", amount / per, amount % per);
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// The nearest double. Exact below 2^53, which is 285 years of microseconds.
#[expect(
    clippy::cast_precision_loss,
    reason = "figures of a report: exact below 2^53, and nothing is judged on the double"
)]
pub(crate) fn to_f64(amount: i64) -> f64 {
    amount as f64
}

/// Which side of the value is meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// `<`
    Below,
    /// `<=`
    AtMost,
    /// `>`
    Above,
    /// `>=`
    AtLeast,
}

impl Side {
    fn sign(self) -> &'static str {
        match self {
            Self::Below => "<",
            Self::AtMost => "<=",
            Self::Above => ">",
            Self::AtLeast => ">=",
        }
    }
}

/// A threshold with its comparison: `"<= 200 ms"`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Bound {
    side: Side,
    value: Quantity,
}

impl Bound {
    /// The threshold without its comparison.
    pub fn value(self) -> Quantity {
        self.value
    }

    /// Whether this is an upper bound (`<`, `<=`).
    pub fn is_upper(self) -> bool {
        matches!(self.side, Side::Below | Side::AtMost)
    }

    /// Whether `amount`, in the held unit of the threshold, satisfies it.
    pub fn holds(self, amount: i64) -> bool {
        match self.side {
            Side::Below => amount < self.value.amount,
            Side::AtMost => amount <= self.value.amount,
            Side::Above => amount > self.value.amount,
            Side::AtLeast => amount >= self.value.amount,
        }
    }
}

impl TryFrom<String> for Bound {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let text = text.trim();
        // The longer signs first: `<` is a prefix of `<=`.
        for side in [Side::AtMost, Side::AtLeast, Side::Below, Side::Above] {
            if let Some(rest) = text.strip_prefix(side.sign()) {
                return Ok(Self {
                    side,
                    value: Quantity::parse(rest)?,
                });
            }
        }
        Err(format!(
            "`{text}` does not say which side is meant: write for example \"<= 200 ms\" or \"> 500 ms\""
        ))
    }
}

impl From<Bound> for String {
    fn from(bound: Bound) -> Self {
        bound.to_string()
    }
}

impl fmt::Display for Bound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.side.sign(), self.value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_are_read_exactly() {
        let cases = [
            ("200 ms", 200_000, Measure::Duration),
            ("1.5 s", 1_500_000, Measure::Duration),
            ("15min", 900_000_000, Measure::Duration),
            ("0 us", 0, Measure::Duration),
            ("-2.5 %", -2_500, Measure::Percent),
        ];
        for (text, amount, measure) in cases {
            assert_eq!(Quantity::parse(text), Ok(Quantity { amount, measure }), "{text}");
        }
    }

    #[test]
    fn what_cannot_be_told_is_refused() {
        for text in [
            "200",
            "",
            "ms",
            "1.0000001 us",
            ". s",
            "1. s",
            "5 parsecs",
            "1-2 ms",
            "--1 ms",
        ] {
            assert!(Quantity::parse(text).is_err(), "{text}");
        }
        assert!(Bound::try_from("200 ms".to_owned()).is_err());
        assert!(Bound::try_from("= 200 ms".to_owned()).is_err());
    }

    #[test]
    fn bounds_are_sharp() {
        let below = Bound::try_from("< 15 min".to_owned()).unwrap();
        assert!(below.holds(899_999_999) && !below.holds(900_000_000));
        let at_most = Bound::try_from("<= 200 ms".to_owned()).unwrap();
        assert!(at_most.holds(200_000) && !at_most.holds(200_001));
        let at_least = Bound::try_from(">= 100 %".to_owned()).unwrap();
        assert!(at_least.holds(100_000) && !at_least.holds(99_999));
    }

    #[test]
    fn what_is_printed_reads_back() {
        for text in [
            "850 us",
            "200 ms",
            "514.303 ms",
            "1.5 s",
            "15 min",
            "7 d",
            "20 %",
            "-2.5 %",
        ] {
            assert_eq!(Quantity::parse(text).unwrap().to_string(), text);
        }
    }
}
