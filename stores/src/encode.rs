//! The canonical encoding of a row, and its digest.
//!
//! A row is its key and its body. The encoding is injective: two rows have the same bytes only if they are the same row. Each value is
//! `tag (1 byte), length of the bytes (8, little-endian), bytes`; nothing is trimmed, Unicode-normalised or formatted as text.
//!
//! | value | tag | bytes |
//! |---|---|---|
//! | absent | 0 | none |
//! | NULL | 1 | none |
//! | bool | 2 | 0 or 1 |
//! | int | 3 | 8, two's complement, little-endian |
//! | decimal | 4 | sign (0 zero, 1 plus, 2 minus), exponent (8, little-endian), significant digits in ASCII |
//! | float | 5 | the 8 bytes of the IEEE form, little-endian: -0 is not 0 |
//! | text | 6 | UTF-8 |
//! | bytes | 7 | as they are |
//! | list | 8 | the encodings of its values in their order |
//! | map | 9 | for each entry, by ascending name: the name as text, the value. Absent values are left out |
//! | set | 10 | the encodings of its values, sorted as bytes |
//!
//! A row is the byte [`ENCODING_VERSION`], its key as a list, its body as a map. The digest is XXH3-128 with a seed over these bytes,
//! as **one** string: digests of columns are never combined.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::{xxh3_64_with_seed, xxh3_128_with_seed};

use crate::{Key, KeyValue, RowDigest};

/// First byte of each encoded row. Digests of different versions must never be compared.
pub const ENCODING_VERSION: u8 = 1;

/// A value as it is hashed. Whether two values are the same is told by their encoding: a set has no order there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Value {
    /// There, and without a value.
    Null,
    /// Not there.
    Absent,
    /// True or false.
    Bool(bool),
    /// A whole number of a store that tells whole numbers from others.
    Int(i64),
    /// An exact decimal number: 1.0 and 1.00 are the same.
    Decimal(Decimal),
    /// The bits of an IEEE 754 double.
    Float(u64),
    /// Text.
    Text(String),
    /// Bytes.
    Bytes(Vec<u8>),
    /// Values in an order that counts.
    List(Vec<Value>),
    /// Named values.
    Map(BTreeMap<String, Value>),
    /// Values in no order.
    Set(Vec<Value>),
}

/// An exact decimal number in its one normal form: `sign digits x 10^exponent`, no zero at either end of the digits.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Decimal {
    negative: bool,
    digits: String,
    exponent: i64,
}

/// A text is not a finite decimal number, or its exponent is beyond 63 bits.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not a finite decimal number")]
pub struct NotDecimal;

impl Decimal {
    /// Reads `[+-]digits[.digits][e[+-]digits]` with at least one digit.
    ///
    /// # Errors
    /// [`NotDecimal`]: NaN and infinity have no decimal form.
    pub fn parse(text: &str) -> Result<Self, NotDecimal> {
        let (negative, unsigned) = match text.as_bytes() {
            [b'-', ..] => (true, &text[1..]),
            [b'+', ..] => (false, &text[1..]),
            _ => (false, text),
        };
        let (mantissa, exponent) = match unsigned.split_once(['e', 'E']) {
            Some((mantissa, exponent)) => (mantissa, parse_exponent(exponent)?),
            None => (unsigned, 0),
        };
        let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
        let all = [whole, fraction].concat();
        if all.is_empty() || !all.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(NotDecimal);
        }
        let significant = all.trim_start_matches('0').trim_end_matches('0');
        if significant.is_empty() {
            return Ok(Self {
                negative: false,
                digits: String::new(),
                exponent: 0,
            });
        }
        let trailing_zeros = all.len() - all.trim_end_matches('0').len();
        let shift = i64::try_from(trailing_zeros)
            .ok()
            .zip(i64::try_from(fraction.len()).ok());
        let exponent = shift
            .and_then(|(zeros, decimals)| exponent.checked_add(zeros)?.checked_sub(decimals))
            .ok_or(NotDecimal)?;
        Ok(Self {
            negative,
            digits: significant.to_owned(),
            exponent,
        })
    }

    fn sign(&self) -> u8 {
        match (self.digits.is_empty(), self.negative) {
            (true, _) => 0,
            (false, false) => 1,
            (false, true) => 2,
        }
    }
}

fn parse_exponent(text: &str) -> Result<i64, NotDecimal> {
    let digits = text.strip_prefix(['+', '-']).unwrap_or(text);
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(NotDecimal);
    }
    text.parse().map_err(|_| NotDecimal)
}

impl std::fmt::Display for Decimal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.digits.is_empty() {
            return f.write_str("0");
        }
        let sign = if self.negative { "-" } else { "" };
        write!(f, "{sign}{}e{}", self.digits, self.exponent)
    }
}

impl TryFrom<String> for Decimal {
    type Error = NotDecimal;

    fn try_from(text: String) -> Result<Self, NotDecimal> {
        Self::parse(&text)
    }
}

impl From<Decimal> for String {
    fn from(decimal: Decimal) -> Self {
        decimal.to_string()
    }
}

/// The canonical bytes of a row. The order of `columns` does not count; a name must not occur twice.
pub fn encode_row(key: &Key, columns: &[(&str, &Value)]) -> Vec<u8> {
    let mut out = vec![ENCODING_VERSION];
    encode_key(key, &mut out);
    let mut body: Vec<_> = columns.to_vec();
    body.sort_by_key(|(name, _)| *name);
    encode_map(body.into_iter(), &mut out);
    out
}

