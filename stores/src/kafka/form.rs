//! A canary as a record: the key is its stream, the value says the rest.
//!
//! Text, so that whoever meets one in a topic can read it: `driftline-canary 1 EPOCH SEQUENCE`, and behind it a stamp where there
//! is one. Headers are not used, since mirrors are
//! known to rewrite them.

use crate::Canary;

/// The first two words of every canary; the second is the version of the form.
const HEAD: &str = "driftline-canary 1 ";
/// As the contract of [`Canary`] says.
const STREAM_BYTES_MAX: usize = 100;
/// Hex digits of an epoch.
const EPOCH_DIGITS: usize = 32;

/// The value of `canary`'s record.
pub(crate) fn value(canary: &Canary) -> String {
    match canary.stamp {
        Some(stamp) => format!("{HEAD}{} {} {stamp}", canary.epoch, canary.sequence),
        None => format!("{HEAD}{} {}", canary.epoch, canary.sequence),
    }
}

/// The canary in a record. `None`: foreign or malformed.
pub(crate) fn parse(key: Option<&[u8]>, value: Option<&[u8]>) -> Option<Canary> {
    let stream = std::str::from_utf8(key?).ok()?;
    if stream.is_empty() || stream.len() > STREAM_BYTES_MAX || !stream.is_ascii() {
        return None;
    }
    let (epoch, sequence) = std::str::from_utf8(value?).ok()?.strip_prefix(HEAD)?.split_once(' ')?;
    let (sequence, stamp) = match sequence.split_once(' ') {
        Some((sequence, stamp)) => (sequence, Some(stamp.parse().ok()?)),
        None => (sequence, None),
    };
    let is_epoch = epoch.len() == EPOCH_DIGITS && epoch.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    let is_number = !sequence.starts_with(['0', '+']);
    if !is_epoch || !is_number {
        return None;
    }
    Some(Canary {
        stream: stream.to_owned(),
        epoch: epoch.to_owned(),
        sequence: sequence.parse().ok()?,
        stamp,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_and_nothing_else() {
        let canary = Canary {
            stream: "use1/events/0".to_owned(),
            epoch: "0a".repeat(16),
            sequence: u64::MAX,
            stamp: None,
        };
        let written = value(&canary);
        let read = |key: &str, value: &str| parse(Some(key.as_bytes()), Some(value.as_bytes()));
        assert_eq!(read(&canary.stream, &written), Some(canary.clone()));
        let epoch = &canary.epoch;
        for foreign in [
            "",
            "driftline-canary 1",
            &format!("driftline-canary 2 {epoch} 7"),
            &format!("driftline-canary 1 {epoch} 07"),
            &format!("driftline-canary 1 {epoch} +7"),
            &format!("driftline-canary 1 {epoch} -7"),
            &format!("driftline-canary 1 {epoch} 18446744073709551616"),
            &format!("driftline-canary 1 {epoch} 7 "),
            &format!("driftline-canary 1 {} 7", &epoch[1..]),
            &format!("driftline-canary 1 {} 7", epoch.to_uppercase()),
        ] {
            assert_eq!(read("s", foreign), None, "{foreign}");
        }
        assert_eq!(read("", &written), None);
        assert_eq!(read(&"s".repeat(101), &written), None);
        assert_eq!(parse(None, Some(written.as_bytes())), None);
        assert_eq!(parse(Some(b"s"), None), None, "a tombstone is no canary");
        assert_eq!(parse(Some(b"\xff"), Some(written.as_bytes())), None);
    }
}
