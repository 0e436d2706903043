//! Exit codes are part of the contract: one table, walked through in the order of an incident.

use crate::fixture::{DATABASE, Story, driftline, finish};

const TABLES: &str = "create table public.orders (id bigint primary key, note text);
                      insert into public.orders select i, 'n' || i from generate_series(1, 200) i";

/// What is the case, what a person types, and the code.
type Row<'a> = (&'a str, &'a [&'a str], i32);

fn walk(story: &Story, rows: &[Row<'_>]) {
    let mut wrong = Vec::new();
    for (case, args, code) in rows {
        let finished = story.run(args);
        if finished.code != *code {
            wrong.push(format!("{case}: {args:?} ended with {finished:?} instead of {code}"));
        }
        // Whoever is told that it did not work is told why, on standard error or in the result.
        let is_silent = finished.stderr.is_empty() && finished.stdout.is_empty();
        if *code != 0 && is_silent {
            wrong.push(format!("{case}: {args:?} says nothing"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn without_a_configuration() {
    let folder = tempfile::tempdir().expect("make a folder");
    for (args, code) in [
        (&["--help"][..], 0),
        (&["--version"], 0),
        (&["reconcile", "run", "--help"], 0),
        (&[], 2),
        (&["recncile"], 2),
        (&["probe", "--for", "60"], 2),
        (&["event", "start", "failover", "--from", "a"], 2),
        (&["check"], 2),
        (&["reconcile", "run"], 2),
        (&["probe"], 2),
    ] {
        let finished = finish(driftline().current_dir(folder.path()).args(args));
        assert_eq!(finished.code, code, "{args:?}: {finished:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn through_an_incident() {
    let story = Story::start(TABLES).await;
    const RECONCILE: &[&str] = &["reconcile", "run"];
    walk(
        &story,
        &[
            ("a good configuration", &["config", "print"], 0),
            ("a healthy pair", &["check"], 0),
            ("a healthy pair", RECONCILE, 0),
            ("every canary arrives", &["probe", "--for", "1s"], 0),
            ("no such dataset", &["reconcile", "run", "--dataset", "shoop"], 2),
            ("no such site", &["--writers", "c", "reconcile", "run"], 2),
            ("no such connection", &["--writers", "dbb=a", "check"], 2),
            (
                "the stated writer is a standby",
                &["--writers", "b", "reconcile", "run"],
                2,
            ),
            ("no such event", &["reconcile", "run", "--event", "latest"], 2),
            ("no such event", &["rpo"], 2),
            ("no such event", &["event", "end"], 2),
            ("no such policy", &["gate", "run", "no-such-policy"], 2),
            ("too little evidence", &["gate", "run", "ninety-day"], 3),
            (
                "an event is declared",
                &["event", "start", "failover", "--from", "a", "--to", "b"],
                0,
            ),
            (
                "no such site",
                &["event", "start", "failover", "--from", "a", "--to", "c"],
                2,
            ),
            ("nothing was promoted", &["event", "mark", "promoted"], 3),
            ("no fork was read", &["reconcile", "run", "--event", "latest"], 3),
        ],
    );

    let good = story.config();
    story.write_config(&good.replace("public.*", "public.oders"));
    walk(
        &story,
        &[("no table matches", RECONCILE, 3), ("no table matches", &["check"], 3)],
    );
    story.write_config(&good.replace(
        "tables = [\"public.*\"]",
        "tables = [\"public.*\"]\nexclude = [\"*.*\"]",
    ));
    walk(&story, &[("everything is excluded", RECONCILE, 3)]);
    let busy = std::net::TcpListener::bind(("127.0.0.1", 0)).expect("listen");
    let taken = format!("127.0.0.1:{}", busy.local_addr().expect("an address").port());
    story.write_config(&good.replace("127.0.0.1:0", &taken));
    walk(&story, &[("the port is taken", &["probe", "--for", "1s"], 3)]);
    story.write_config(&good);

    story.pair.promote().await.expect("promote");
    walk(
        &story,
        &[
            ("the fork is there", &["event", "mark", "promoted"], 0),
            ("both sides take writes and hold the same", RECONCILE, 0),
            (
                "nothing is applied at a copy that takes writes",
                &["reconcile", "run", "--relation", "replicating"],
                2,
            ),
        ],
    );
    story
        .pair
        .standby()
        .execute(DATABASE, "delete from public.orders where id = 7")
        .await
        .expect("delete a row");
    walk(
        &story,
        &[
            ("a row is missing", RECONCILE, 1),
            ("a row is missing", &["reconcile", "run", "--event", "latest"], 1),
            ("the event is over", &["event", "end"], 0),
        ],
    );
    story.pair.standby().stop().await.expect("stop a server");
    walk(
        &story,
        &[
            ("a server is down", &["check"], 3),
            ("a server is down", RECONCILE, 3),
            ("the promoted server is down", &["--writers", "b", "rpo"], 3),
        ],
    );
}
