//! Contracts of `CanaryWriter` and `CanaryReader`.

use super::{Fixture, Held, answer, hold};
use crate::{AckedBefore, Canary, CanaryReader, CanaryWriter, Role, Sought, Stamp, WriteOutcome};

const STREAM: &str = "conformance";

fn canary(epoch: char, sequence: u64) -> Canary {
    Canary {
        stream: STREAM.to_owned(),
        epoch: epoch.to_string().repeat(32),
        sequence,
        stamp: None,
    }
}

async fn acknowledged(writer: &dyn CanaryWriter, canary: &Canary) -> Held {
    let outcome = writer.write(canary).await;
    hold(matches!(outcome, WriteOutcome::Acknowledged), || {
        format!("canary {}: {outcome:?}", canary.sequence)
    })
}

async fn shown(reader: &dyn CanaryReader) -> Held<Vec<Canary>> {
    let mut canaries = answer("poll", reader.poll(STREAM, Sought::All).await)?.canaries;
    canaries.sort_by_key(|canary| canary.sequence);
    Ok(canaries)
}

pub(super) async fn canaries(fixture: &dyn Fixture) -> Held {
    let (primary, secondary) = (fixture.primary(), fixture.secondary());
    let (Some(writer), Some(here), Some(there)) =
        (&primary.canary_writer, &primary.canary_reader, &secondary.canary_reader)
    else {
        return Ok(());
    };
    let slots = writer.ring_slots();
    hold(slots > 0, || "a ring without slots".to_owned())?;
    hold(answer("highest", writer.highest_sequence(STREAM).await)? == 0, || {
        "a stream that was never written has a sequence".to_owned()
    })?;
    acknowledged(writer.as_ref(), &canary('a', 1)).await?;
    acknowledged(writer.as_ref(), &canary('a', 2)).await?;
    hold(answer("highest", writer.highest_sequence(STREAM).await)? == 2, || {
        "the highest sequence is not the one written last".to_owned()
    })?;
    let both = vec![canary('a', 1), canary('a', 2)];
    let seen = shown(here.as_ref()).await?;
    hold(seen == both, || format!("acknowledged, and the primary shows {seen:?}"))?;
    fixture.settle().await;
    let seen = shown(there.as_ref()).await?;
    hold(seen == both, || format!("settled, and the secondary shows {seen:?}"))?;
    let others = answer("poll", there.poll("conformance-other", Sought::All).await)?;
    hold(others.canaries.is_empty(), || {
        "one stream shows another's canaries".to_owned()
    })?;
    let again = answer("poll", there.poll(STREAM, Sought::All).await)?;
    hold(!others.instance.is_empty() && again.instance == others.instance, || {
        format!("one instance answers as {} and {}", others.instance, again.instance)
    })?;
    let stamped = Canary {
        stamp: Some(Stamp {
            sent_at_us: 1_795_251_600_000_000,
            error_us: 363,
            before: Some(AckedBefore {
                sequence: 2,
                acked_at_us: 1_795_251_599_000_001,
            }),
        }),
        ..canary('a', 3)
    };
    acknowledged(writer.as_ref(), &stamped).await?;
    fixture.settle().await;
    let seen = shown(there.as_ref()).await?;
    hold(seen.last() == Some(&stamped), || {
        format!("a stamp does not travel with its canary: {seen:?}")
    })?;
    guarded(fixture, writer.as_ref(), here.as_ref(), slots).await?;
    stalled(fixture, writer.as_ref(), there.as_ref(), slots).await?;
    let Some(writer) = &secondary.canary_writer else {
        return Ok(());
    };
    // Where every copy takes writes, it is the probe that keeps to the stated writers.
    if answer("identity", secondary.identify.identity().await)?.role == Role::Writable {
        return Ok(());
    }
    let outcome = writer.write(&canary('b', 3 * slots + 3)).await;
    hold(matches!(outcome, WriteOutcome::Failed(_)), || {
        format!("a secondary in its role answers a write with {outcome:?}")
    })
}

/// A slot never goes back.
async fn guarded(fixture: &dyn Fixture, writer: &dyn CanaryWriter, here: &dyn CanaryReader, slots: u64) -> Held {
    let newer = canary('b', 1 + slots);
    acknowledged(writer, &newer).await?;
    let late = writer.write(&canary('a', 1)).await;
    hold(matches!(late, WriteOutcome::Failed(_)), || {
        format!("an older canary for a newer one's slot: {late:?}")
    })?;
    let seen = shown(here).await?;
    let slot: Vec<&Canary> = seen
        .iter()
        .filter(|canary| canary.sequence % slots == 1 % slots)
        .collect();
    hold(slot == [&newer], || format!("the slot shows {slot:?}"))?;
    fixture.settle().await;
    Ok(())
}

/// Acknowledged is not visible at the secondary, and in time it becomes so.
async fn stalled(fixture: &dyn Fixture, writer: &dyn CanaryWriter, there: &dyn CanaryReader, slots: u64) -> Held {
    fixture.stall().await;
    let hidden = canary('b', 2 + slots);
    let written = acknowledged(writer, &hidden).await;
    let before = shown(there).await;
    fixture.resume().await;
    written?;
    hold(!before?.contains(&hidden), || {
        "a stalled secondary shows a later canary".to_owned()
    })?;
    fixture.settle().await;
    hold(shown(there).await?.contains(&hidden), || {
        "settled, and the canary does not show".to_owned()
    })
}
