//! Disks that are full, and a standard output that nobody can write to.
//!
//! A limit on the size of files stands for the full disk: the write fails in the middle of a file, as it does there. Where this account may
//! mount one, there is a small disk, too.

use std::os::unix::fs::MetadataExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::Command;

use crate::faults::{in_mid_chunk, printed};
use crate::fixture::{DATABASE, Finished, Story, finish, parquet_files};
use crate::mid_run::claims_nothing_false;

const TABLES: &str = "create table public.orders (id bigint primary key, note text);
                      insert into public.orders select i, 'n' || i from generate_series(1, 5000) i";

/// Runs the binary where no file can grow beyond `blocks` of 512 bytes.
fn with_files_of(story: &Story, blocks: u32, args: &[&str]) -> Finished {
    let driftline = story.command(args);
    let script = format!("trap '' XFSZ; ulimit -f {blocks}; exec \"$@\"");
    let mut command = Command::new("sh");
    command
        .args(["-c", &script, "sh"])
        .arg(driftline.get_program())
        .args(driftline.get_args());
    for (name, value) in driftline.get_envs() {
        match value {
            Some(value) => command.env(name, value),
            None => command.env_remove(name),
        };
    }
    finish(&mut command)
}

/// Runs the binary with `/dev/full` as standard output.
fn unheard(story: &Story, args: &[&str]) -> Finished {
    let mut command = Command::new("sh");
    let driftline = story.command(args);
    command
        .args(["-c", "exec \"$@\" > /dev/full", "sh"])
        .arg(driftline.get_program())
        .args(driftline.get_args())
        .env("NO_COLOR", "1");
    finish(&mut command)
}