/// The digest of a row: XXH3-128 of [`encode_row`].
pub fn row_digest(seed: u64, key: &Key, columns: &[(&str, &Value)]) -> RowDigest {
    RowDigest(xxh3_128_with_seed(&encode_row(key, columns), seed))
}

/// The digest of one value, to name the columns that differ. `None` is NULL. Never to be combined into the digest of a row.
pub fn column_digest(seed: u64, value: &Value) -> Option<u64> {
    if *value == Value::Null {
        return None;
    }
    Some(xxh3_64_with_seed(&encoded(value), seed))
}

/// [`column_digest`] of [`Value::Bytes`].
pub(crate) fn bytes_digest(seed: u64, value: &[u8]) -> u64 {
    let mut out = Vec::with_capacity(value.len() + 9);
    framed(tag::BYTES, &mut out, |out| out.extend_from_slice(value));
    xxh3_64_with_seed(&out, seed)
}

/// The bucket of a key among `of` buckets. Unseeded, so that both ends agree in every run. `of` = 0 is taken as 1.
pub fn key_bucket(key: &Key, of: u32) -> u32 {
    let mut out = Vec::new();
    encode_key(key, &mut out);
    let bucket = xxh3_64_with_seed(&out, 0) % u64::from(of.max(1));
    u32::try_from(bucket).unwrap_or(0) // below `of`, which is 32 bits wide
}

/// First byte of an encoded value. Written down in the stored test vectors: never to be changed or used again.
mod tag {
    pub(super) const ABSENT: u8 = 0;
    pub(super) const NULL: u8 = 1;
    pub(super) const BOOL: u8 = 2;
    pub(super) const INT: u8 = 3;
    pub(super) const DECIMAL: u8 = 4;
    pub(super) const FLOAT: u8 = 5;
    pub(super) const TEXT: u8 = 6;
    pub(super) const BYTES: u8 = 7;
    pub(super) const LIST: u8 = 8;
    pub(super) const MAP: u8 = 9;
    pub(super) const SET: u8 = 10;
}

fn encode_key(key: &Key, out: &mut Vec<u8>) {
    framed(tag::LIST, out, |out| {
        for value in &key.0 {
            match value {
                KeyValue::Int(value) => framed(tag::INT, out, |out| out.extend_from_slice(&value.to_le_bytes())),
                KeyValue::Text(value) => framed(tag::TEXT, out, |out| out.extend_from_slice(value.as_bytes())),
                KeyValue::Bytes(value) => framed(tag::BYTES, out, |out| out.extend_from_slice(value)),
            }
        }
    });
}

fn encode_map<'a>(entries: impl Iterator<Item = (&'a str, &'a Value)>, out: &mut Vec<u8>) {
    framed(tag::MAP, out, |out| {
        for (name, value) in entries.filter(|(_, value)| **value != Value::Absent) {
            framed(tag::TEXT, out, |out| out.extend_from_slice(name.as_bytes()));
            encode_value(value, out);
        }
    });
}

fn encode_value(value: &Value, out: &mut Vec<u8>) {
    match value {
        Value::Absent => framed(tag::ABSENT, out, |_| {}),
        Value::Null => framed(tag::NULL, out, |_| {}),
        Value::Bool(value) => framed(tag::BOOL, out, |out| out.push(u8::from(*value))),
        Value::Int(value) => framed(tag::INT, out, |out| out.extend_from_slice(&value.to_le_bytes())),
        Value::Decimal(value) => framed(tag::DECIMAL, out, |out| {
            out.push(value.sign());
            out.extend_from_slice(&value.exponent.to_le_bytes());
            out.extend_from_slice(value.digits.as_bytes());
        }),
        Value::Float(bits) => framed(tag::FLOAT, out, |out| out.extend_from_slice(&bits.to_le_bytes())),
        Value::Text(value) => framed(tag::TEXT, out, |out| out.extend_from_slice(value.as_bytes())),
        Value::Bytes(value) => framed(tag::BYTES, out, |out| out.extend_from_slice(value)),
        Value::List(values) => framed(tag::LIST, out, |out| {
            values.iter().for_each(|value| encode_value(value, out))
        }),
        Value::Map(entries) => encode_map(entries.iter().map(|(name, value)| (name.as_str(), value)), out),
        Value::Set(values) => framed(tag::SET, out, |out| {
            let mut encoded: Vec<Vec<u8>> = values.iter().map(encoded).collect();
            encoded.sort_unstable();
            encoded.iter().for_each(|value| out.extend_from_slice(value));
        }),
    }
}

fn encoded(value: &Value) -> Vec<u8> {
    let mut out = Vec::new();
    encode_value(value, &mut out);
    out
}

/// Tag, length, and what `body` appends.
fn framed(tag: u8, out: &mut Vec<u8>, body: impl FnOnce(&mut Vec<u8>)) {
    out.push(tag);
    let length_at = out.len();
    out.extend_from_slice(&[0; 8]);
    let start = out.len();
    body(out);
    let length = u64::try_from(out.len() - start).unwrap_or(u64::MAX); // a usize fits
    out[length_at..start].copy_from_slice(&length.to_le_bytes());
}
