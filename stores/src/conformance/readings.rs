//! Contracts of `Reread`, `Compare` and `Fence`.

use std::time::Duration;

use super::{Bench, Fixture, Held, answer, fill, hold};
use crate::{Class, Comparison, KEYS_PER_READ_MAX, Key, ReadRequest, Reading, Readings, Row};

/// Patience for what must come.
const LONG: Duration = Duration::from_secs(20);
/// Patience for what must not come.
const SHORT: Duration = Duration::from_millis(200);

impl Bench {
    /// `None`: the store cannot read single keys.
    pub(super) async fn read(&self, side: usize, keys: &[Key], values: bool) -> Held<Option<Readings>> {
        let Some(reread) = self.reread() else {
            return Ok(None);
        };
        let request = ReadRequest {
            collection: &self.collections[side],
            recipe: &self.recipe,
            keys,
            values,
            changed_at: None,
        };
        answer("read", reread[side].read(&request).await).map(Some)
    }

    fn body(&self) -> usize {
        self.columns.iter().position(|name| name == "body").unwrap_or(0)
    }
}

pub(super) fn row(reading: Option<&Reading>) -> Held<&Row> {
    match reading {
        Some(Reading::Present(row)) => Ok(row),
        other => Err(format!("a row that exists is read as {other:?}")),
    }
}

pub(super) async fn reread(fixture: &dyn Fixture) -> Held {
    fill(fixture).await;
    let Some(bench) = Bench::new(fixture).await? else {
        return Ok(());
    };
    let keys = [fixture.key(5), fixture.key(9_999), fixture.key(3), fixture.key(1)];
    let listed = bench.rows(0).await?;
    for side in 0..2 {
        let Some(read) = bench.read(side, &keys, true).await? else {
            return Ok(());
        };
        hold(read.rows.len() == keys.len(), || {
            format!("{} readings of {} keys", read.rows.len(), keys.len())
        })?;
        hold(read.rows[1] == Reading::Absent, || {
            format!("an absent key is read as {:?}", read.rows[1])
        })?;
        for index in [0, 2, 3] {
            let row = row(read.rows.get(index))?;
            let digest = listed
                .iter()
                .find(|(key, _)| *key == keys[index])
                .map(|(_, digest)| *digest);
            hold(Some(row.digest) == digest, || {
                format!("{:?}: read and listed digests differ", keys[index])
            })?;
            let lengths = [row.columns.len(), row.values.as_ref().map_or(0, Vec::len)];
            hold(lengths == [bench.columns.len(); 2] && row.copies == 1, || {
                format!("{row:?} has the wrong shape")
            })?;
        }
        let (text, null) = (row(read.rows.first())?, row(read.rows.get(2))?);
        let body = bench.body();
        hold(null.columns[body].is_none() && text.columns[body].is_some(), || {
            "NULL and a text are not told apart in a reading".to_owned()
        })?;
        let value = |row: &Row| row.values.as_ref().and_then(|values| values[body].clone());
        hold(
            value(text).as_deref() == Some("body 5") && value(null).is_none(),
            || "the values that were asked for are not those that were written".to_owned(),
        )?;
        let identity = answer("identity", bench.ends[side].identify.identity().await)?;
        hold(read.instance == identity.instance, || {
            format!("read from {}, connected to {}", read.instance, identity.instance)
        })?;
        quiet_read(&bench, side, &keys).await?;
    }
    versions(fixture, &bench).await
}

/// Nothing asked, nothing told.
async fn quiet_read(bench: &Bench, side: usize, keys: &[Key]) -> Held {
    let (Some(none), Some(plain)) = (
        bench.read(side, &[], false).await?,
        bench.read(side, keys, false).await?,
    ) else {
        return Ok(());
    };
    hold(none.rows.is_empty(), || {
        "no key asked for, and something read".to_owned()
    })?;
    let told = |reading: &Reading| matches!(reading, Reading::Present(row) if row.values.is_some());
    hold(!plain.rows.iter().any(told), || {
        "values are told that nobody asked for".to_owned()
    })
}

async fn versions(fixture: &dyn Fixture, bench: &Bench) -> Held {
    let keys = [fixture.key(5)];
    let mut versions = Vec::new();
    for write in [false, false, true] {
        if write {
            fixture.put(&[(5, Some("body 5"))]).await; // the same contents: still a write
        }
        if let Some(read) = bench.read(0, &keys, false).await? {
            versions.push(row(read.rows.first())?.version.clone());
        }
    }
    fixture.put(&[(5, Some("body of another version"))]).await;
    if let Some(read) = bench.read(0, &keys, false).await? {
        versions.push(row(read.rows.first())?.version.clone());
    }
    fill(fixture).await;
    let [first, second, third, fourth] = &versions[..] else {
        return Ok(());
    };
    hold(first == second, || {
        format!("a row that nobody wrote is of versions {first} and {second}")
    })?;
    hold(second != third || !fixture.tells_versions(), || {
        "a write leaves the version as it was".to_owned()
    })?;
    hold(third != fourth, || "a change leaves the version as it was".to_owned())?;
    let numbers = 1_000_000..;
    let many: Vec<Key> = numbers
        .take(KEYS_PER_READ_MAX)
        .map(|number| fixture.key(number))
        .collect();
    if let Some(read) = bench.read(0, &many, false).await? {
        hold(read.rows.iter().all(|reading| *reading == Reading::Absent), || {
            "rows out of nowhere".to_owned()
        })?;
        hold(read.rows.len() == many.len(), || {
            format!("{} of {} keys read", read.rows.len(), many.len())
        })?;
    }
    Ok(())
}

