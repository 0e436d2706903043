//! Nothing is left behind, however a lab ends.

use std::collections::BTreeSet;
use std::fs;
use std::io::{BufRead as _, BufReader};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use lab::{PgOptions, PgPair, PgServer};

use crate::support::PATIENCE;

/// A root of the test's own, so that the next start there is the test's own too. The servers' account must pass.
fn root() -> tempfile::TempDir {
    let root = tempfile::tempdir().unwrap();
    fs::set_permissions(root.path(), fs::Permissions::from_mode(0o711)).unwrap();
    root
}

fn options(root: &Path) -> PgOptions {
    PgOptions {
        root: Some(root.to_owned()),
        ..PgOptions::default()
    }
}

/// Everything under `root` but the folder of labs, its register and the file that takes turns.
fn left_in(root: &Path) -> Vec<PathBuf> {
    let mut left = Vec::new();
    let mut folders = vec![root.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            if name.starts_with("driftline-lab-") || name == "register" {
                folders.push(path);
            } else if name != "turn" {
                left.push(path);
            }
        }
    }
    left
}

/// Data folders below `root` that processes work on. A server and a child that it has just forked are one.
fn running_in(root: &Path) -> BTreeSet<PathBuf> {
    fs::read_dir("/proc")
        .unwrap()
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .filter_map(|pid| fs::read_to_string(format!("/proc/{pid}/cmdline")).ok())
        .filter_map(|line| {
            let mut words = line.split('\0').skip_while(|word| *word != "-D");
            words.nth(1).map(PathBuf::from)
        })
        .filter(|folder| folder.starts_with(root))
        .collect()
}

fn wait_gone(root: &Path) {
    let deadline = Instant::now() + PATIENCE;
    while !running_in(root).is_empty() {
        assert!(Instant::now() < deadline, "still running: {:?}", running_in(root));
        std::thread::yield_now();
    }
}

#[tokio::test]
async fn dropping_a_pair_leaves_no_process_and_no_file() {
    let root = root();
    let pair = PgPair::start(options(root.path())).await.unwrap();
    assert_eq!(running_in(root.path()).len(), 2, "two postmasters run");
    assert_eq!(left_in(root.path()).len(), 2, "a folder and its record");
    drop(pair);
    assert_eq!(running_in(root.path()), BTreeSet::new());
    assert_eq!(left_in(root.path()), Vec::<PathBuf>::new());
}

#[tokio::test]
async fn a_panic_leaves_no_process_and_no_file() {
    let root = root();
    let path = root.path().to_owned();
    let failed = tokio::spawn(async move {
        let server = PgServer::start(options(&path)).await.unwrap();
        assert!(!server.is_running(), "a test that fails");
    })
    .await;
    assert!(failed.unwrap_err().is_panic());
    assert_eq!(running_in(root.path()), BTreeSet::new());
    assert_eq!(left_in(root.path()), Vec::<PathBuf>::new());
}

#[tokio::test]
async fn a_start_that_is_given_up_leaves_no_process_and_no_file() {
    let root = root();
    for wait_ms in [1, 300, 900, 1200] {
        let start = PgPair::start(options(root.path()));
        // Given up somewhere on its way; what runs on another thread may take a moment to notice.
        let _given_up = tokio::time::timeout(Duration::from_millis(wait_ms), start).await;
    }
    let deadline = Instant::now() + PATIENCE;
    while !left_in(root.path()).is_empty() || !running_in(root.path()).is_empty() {
        assert!(Instant::now() < deadline, "{:?}", left_in(root.path()));
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[test]
fn a_start_that_only_begins_when_its_handle_is_gone_leaves_nothing() {
    let root = root();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(1)
        .build()
        .unwrap();
    let (let_go, held) = std::sync::mpsc::channel::<()>();
    runtime.block_on(async {
        let server = PgServer::start(options(root.path())).await.unwrap();
        server.stop().await.unwrap();
        // The only thread for blocking work is busy, so the start waits behind it until after the drop.
        let busy = tokio::task::spawn_blocking(move || held.recv());
        let _given_up = tokio::time::timeout(Duration::from_millis(1), server.start_again()).await;
        drop(server);
        let_go.send(()).unwrap();
        busy.await.unwrap().unwrap();
        tokio::task::spawn_blocking(|| ()).await.unwrap();
    });
    assert_eq!(running_in(root.path()), BTreeSet::new());
    assert_eq!(left_in(root.path()), Vec::<PathBuf>::new());
}

#[tokio::test]
async fn a_server_that_was_killed_leaves_no_shared_memory() {
    let root = root();
    let server = PgServer::start(options(root.path())).await.unwrap();
    let pid_file = fs::read_to_string(server.data_dir().join("postmaster.pid")).unwrap();
    let segment = pid_file
        .lines()
        .nth(6)
        .unwrap()
        .split_whitespace()
        .nth(1)
        .unwrap()
        .to_owned();
    let exists = || {
        let segments = fs::read_to_string("/proc/sysvipc/shm").unwrap();
        segments
            .lines()
            .any(|line| line.split_whitespace().nth(1) == Some(segment.as_str()))
    };
    assert!(exists());
    server.kill9().await.unwrap();
    drop(server);
    assert!(!exists());
}

const VICTIM: &str = "DRIFTLINE_LAB_TEST_VICTIM";

/// Runs twice: as the test, and as the process that the test kills, which is this program again.
#[tokio::test]
async fn what_a_kill_9_left_is_removed_by_the_next_start() {
    if let Some(root) = std::env::var_os(VICTIM) {
        let pair = PgPair::start(options(Path::new(&root))).await.unwrap();
        fs::write(Path::new(&root).join("ready"), pair.primary().name()).unwrap();
        // It is killed here; if the test is, the end of its input ends it.
        let _ended = tokio::task::spawn_blocking(|| BufReader::new(std::io::stdin()).lines().next()).await;
        return;
    }
    let root = root();
    let mut victim = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "removal::what_a_kill_9_left_is_removed_by_the_next_start"])
        .env(VICTIM, root.path())
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let deadline = Instant::now() + PATIENCE;
    while !root.path().join("ready").exists() {
        assert!(Instant::now() < deadline, "the victim never got ready");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    // A lab of somebody who lives is left alone.
    let neighbour = PgServer::start(options(root.path())).await.unwrap();
    assert_eq!(running_in(root.path()).len(), 3);
    victim.kill().unwrap();
    victim.wait().unwrap();
    fs::remove_file(root.path().join("ready")).unwrap();
    assert_eq!(
        running_in(root.path()).len(),
        3,
        "servers outlive a kill -9 of their owner"
    );
    assert_eq!(left_in(root.path()).len(), 4);

    let next = PgServer::start(options(root.path())).await.unwrap();
    assert_eq!(
        running_in(root.path()).len(),
        2,
        "the victim's two are gone, the neighbour's and the new one run"
    );
    assert_eq!(left_in(root.path()).len(), 4);
    assert!(neighbour.is_running());
    neighbour.execute("postgres", "select 1").await.unwrap();
    drop((next, neighbour));
    wait_gone(root.path());
    assert_eq!(left_in(root.path()), Vec::<PathBuf>::new());
}

#[tokio::test]
async fn a_folder_that_others_can_write_is_refused() {
    let root = root();
    drop(PgServer::start(options(root.path())).await.unwrap());
    let all = fs::read_dir(root.path()).unwrap().next().unwrap().unwrap().path();
    fs::set_permissions(&all, fs::Permissions::from_mode(0o777)).unwrap();
    let error = PgServer::start(options(root.path())).await.unwrap_err().to_string();
    assert!(error.contains("can be written by others"), "{error}");
}
