//! What reconciliations found, in the figures of a probe that was running already.

use crate::fixture::{Story, parquet_files, wait_until};
use crate::probing::{get, metric, ready};

const TABLES: &str = "create table public.orders (id bigint primary key, note text);
     insert into public.orders select n, 'x' from generate_series(1, 100) n;";

const SUCCESS: &str = "driftline_reconcile_last_success_timestamp_seconds";
const DIVERGENCES: &str = "driftline_divergences_confirmed";
const FAILURES: &str = "driftline_reconcile_read_failures_total";

#[tokio::test(flavor = "multi_thread")]
async fn a_reconciliation_shows_in_the_figures_of_a_running_probe_and_a_damaged_one_zeroes_nothing() {
    let story = Story::start(TABLES).await;
    let probe = story.spawn("probe", &["probe"]);
    let address = ready(&probe);
    assert_eq!(metric(&address, SUCCESS), None, "never compared is not 1970");
    assert_eq!(metric(&address, DIVERGENCES), None, "unknown is not zero");

    story.run(&["reconcile", "run"]).expect(0);
    wait_until("the comparison shows", || metric(&address, DIVERGENCES) == Some(0.0));
    let first = metric(&address, SUCCESS).expect("an instant");
    // By the names that the lag of the same data has, so that one query finds both.
    let (_, text) = get(&address, "/metrics").expect("a scrape");
    for name in [SUCCESS, DIVERGENCES, "driftline_collections_unverified"] {
        let of = |line: &&str| line.starts_with(&format!("{name}{{"));
        let series: Vec<&str> = text.lines().filter(of).collect();
        let labels = "dataset=\"shop\",store=\"aurora\",primary_site=\"a\",secondary_site=\"b\"";
        assert!(
            matches!(series[..], [only] if only.contains(labels)),
            "{name}: {series:#?}"
        );
    }
    assert_eq!(metric(&address, "driftline_collections_unverified"), Some(0.0));
    assert_eq!(metric(&address, FAILURES), Some(0.0));

    // Damaged in place: the figures stay, and the fault is counted.
    let runs = parquet_files(&story.path("out"), "runs");
    let file = runs.last().expect("a run");
    let whole = std::fs::read(file).expect("read the file");
    std::fs::write(file, &whole[..whole.len() / 2]).expect("damage the file");
    wait_until("the damage is counted", || {
        metric(&address, FAILURES).is_some_and(|count| count >= 1.0)
    });
    assert_eq!(metric(&address, SUCCESS), Some(first));
    assert_eq!(metric(&address, DIVERGENCES), Some(0.0));
    assert!(
        probe.log().contains("cannot be read, so their figures stay"),
        "{}",
        probe.log()
    );

    // Mended, and the next comparison shows.
    std::fs::write(file, whole).expect("mend the file");
    story.run(&["reconcile", "run"]).expect(0);
    wait_until("the next comparison shows", || {
        metric(&address, SUCCESS).is_some_and(|at| at > first)
    });
}

/// A series of one dataset.
fn of_dataset(address: &str, name: &str, dataset: &str) -> Option<f64> {
    let (_, text) = get(address, "/metrics")?;
    let (start, label) = (format!("{name}{{"), format!("dataset=\"{dataset}\""));
    let line = text
        .lines()
        .find(|line| line.starts_with(&start) && line.contains(&label))?;
    line.rsplit(' ').next()?.parse().ok()
}

/// By the name of their connection, as its lag is called: as old as the older of them, and unknown while one was never compared.
#[tokio::test(flavor = "multi_thread")]
async fn where_one_canary_stands_for_two_datasets_the_older_comparison_counts() {
    let story = Story::start(&format!(
        "{TABLES} create table public.others (id bigint primary key); insert into public.others values (1);"
    ))
    .await;
    let two =
        "tables = [\"public.orders\"]\n[dataset.more.aurora]\nconnection = \"db\"\ntables = [\"public.others\"]\n";
    story.write_config(&story.config().replace("tables = [\"public.*\"]\n", two));
    let probe = story.spawn("probe", &["probe"]);
    let address = ready(&probe);
    let success = |dataset: &str| of_dataset(&address, SUCCESS, dataset);
    let compare = |dataset: &str| story.run(&["reconcile", "run", "--dataset", dataset]).expect(0);

    compare("shop");
    wait_until("the first shows", || success("shop").is_some());
    assert_eq!(
        (success("more"), success("db")),
        (None, None),
        "never compared is not fine"
    );
    compare("more");
    wait_until("the second shows", || success("more").is_some());
    let (shop, more) = (success("shop"), success("more"));
    assert!(shop < more, "{shop:?} {more:?}");
    assert_eq!(success("db"), shop, "the older of them");
    compare("shop");
    wait_until("the first shows anew", || success("shop") > shop);
    assert_eq!((success("more"), success("db")), (more, more), "the older of them now");
    assert_eq!(of_dataset(&address, DIVERGENCES, "db"), None, "told by each dataset");
    assert_eq!(of_dataset(&address, DIVERGENCES, "more"), Some(0.0));
}
