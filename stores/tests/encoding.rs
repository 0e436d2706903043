//! The canonical encoding is injective, digests of chunks add up, and neither ever changes.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use proptest::prelude::*;
use serde::{Deserialize, Serialize};
use stores::{
    ChunkDigest, Decimal, DigestMode, ENCODING_VERSION, Key, KeyValue, RowDigest, Value, column_digest, encode_row,
    key_bucket, row_digest,
};

type Columns = BTreeMap<String, Value>;

fn encode(key: &Key, columns: &Columns) -> Vec<u8> {
    encode_row(key, &refs(columns))
}

fn digest(key: &Key, columns: &Columns) -> RowDigest {
    row_digest(7, key, &refs(columns))
}

fn refs(columns: &Columns) -> Vec<(&str, &Value)> {
    columns.iter().map(|(name, value)| (name.as_str(), value)).collect()
}

fn key_value() -> impl Strategy<Value = KeyValue> {
    prop_oneof![
        any::<i64>().prop_map(KeyValue::Int),
        short_text().prop_map(KeyValue::Text),
        prop::collection::vec(any::<u8>(), 0..4).prop_map(KeyValue::Bytes),
    ]
}

/// Texts that look like parts of an encoding, besides ordinary ones.
fn short_text() -> impl Strategy<Value = String> {
    prop_oneof!["[ab]{0,2}", "[\\x00-\\x0a]{0,9}", "\\PC{0,3}"]
}

fn decimal() -> impl Strategy<Value = Decimal> {
    "[+-]?[0-9]{1,5}(\\.[0-9]{0,5})?(e[+-]?[0-9]{1,2})?".prop_map(|text| Decimal::parse(&text).unwrap())
}

fn value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        Just(Value::Absent),
        any::<bool>().prop_map(Value::Bool),
        (-2i64..3).prop_map(Value::Int),
        any::<i64>().prop_map(Value::Int),
        decimal().prop_map(Value::Decimal),
        any::<u64>().prop_map(Value::Float),
        short_text().prop_map(Value::Text),
        prop::collection::vec(any::<u8>(), 0..10).prop_map(Value::Bytes),
    ];
    leaf.prop_recursive(3, 16, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::List),
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::Set),
            prop::collection::btree_map(short_text(), inner, 0..4).prop_map(Value::Map),
        ]
    })
}

fn columns() -> impl Strategy<Value = Columns> {
    prop::collection::btree_map(short_text(), value(), 0..5)
}

fn key() -> impl Strategy<Value = Key> {
    prop::collection::vec(key_value(), 0..3).prop_map(Key)
}

/// What an encoding says, read back by an implementation of its own.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Decoded {
    Scalar(u8, Vec<u8>),
    Decimal(String),
    List(Vec<Decoded>),
    Map(Vec<(String, Decoded)>),
    Set(Vec<Decoded>),
}

fn take<'a>(bytes: &mut &'a [u8]) -> (u8, &'a [u8]) {
    let (head, rest) = bytes.split_at(9);
    let length = usize::try_from(u64::from_le_bytes(head[1..].try_into().unwrap())).unwrap();
    let (body, rest) = rest.split_at(length);
    *bytes = rest;
    (head[0], body)
}

fn decode(bytes: &mut &[u8]) -> Decoded {
    let (tag, mut body) = take(bytes);
    match tag {
        4 => {
            let exponent = i64::from_le_bytes(body[1..9].try_into().unwrap());
            let digits = std::str::from_utf8(&body[9..]).unwrap();
            Decoded::Decimal(match body[0] {
                0 => "0".to_owned(),
                1 => format!("{digits}e{exponent}"),
                _ => format!("-{digits}e{exponent}"),
            })
        }
        8 | 10 => {
            let mut values = Vec::new();
            while !body.is_empty() {
                values.push(decode(&mut body));
            }
            if tag == 8 {
                Decoded::List(values)
            } else {
                sorted(values)
            }
        }
        9 => {
            let mut entries = Vec::new();
            while !body.is_empty() {
                let (name_tag, name) = take(&mut body);
                assert_eq!(name_tag, 6);
                entries.push((String::from_utf8(name.to_vec()).unwrap(), decode(&mut body)));
            }
            Decoded::Map(entries)
        }
        tag => Decoded::Scalar(tag, body.to_vec()),
    }
}

