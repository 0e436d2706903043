//! `driftline lab up` in a process of its own, so that the stand-ins cost the process that is measured nothing.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// From the start of the process until all stores run.
const PATIENCE: Duration = Duration::from_secs(120);
/// Between two looks.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// The binary that is measured: `benches/run.sh` names one that is built for shipping.
pub(crate) fn binary() -> PathBuf {
    let named = std::env::var_os("DRIFTLINE_BENCH_BINARY");
    named.map_or_else(|| env!("CARGO_BIN_EXE_driftline").into(), PathBuf::from)
}

/// A command of it.
pub(crate) fn driftline() -> Command {
    let mut command = Command::new(binary());
    for name in ["RUST_LOG", "DRIFTLINE_CONFIG", "DRIFTLINE_SITE"] {
        command.env_remove(name);
    }
    command.env("NO_COLOR", "1");
    command
}

/// A lab that runs. It is killed when this is dropped.
#[derive(Debug)]
pub(crate) struct LabUp {
    child: tokio::process::Child,
    folder: PathBuf,
}

impl LabUp {
    /// Starts one whose tables hold few rows: a probe looks at its canaries only.
    pub(crate) async fn start(folder: &Path) -> anyhow::Result<Self> {
        let said = folder.join("lab.out");
        let file = |path: &Path| std::fs::File::create(path).with_context(|| format!("make {}", path.display()));
        let mut command = tokio::process::Command::from(driftline());
        command
            .args(["lab", "up", "--rows", "1000", "--folder"])
            .arg(folder.join("lab"))
            .stdin(Stdio::null())
            .stdout(file(&said)?)
            .stderr(file(&folder.join("lab.err"))?)
            .kill_on_drop(true);
        let mut child = command.spawn().context("start the lab")?;
        let deadline = Instant::now() + PATIENCE;
        while !std::fs::read_to_string(&said)?.contains("Running until Ctrl-C") {
            let ended = child.try_wait().context("look at the lab")?;
            anyhow::ensure!(
                ended.is_none() && Instant::now() < deadline,
                "the lab did not start: {ended:?}; it said {}",
                std::fs::read_to_string(folder.join("lab.err"))?
            );
            tokio::time::sleep(LOOK_EVERY).await;
        }
        Ok(Self {
            child,
            folder: folder.join("lab"),
        })
    }

    /// Where its configuration and the secrets are.
    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    /// The configuration that it wrote.
    pub(crate) fn config(&self) -> anyhow::Result<String> {
        std::fs::read_to_string(self.folder.join("driftline.toml")).context("read the configuration of the lab")
    }

    /// Ends it in order: its servers go with it.
    pub(crate) async fn stop(mut self) -> anyhow::Result<()> {
        let pid = self.child.id().context("the lab has ended by itself")?;
        kill(Pid::from_raw(i32::try_from(pid)?), Signal::SIGTERM).context("end the lab")?;
        self.child.wait().await.context("wait for the lab")?;
        Ok(())
    }
}