pub(super) async fn compare(fixture: &dyn Fixture) -> Held {
    fill(fixture).await;
    let Some(bench) = Bench::new(fixture).await? else {
        return Ok(());
    };
    let keys = [fixture.key(5), fixture.key(3), fixture.key(9_999)];
    let (Some(here), Some(there)) = (bench.read(0, &keys, false).await?, bench.read(1, &keys, false).await?) else {
        return Ok(());
    };
    let Some(compare) = &bench.ends[0].compare else {
        return Err("readings without a way to compare them".to_owned());
    };
    let differs = |class: Class, columns: &[&str], seen: &Comparison| match seen {
        Comparison::Differs {
            class: found,
            columns: named,
            ..
        } if *found == class && named == columns => Ok(()),
        other => Err(format!("expected {class:?} in {columns:?}, got {other:?}")),
    };
    for index in 0..keys.len() {
        let seen = compare.compare(&here.rows[index], &there.rows[index], &bench.columns);
        hold(seen == Comparison::Equal, || format!("equal rows compare as {seen:?}"))?;
        let guard = compare.guard(&here, &there, &here, index);
        hold(guard.is_ok(), || {
            format!("nothing is in flight, and the guard says {guard:?}")
        })?;
    }
    let absent = &here.rows[2];
    let seen = compare.compare(&here.rows[0], absent, &bench.columns);
    differs(Class::MissingOnSecondary, &[], &seen)?;
    let seen = compare.compare(absent, &there.rows[0], &bench.columns);
    differs(Class::MissingOnPrimary, &[], &seen)?;
    let Reading::Present(mut twice) = here.rows[0].clone() else {
        return Err("a row that exists is absent".to_owned());
    };
    twice.copies = 2;
    let seen = compare.compare(&Reading::Present(twice), &there.rows[0], &bench.columns);
    differs(Class::Duplicate, &[], &seen)?;
    for (body, number) in [(None, 5), (Some("NULL"), 3), (Some("other"), 5)] {
        fixture.put(&[(number, body)]).await;
        let keys = [fixture.key(number)];
        if let Some(changed) = bench.read(0, &keys, false).await? {
            let before = if number == 5 { &there.rows[0] } else { &there.rows[1] };
            let seen = compare.compare(&changed.rows[0], before, &bench.columns);
            differs(Class::Different, &["body"], &seen)?;
        }
    }
    fill(fixture).await;
    Ok(())
}

pub(super) async fn fence(fixture: &dyn Fixture) -> Held {
    fill(fixture).await;
    let (Some(bench), Some(here), Some(there)) = (
        Bench::new(fixture).await?,
        fixture.primary().fence,
        fixture.secondary().fence,
    ) else {
        return Ok(());
    };
    let keys = [fixture.key(7_000)];
    let old = answer("point", here.point().await)?;
    fixture.settle().await;
    hold(answer("wait", there.wait(old, LONG).await)?, || {
        "a point that is past is not passed".to_owned()
    })?;
    fixture.stall().await;
    fixture.put(&[(7_000, Some("fenced"))]).await;
    let point = answer("point", here.point().await)?;
    let stalled = async {
        hold(point >= old, || {
            format!("{point:?} comes after {old:?} and is before it")
        })?;
        hold(!answer("wait", there.wait(point, SHORT).await)?, || {
            "a stalled secondary has passed a later point".to_owned()
        })?;
        let Some(read) = bench.read(1, &keys, false).await? else {
            return Ok(());
        };
        hold(read.rows[0] == Reading::Absent, || {
            "a stalled secondary shows a later row".to_owned()
        })?;
        hold(read.position.is_some_and(|position| position < point), || {
            format!("the reading lacks the row and claims {:?} of {point:?}", read.position)
        })
    }
    .await;
    fixture.resume().await;
    stalled?;
    hold(answer("wait", there.wait(point, LONG).await)?, || {
        "the fence is not passed in time".to_owned()
    })?;
    if let Some(read) = bench.read(1, &keys, false).await? {
        hold(read.position.is_some_and(|position| position >= point), || {
            format!(
                "the fence is passed, and a later reading claims {:?} of {point:?}",
                read.position
            )
        })?;
        hold(matches!(read.rows[0], Reading::Present(_)), || {
            "the fence is passed, and what was written before is not read".to_owned()
        })?;
    }
    fixture.delete(&[7_000]).await;
    fixture.settle().await;
    Ok(())
}