fn sorted(mut values: Vec<Decoded>) -> Decoded {
    values.sort();
    Decoded::Set(values)
}

/// What the encoding of a value must say.
fn meant(value: &Value) -> Decoded {
    match value {
        Value::Absent => Decoded::Scalar(0, vec![]),
        Value::Null => Decoded::Scalar(1, vec![]),
        Value::Bool(value) => Decoded::Scalar(2, vec![u8::from(*value)]),
        Value::Int(value) => Decoded::Scalar(3, value.to_le_bytes().to_vec()),
        Value::Decimal(value) => Decoded::Decimal(value.to_string()),
        Value::Float(bits) => Decoded::Scalar(5, bits.to_le_bytes().to_vec()),
        Value::Text(text) => Decoded::Scalar(6, text.clone().into_bytes()),
        Value::Bytes(bytes) => Decoded::Scalar(7, bytes.clone()),
        Value::List(values) => Decoded::List(values.iter().map(meant).collect()),
        Value::Set(values) => sorted(values.iter().map(meant).collect()),
        Value::Map(entries) => meant_map(entries),
    }
}

fn meant_map(entries: &BTreeMap<String, Value>) -> Decoded {
    let there = entries.iter().filter(|(_, value)| **value != Value::Absent);
    Decoded::Map(there.map(|(name, value)| (name.clone(), meant(value))).collect())
}

fn meant_key(key: &Key) -> Decoded {
    let part = |value: &KeyValue| match value {
        KeyValue::Int(value) => Decoded::Scalar(3, value.to_le_bytes().to_vec()),
        KeyValue::Text(text) => Decoded::Scalar(6, text.clone().into_bytes()),
        KeyValue::Bytes(bytes) => Decoded::Scalar(7, bytes.clone()),
    };
    Decoded::List(key.0.iter().map(part).collect())
}

fn sum<'a>(rows: impl IntoIterator<Item = &'a (Key, Columns)>) -> ChunkDigest {
    let mut chunk = ChunkDigest::default();
    for (key, columns) in rows {
        chunk.add(digest(key, columns));
    }
    chunk
}

