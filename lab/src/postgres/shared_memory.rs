//! The one thing of a killed server that no folder holds: its System V shared memory segment.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

/// Removes the segments of servers below `folder` that were killed and not started again. A server that stops in order
/// has removed its own, and its `postmaster.pid` with it. Call it only when none of them runs.
pub(crate) fn release(folder: &Path) {
    let servers = fs::read_dir(folder).into_iter().flatten().flatten();
    for server in servers {
        let Some(segment) = segment_of(&server.path()) else {
            continue;
        };
        let removed = Command::new("ipcrm")
            .args(["-m", &segment.to_string()])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status();
        if !removed.is_ok_and(|status| status.success()) {
            tracing::debug!(segment, "a shared memory segment of 56 bytes is left");
        }
    }
}

/// Line 7 of `postmaster.pid` holds key and number of the segment.
fn segment_of(data_dir: &Path) -> Option<u32> {
    let text = fs::read_to_string(data_dir.join("postmaster.pid")).ok()?;
    text.lines().nth(6)?.split_whitespace().nth(1)?.parse().ok()
}
