//! Disks that are full, and a standard output that nobody can write to.
//!
//! A limit on the size of files stands for the full disk: the write fails in the middle of a file, as it does there.

use std::process::Command;

use crate::fixture::{DATABASE, Finished, Story, finish, parquet_files};

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