proptest! {
    /// That it can be read back proves that no two rows share an encoding.
    #[test]
    fn an_encoding_can_be_read_back(key in key(), columns in columns()) {
        let bytes = encode(&key, &columns);
        let (version, mut rest) = bytes.split_first().unwrap();
        prop_assert_eq!(*version, ENCODING_VERSION);
        prop_assert_eq!(decode(&mut rest), meant_key(&key));
        prop_assert_eq!(decode(&mut rest), meant_map(&columns));
        prop_assert!(rest.is_empty());
    }

    #[test]
    fn the_order_of_columns_and_sets_does_not_count(key in key(), columns in columns(), values in prop::collection::vec(value(), 0..4)) {
        let mut reversed = refs(&columns);
        reversed.reverse();
        prop_assert_eq!(encode_row(&key, &reversed), encode(&key, &columns));
        let backwards = values.iter().rev().cloned().collect();
        let (one, other) = (Value::Set(values), Value::Set(backwards));
        prop_assert_eq!(column_digest(1, &one), column_digest(1, &other));
    }

    #[test]
    fn a_swap_of_values_between_two_rows_is_found(first in value(), second in value(), shared in columns()) {
        prop_assume!(meant(&first) != meant(&second));
        let row = |key: i64, value: &Value| {
            let mut columns = shared.clone();
            columns.insert("swapped".to_owned(), value.clone());
            (Key::int(key), columns)
        };
        let before = [row(1, &first), row(2, &second)];
        let after = [row(1, &second), row(2, &first)];
        prop_assert_ne!(sum(&before), sum(&after));
    }

    #[test]
    fn a_swap_of_values_between_two_columns_is_found(first in value(), second in value()) {
        prop_assume!(meant(&first) != meant(&second));
        let row = |a: &Value, b: &Value| Columns::from([("a".to_owned(), a.clone()), ("b".to_owned(), b.clone())]);
        let key = Key::int(1);
        prop_assert_ne!(digest(&key, &row(&first, &second)), digest(&key, &row(&second, &first)));
    }

    #[test]
    fn sums_do_not_depend_on_order_and_count_duplicates(rows in prop::collection::vec((key(), columns()), 1..8), extra in any::<prop::sample::Index>()) {
        let mut other = rows.clone();
        other.reverse();
        prop_assert_eq!(sum(&rows), sum(&other));
        other.push(rows[extra.index(rows.len())].clone());
        let (whole, more) = (sum(&rows), sum(&other));
        prop_assert_eq!(more.count, whole.count + 1);
        prop_assert_ne!(more.sum, whole.sum);
        other.push(rows[extra.index(rows.len())].clone());
        prop_assert_ne!(sum(&other).sum, whole.sum); // an even number of copies must not cancel
    }

    #[test]
    fn the_merge_of_splits_is_the_whole(rows in prop::collection::vec((key(), columns()), 0..12), parts in 1usize..5) {
        let merged = |mode| (0..parts)
            .map(|part| sum(rows.iter().skip(part).step_by(parts)))
            .fold(ChunkDigest::default(), |all, chunk| all.merge(chunk, mode));
        let whole = sum(&rows);
        prop_assert_eq!(merged(DigestMode::Client), whole);
        let low = ChunkDigest { sum: whole.sum & u128::from(u64::MAX), ..whole };
        prop_assert_eq!(merged(DigestMode::Pushdown), low);
    }

    #[test]
    fn a_decimal_has_one_form(digits in "[0-9]{1,6}", zeros in 0usize..4, point in 0usize..7) {
        let plain = Decimal::parse(&digits).unwrap();
        let zero_padded = Decimal::parse(&format!("{}{digits}.{}", "0".repeat(zeros), "0".repeat(zeros))).unwrap();
        prop_assert_eq!(&zero_padded, &plain);
        let point = point.min(digits.len());
        let moved = format!("{}.{}e{}", &digits[..point], &digits[point..], digits.len() - point);
        prop_assert_eq!(&Decimal::parse(&moved).unwrap(), &plain);
        prop_assert_eq!(&Decimal::parse(&plain.to_string()).unwrap(), &plain);
        let next = Decimal::parse(&format!("{digits}1")).unwrap();
        prop_assert_ne!(&next, &plain);
    }

    #[test]
    fn each_key_has_one_bucket(key in key(), of in 1u32..1_000) {
        prop_assert!(key_bucket(&key, of) < of);
        prop_assert_eq!(key_bucket(&key, of), key_bucket(&key.clone(), of));
    }
}

#[test]
fn null_empty_and_absent_are_three_things() {
    let with = |value: Value| encode(&Key::int(1), &Columns::from([("a".to_owned(), value)]));
    let none = encode(&Key::int(1), &Columns::new());
    let empties = [
        Value::Null,
        Value::Text(String::new()),
        Value::Bytes(vec![]),
        Value::List(vec![]),
        Value::Map(BTreeMap::new()),
        Value::Set(vec![]),
        Value::Text("NULL".to_owned()),
        Value::Int(0),
        Value::Decimal(Decimal::parse("0").unwrap()),
        Value::Float(0),
        Value::Float((-0.0f64).to_bits()),
        Value::Bool(false),
    ];
    let distinct: BTreeSet<Vec<u8>> = empties.iter().cloned().map(with).chain([none.clone()]).collect();
    assert_eq!(distinct.len(), empties.len() + 1);
    assert_eq!(with(Value::Absent), none, "an absent column is no column");
    assert_eq!(column_digest(1, &Value::Null), None);
    assert!(
        column_digest(1, &Value::Absent).is_some(),
        "absent is not NULL in a reading either"
    );
}