#[tokio::test(flavor = "multi_thread")]
async fn evidence_that_cannot_be_written_is_3_and_has_no_commit_mark() {
    let story = Story::start(TABLES).await;
    story.pair.promote().await.expect("promote");
    story
        .pair
        .standby()
        .execute(DATABASE, "update public.orders set note = 'x' where id % 3 = 0")
        .await
        .expect("change");
    // The journal of 1,666 divergences does not fit.
    let finished = with_files_of(&story, 64, &["reconcile", "run"]).expect(3);
    assert!(finished.stderr.contains("cannot be written"), "{}", finished.stderr);
    assert!(parquet_files(&story.path("out"), "runs").is_empty());
    assert!(parquet_files(&story.path("out"), "divergences").is_empty());

    // No folder can be made there.
    let finished = story.run(&["--output", "/dev/full", "reconcile", "run"]).expect(3);
    assert!(finished.stderr.contains("/dev/full"), "{}", finished.stderr);

    // The evidence is written and nobody hears of it: what was found is told by the code.
    let finished = unheard(&story, &["reconcile", "run"]).expect(1);
    assert!(finished.stderr.contains("standard output"), "{}", finished.stderr);
    assert_eq!(parquet_files(&story.path("out"), "runs").len(), 1);
    story
        .pair
        .standby()
        .execute(DATABASE, "update public.orders set note = 'n' || id")
        .await
        .expect("change back");
    story.run(&["reconcile", "run"]).expect(0);
    for args in [&["reconcile", "run"][..], &["check"], &["config", "print"], &["--help"]] {
        assert_eq!(unheard(&story, args).code, 3, "{args:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_ledger_or_output_that_cannot_be_written_ends_the_probe_with_3() {
    let story = Story::start(TABLES).await;
    let good = story.config();
    let ledger = format!("ledger = {{ path = \"{}\" }}", story.path("ledger").display());
    assert!(good.contains(&ledger));
    story.write_config(&good.replace(&ledger, "ledger = { path = \"/dev/full\" }"));
    let finished = story.run(&["probe", "--for", "2s"]).expect(3);
    assert!(finished.stderr.contains("/dev/full"), "{}", finished.stderr);
    story.write_config(&good);
    let finished = story.run(&["--output", "/dev/full", "probe", "--for", "2s"]).expect(3);
    assert!(finished.stderr.contains("/dev/full"), "{}", finished.stderr);

    // The ledger fills up in the middle of the run: the probe does not go on without a record.
    let (top, rest) = good.split_once("[site.a]").expect("the sites");
    story.write_config(&format!(
        "{top}[defaults]\nprobe = {{ rate = \"50/s\" }}\n[site.a]{rest}"
    ));
    let finished = with_files_of(&story, 24, &["probe"]).expect(3);
    assert!(finished.stderr.contains("ledger"), "{}", finished.stderr);
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_that_cannot_be_kept_until_the_other_side_is_read_are_3() {
    let story = Story::start(
        "create table public.log (note text); insert into public.log select 'n' || i from generate_series(1, 20000) i",
    )
    .await;
    let finished = with_files_of(&story, 64, &["reconcile", "run"]).expect(3);
    assert!(finished.stderr.contains("cannot be written"), "{}", finished.stderr);
    assert!(parquet_files(&story.path("out"), "runs").is_empty());
    story.run(&["reconcile", "run"]).expect(0);
}

/// No process of the primary, and none to come, can write behind the first megabyte of a file.
async fn fill_disk(story: &Story) {
    let primary = story.pair.primary();
    let backends = primary
        .value("postgres", "select string_agg(pid::text, ' ') from pg_stat_activity")
        .await
        .expect("ask for processes")
        .expect("processes");
    let postmaster = std::fs::read_to_string(primary.data_dir().join("postmaster.pid")).expect("read the lock file");
    // As their own account: root may have no right to in a container.
    let account = std::fs::metadata(primary.data_dir()).expect("look at the data");
    for pid in postmaster.lines().take(1).chain(backends.split(' ')) {
        let limited = finish(
            Command::new("prlimit")
                .args(["--pid", pid, "--fsize=1048576"])
                .uid(account.uid())
                .gid(account.gid()),
        );
        // The session that listed them is gone already.
        assert!(
            limited.code == 0 || limited.stderr.contains("No such process"),
            "{limited:?}"
        );
    }
    let write = "select pg_logical_emit_message(false, 'lab', repeat('x', 4000000)); select pg_switch_wal(); \
                 select pg_logical_emit_message(false, 'lab', repeat('x', 4000000)); select pg_switch_wal()";
    let refused = primary.execute("postgres", write).await;
    assert!(refused.is_err(), "its disk is not full");
}

/// The log of a primary cannot grow: it goes down, as PostgreSQL does then.
#[tokio::test(flavor = "multi_thread")]
async fn a_primary_whose_disk_is_full_in_mid_run_is_never_equal_nor_different() {
    let story = Story::start(
        "create table public.orders (id bigint primary key, note text);
         insert into public.orders select i, repeat('n', 200) || i from generate_series(1, 20000) i",
    )
    .await;
    let running = in_mid_chunk(&story, "filled").await;
    fill_disk(&story).await;
    story.pair.resume_replay().await.expect("resume replay");
    let code = running.end().code();
    let result = printed(&story, "filled");
    assert_eq!(code, Some(3), "{result}");
    claims_nothing_false(code, &result);

    // Before anything is planned, too; and with room again the whole is compared.
    story.run(&["reconcile", "run"]).expect(3);
    let primary = story.pair.primary();
    primary.kill9().await.expect("end what is left of it");
    primary.start_again().await.expect("start with room");
    story
        .pair
        .wait_replayed(std::time::Duration::from_secs(60))
        .await
        .expect("catch up");
    story.run(&["reconcile", "run"]).expect(0);
}

/// A file system in memory that holds no more than so much. It goes away with this.
struct Disk(tempfile::TempDir);

impl Disk {
    /// `None`: this account may not mount anything here.
    fn mount(kilobytes: u32) -> Option<Self> {
        let folder = tempfile::tempdir().expect("make a folder");
        let size = format!("size={kilobytes}k,mode=0700");
        let mounted = finish(
            Command::new("mount")
                .args(["-t", "tmpfs", "-o", &size, "tmpfs"])
                .arg(folder.path()),
        );
        (mounted.code == 0).then_some(Self(folder))
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    /// Takes all room that is left.
    fn fill(&self) {
        let filler = std::fs::File::create(self.path().join("filler")).expect("make a file");
        let chunk = [0; 4096];
        while std::io::Write::write(&mut &filler, &chunk).is_ok_and(|written| written > 0) {}
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _unmounted = Command::new("umount").arg(self.path()).status();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_output_that_fills_up_in_mid_run_has_no_commit_mark() {
    let story = Story::start(TABLES).await;
    // Elsewhere the limit on the size of files, above, stands for it.
    let Some(disk) = Disk::mount(4_096) else { return };
    let out = story.path("out").display().to_string();
    let config = story.config();
    assert!(config.contains(&out));
    story.write_config(&config.replace(&out, &disk.path().display().to_string()));
    let running = in_mid_chunk(&story, "full").await;
    disk.fill();
    story.pair.resume_replay().await.expect("resume replay");
    let log = story.path("full.log");
    running.expect(3);
    let log = std::fs::read_to_string(log).expect("read the log");
    assert!(
        log.contains("cannot be written") || log.contains("No space left"),
        "{log}"
    );
    assert!(parquet_files(disk.path(), "runs").is_empty(), "{log}");
    std::fs::remove_file(disk.path().join("filler")).expect("make room");
    story.run(&["reconcile", "run"]).expect(0);
    assert_eq!(parquet_files(disk.path(), "runs").len(), 1);

    // Not even the plan can be written.
    disk.fill();
    story.run(&["reconcile", "run"]).expect(3);
    assert_eq!(parquet_files(disk.path(), "runs").len(), 1);
}
