//! `driftline demo`: the whole story on servers of its own, with a truth to check it against.
//!
//! Every step calls what the command of the same name calls; only the outage, the writes and the narration are the demo's.

mod running;
mod story;
mod teller;
mod truth;

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};

use super::lab::{NEW_SITE, OLD_SITE, Stage};
use crate::cli::DemoArgs;
use crate::exit::{Exit, Failure, Outcome};
use crate::stop;

/// How long lag is measured before anything happens.
const STEADY: Duration = Duration::from_secs(12);
/// How long the old primary writes on without its standby.
const CUT: Duration = Duration::from_secs(4);
/// How long the promoted server takes writes before the probe is stopped.
const AFTERWARDS: Duration = Duration::from_secs(2);
/// The file by which a later demo knows that a folder may be emptied.
const MARK: &str = ".driftline-demo";

pub(super) async fn run(args: &DemoArgs) -> Outcome {
    let stop = stop::on_signal()
        .context("listen for signals")
        .map_err(Failure::cannot_tell)?;
    empty(&args.folder).map_err(Failure::refused)?;
    let begun = Instant::now();
    let played = tokio::select! {
        played = story::play(&args.folder, begun) => played,
        // Dropping the story stops its servers and removes them.
        () = stop.cancelled() => Err(Failure::cannot_tell(anyhow::anyhow!("stopped before the end of the story"))),
    };
    played
}

/// Makes the folder, or empties it if an earlier demo made it.
fn empty(folder: &Path) -> Result<()> {
    if folder.exists() {
        let is_ours = folder.join(MARK).exists() || folder.read_dir().is_ok_and(|mut entries| entries.next().is_none());
        ensure!(
            is_ours,
            "{} is not empty and no demo made it; name another with --folder",
            folder.display()
        );
        std::fs::remove_dir_all(folder).with_context(|| format!("empty {}", folder.display()))?;
    }
    std::fs::create_dir_all(folder).with_context(|| format!("make {}", folder.display()))?;
    std::fs::write(folder.join(MARK), "").with_context(|| format!("write in {}", folder.display()))
}
