//! The reference pairs of `stores`, in the ways in which their rows can be read.

use std::collections::BTreeMap;
use std::time::Duration;

use reconcile::{FenceKind, KeyDisclosure, Limits, Pair, Request, Selected, Settings, State};
use stores::memory::{self, Delay, Fields, Hot, Side, Tolerance, fields};
use stores::{Class, Key, KeyShape, Relation, Value};

use crate::outcome::Outcome;

/// How the rows of a pair are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// By key ranges.
    Ordered,
    /// By scans, with keys.
    Unordered,
    /// By scans, with no key but their contents, at ends that have fences.
    Keyless,
    /// The same at ends that have none.
    KeylessUnordered,
}

impl Kind {
    pub(crate) const ALL: [Self; 4] = [Self::Ordered, Self::Unordered, Self::Keyless, Self::KeylessUnordered];

    pub(crate) fn is_keyless(self) -> bool {
        matches!(self, Self::Keyless | Self::KeylessUnordered)
    }
}

/// Between two sites, on paused time. Lag is 5 ms.
pub(crate) fn memory() -> memory::Pair {
    let pair = memory::Pair::new(memory::Settings {
        delay: Delay::Fixed(Duration::from_millis(5)),
        round_trip: Duration::from_millis(1),
        ..memory::Settings::default()
    });
    pair.create_table("t", &["id"], &["id", "a", "expires_at_us"]);
    pair
}

pub(crate) fn row(a: i64) -> Fields {
    fields([("a", Value::Int(a)), ("expires_at_us", Value::Int(1_000_000))])
}

/// Uses the table until what it gives is dropped: rows are updated, and others come and go.
pub(crate) fn in_use(pair: &memory::Pair) -> [Hot; 2] {
    let keys = |from: i64, to: i64| (from..to).map(Key::int).collect();
    [
        pair.update_hot("t", keys(0, 10), "a", Duration::from_millis(7)),
        pair.insert_and_delete("t", keys(300, 304), row(9_999), Duration::from_millis(30)),
    ]
}

/// Takes the key away from the table: rows are what they hold.
pub(crate) fn without_key(pair: &memory::Pair) {
    for side in [Side::Primary, Side::Secondary] {
        let found = pair.edit_catalog(side, "t", |collection| {
            collection.columns.retain(|column| column.name != "id");
            collection.key = KeyShape::Unusable("there is no unique index".to_owned());
        });
        assert!(found);
    }
}

/// The pair with a row for each of [`IDS`], as it is read in this way.
pub(crate) fn loaded(kind: Kind) -> memory::Pair {
    let pair = memory();
    pair.load("t", IDS.map(|id| (Key::int(id), row(id))));
    if kind.is_keyless() {
        without_key(&pair);
    }
    pair
}

/// The ends of a pair, read in this way.
pub(crate) fn ends(pair: &memory::Pair, kind: Kind, relation: Relation) -> Pair {
    let tolerance = || {
        Some(Tolerance {
            column: "expires_at_us".to_owned(),
            within: 1_000,
        })
    };
    let end = |side| match kind {
        Kind::Unordered | Kind::KeylessUnordered => pair.unordered(side, tolerance()),
        Kind::Ordered | Kind::Keyless => pair.end(side),
    };
    Pair {
        primary: end(Side::Primary),
        secondary: end(Side::Secondary),
        relation,
        fence: match (relation, kind) {
            (Relation::Replicating, Kind::Unordered | Kind::KeylessUnordered) => FenceKind::Time,
            (Relation::Replicating, _) => FenceKind::Lsn,
            _ => FenceKind::None,
        },
    }
}

/// What is asked of these ends.
pub(crate) async fn request(pair: &Pair) -> Request {
    let mut found = Vec::new();
    for end in [&pair.primary, &pair.secondary] {
        let mut collections = end.catalog.as_ref().unwrap().collections().await.unwrap();
        assert_eq!(collections.len(), 1);
        found.push(collections.pop());
    }
    Request {
        run_id: "run-1".to_owned(),
        selected: vec![Selected {
            secondary: found.pop().unwrap(),
            primary: found.pop().unwrap(),
            settings: Settings::default(),
        }],
        not_selected: Vec::new(),
        disclosure: KeyDisclosure::Plain,
        key_hash: None,
        include_values: true,
        fork: None,
        limits: Limits {
            rows_per_chunk: 25,
            rounds_max: 40,
            ..Limits::default()
        },
    }
}

/// What has to be found: by key, or by contents where there are no keys.
pub(crate) fn truth(pair: &memory::Pair, kind: Kind, copies: &BTreeMap<i64, u64>) -> BTreeMap<i64, Class> {
    let value = |side, id: i64| match pair.row(side, "t", &Key::int(id))?["a"] {
        Value::Int(a) => Some(a),
        _ => None,
    };
    let mut counts: BTreeMap<i64, [u64; 2]> = BTreeMap::new();
    let mut truth = BTreeMap::new();
    for id in IDS {
        let copies = copies.get(&id).copied().unwrap_or(1);
        let (here, there) = (value(Side::Primary, id), value(Side::Secondary, id));
        if kind.is_keyless() {
            for (at, a, copies) in [(0, here, 1), (1, there, copies)] {
                if let Some(a) = a {
                    counts.entry(a).or_default()[at] += copies;
                }
            }
            continue;
        }
        let class = match (here, there) {
            (Some(_), Some(_)) if copies > 1 => Class::Duplicate,
            (Some(here), Some(there)) if here != there => Class::Different,
            (Some(_), None) => Class::MissingOnSecondary,
            (None, Some(_)) => Class::MissingOnPrimary,
            _ => continue,
        };
        truth.insert(id, class);
    }
    for (a, [here, there]) in counts {
        let class = match (here, there) {
            (here, there) if here == there => continue,
            (_, 0) => Class::MissingOnSecondary,
            (0, _) => Class::MissingOnPrimary,
            _ => Class::Duplicate,
        };
        truth.insert(a, class);
    }
    truth
}

/// The keys that tests use.
pub(crate) const IDS: std::ops::Range<i64> = -50..250;

/// What was confirmed, in the terms of [`truth`].
pub(crate) fn found(outcome: &Outcome, kind: Kind) -> BTreeMap<i64, Class> {
    if !kind.is_keyless() {
        return outcome.confirmed();
    }
    let confirmed = outcome.divergences().filter(|one| one.state == State::Confirmed);
    let contents = confirmed.map(|one| {
        let key = one.key.as_deref().unwrap();
        assert!(key.starts_with("{\"row_digest\":\""), "{key}");
        let value = one.primary_value.as_ref().or(one.secondary_value.as_ref()).unwrap();
        let value: serde_json::Value = serde_json::from_str(value).unwrap();
        (value["a"].as_str().unwrap().parse().unwrap(), one.class)
    });
    let all: Vec<_> = contents.collect();
    let by_contents: BTreeMap<i64, Class> = all.iter().copied().collect();
    assert_eq!(all.len(), by_contents.len(), "each once");
    by_contents
}
