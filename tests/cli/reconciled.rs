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