#[test]
fn texts_that_are_no_decimal_numbers_are_refused() {
    for text in [
        "",
        "+",
        "-",
        ".",
        "e1",
        "1e",
        "1e+",
        "1e1.5",
        "NaN",
        "inf",
        "1 ",
        " 1",
        "1_0",
        "--1",
        "1.2.3",
        "٣",
        "1e99999999999999999999",
    ] {
        assert!(Decimal::parse(text).is_err(), "{text:?}");
    }
    for (text, form) in [
        ("-0.00", "0"),
        ("100", "1e2"),
        ("-1.50", "-15e-1"),
        (".5", "5e-1"),
        ("5.", "5e0"),
    ] {
        assert_eq!(Decimal::parse(text).unwrap().to_string(), form);
        assert_eq!(Decimal::parse(text), Decimal::parse(form));
    }
}

/// One row with what its encoding and its digest have always been.
#[derive(Debug, Serialize, Deserialize, PartialEq)]
struct Vector {
    name: String,
    seed: u64,
    key: Key,
    columns: Columns,
    encoding: String,
    digest: String,
    column_digests: BTreeMap<String, Option<String>>,
    bucket_of_1000: u32,
}

fn vector(name: &str, seed: u64, key: Key, columns: Columns) -> Vector {
    let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    let column = |(name, value): (&String, &Value)| {
        let digest = column_digest(seed, value).map(|digest| format!("{digest:016x}"));
        (name.clone(), digest)
    };
    Vector {
        name: name.to_owned(),
        seed,
        encoding: hex(&encode(&key, &columns)),
        digest: format!("{:032x}", row_digest(seed, &key, &refs(&columns)).0),
        column_digests: columns.iter().map(column).collect(),
        bucket_of_1000: key_bucket(&key, 1_000),
        key,
        columns,
    }
}

fn vectors() -> Vec<Vector> {
    let one = |value: Value| Columns::from([("a".to_owned(), value)]);
    let text = |text: &str| Value::Text(text.to_owned());
    let decimal = |text: &str| Value::Decimal(Decimal::parse(text).unwrap());
    let map = BTreeMap::from([("x".to_owned(), Value::Null), ("y".to_owned(), Value::Absent)]);
    let composite = Key(vec![
        KeyValue::Text("région".to_owned()),
        KeyValue::Int(i64::MIN),
        KeyValue::Bytes(vec![0, 255]),
    ]);
    let all = [
        Value::Null,
        Value::Absent,
        Value::Bool(true),
        Value::Int(-1),
        decimal("-12.340"),
        Value::Float(f64::NAN.to_bits()),
        text("e\u{301} "),
        Value::Bytes(vec![0]),
    ];
    vec![
        vector("no columns", 0, Key::int(0), Columns::new()),
        vector("NULL", 1, Key::int(1), one(Value::Null)),
        vector("empty text", 1, Key::int(1), one(text(""))),
        vector("int", u64::MAX, Key::int(i64::MAX), one(Value::Int(i64::MIN))),
        vector("decimal", 1, Key::int(1), one(decimal("0.10"))),
        vector("map", 1, Key::int(1), one(Value::Map(map))),
        vector("set", 1, Key::int(1), one(Value::Set(vec![text("b"), text("a")]))),
        vector(
            "composite key, every scalar",
            42,
            composite,
            one(Value::List(all.to_vec())),
        ),
        vector(
            "longer than a block",
            1,
            Key::int(1),
            one(text(&"driftline ".repeat(60))),
        ),
    ]
}

const REGENERATE: &str = "DRIFTLINE_REGENERATE_VECTORS";

/// The file is only written anew by an explicit act: `DRIFTLINE_REGENERATE_VECTORS=1`, with a new `ENCODING_VERSION`, since digests that
/// were recorded earlier can then not be compared any more.
#[test]
fn the_encoding_never_changes() {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/vectors/encoding.json");
    if std::env::var_os(REGENERATE).is_some() {
        let text = serde_json::to_string_pretty(&vectors()).unwrap();
        std::fs::write(&path, text + "\n").unwrap();
    }
    let stored: Vec<Vector> = serde_json::from_str(&std::fs::read_to_string(&path).unwrap()).unwrap();
    assert!(stored.len() >= 9);
    for stored in stored {
        let now = vector(&stored.name, stored.seed, stored.key.clone(), stored.columns.clone());
        assert_eq!(now, stored);
    }
}
