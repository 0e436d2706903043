//! What is decided before any comparison: exit code 2, and 3 where nobody answered.

use std::net::SocketAddr;

use lab::{PgOptions, Tls};
use tokio::net::{TcpListener, TcpStream};

use crate::fixture::{DATABASE, Story};

const TABLES: &str = "create table public.orders (id bigint primary key, note text);
                      insert into public.orders select i, 'n' || i from generate_series(1, 200) i";

/// Listens on a loopback address that no certificate of the lab is for, and relays to `port`.
async fn relay_to(port: u16) -> SocketAddr {
    let listener = TcpListener::bind(("127.0.0.2", 0)).await.expect("listen");
    let address = listener.local_addr().expect("an address");
    tokio::spawn(async move {
        while let Ok((mut here, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut there = TcpStream::connect(("127.0.0.1", port)).await?;
                tokio::io::copy_bidirectional(&mut here, &mut there).await
            });
        }
    });
    address
}

#[tokio::test(flavor = "multi_thread")]
async fn passwords_ports_tls_and_identity() {
    let options = PgOptions {
        tls: Tls::Required,
        ..PgOptions::with_database(DATABASE)
    };
    let story = Story::start_with(options, TABLES).await;
    let good = story.config();
    story.run(&["check"]).expect(0);

    // The password is wrong: the configuration has to change.
    std::fs::write(story.path("wrong"), "not-the-password").unwrap();
    story.write_config(&good.replace("/password\"", "/wrong\""));
    for args in [&["check"][..], &["reconcile", "run"], &["probe", "--for", "1s"]] {
        let finished = story.run(args).expect(2);
        assert!(
            !format!("{finished:?}").contains("not-the-password"),
            "a secret was printed: {finished:?}"
        );
    }

    // The password file is missing: the same.
    story.write_config(&good.replace("/password\"", "/missing\""));
    story.run(&["reconcile", "run"]).expect(2);

    // The server wants TLS and the configuration says none.
    let tls_line = good.lines().find(|line| line.starts_with("tls =")).unwrap();
    story.write_config(&good.replace(tls_line, "tls = \"disable\""));
    story.run(&["reconcile", "run"]).expect(2);

    // The server's certificate is from an authority that the configuration does not name.
    story.write_config(&good.replace(tls_line, ""));
    story.run(&["reconcile", "run"]).expect(2);

    // The authority is right and the certificate is for another host.
    let relay = relay_to(story.pair.primary().port()).await;
    let primary = format!("127.0.0.1:{}/", story.pair.primary().port());
    let elsewhere = good.replace(&primary, &format!("{relay}/"));
    assert_ne!(elsewhere, good);
    story.write_config(&elsewhere);
    let finished = story.run(&["reconcile", "run"]).expect(2);
    assert!(
        finished.stderr.contains("not trusted for this host"),
        "{}",
        finished.stderr
    );

    // Nobody listens there: nothing could be told.
    let standby = format!(":{}/", story.pair.standby().port());
    story.write_config(&good.replace(&standby, ":1/"));
    for args in [&["check"][..], &["reconcile", "run"]] {
        story.run(args).expect(3);
    }

    // Both sites reach the same database.
    let primary = format!(":{}/", story.pair.primary().port());
    story.write_config(&good.replace(&standby, &primary));
    for args in [&["check"][..], &["reconcile", "run"]] {
        let finished = story.run(args).expect(2);
        let told = format!("{}{}", finished.stdout, finished.stderr);
        assert!(told.contains("same data"), "{told}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn check_says_what_can_be_verified_and_changes_nothing() {
    let story = Story::start(
        "create table public.orders (id bigint primary key, note text);
         create table public.keyless (note text);
         create table public.secret (id int primary key)",
    )
    .await;
    let finished = story.run(&["check"]).expect(0);
    assert!(
        finished
            .stdout
            .contains("public.keyless: compared by contents and number of rows: no valid"),
        "{}",
        finished.stdout
    );
    assert!(
        finished.stdout.contains("pair a -> b: replicating"),
        "{}",
        finished.stdout
    );
    story.write_config(&story.config().replace("public.*", "public.orders"));
    let statements = || async {
        let counted =
            "select (tup_inserted + tup_updated + tup_deleted)::text from pg_stat_database where datname = 'shop'";
        story.pair.primary().value(DATABASE, counted).await.unwrap()
    };
    let before = statements().await;
    let report = story.run(&["check", "--format", "json"]).expect(0).json();
    assert_eq!(report["fine"], true);
    assert_eq!(report["connections"][0]["pairs"][0]["relation"], "replicating");
    assert_eq!(before, statements().await, "check wrote rows");
}
