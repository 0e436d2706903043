//! Tables without a key where the secondary applies what the primary publishes: nothing of a row's place or transaction is alike there.

use std::time::Duration;

use reconcile::{CoverageState, Pair, Request};
use stores::Class;
use tokio_util::sync::CancellationToken;

use crate::setup::{Copies, divergences, everything, until_in_flight};

const LOG: &str = "public.log";
const PATIENCE: Duration = Duration::from_secs(60);

/// A publisher and a subscriber of these versions, with a table without a key.
async fn start(from: Option<u16>, to: Option<u16>) -> Copies {
    let copies = Copies::start(from, to, 100).await;
    copies
        .pair
        .execute_at_both(
            "create table public.log (at int, note text); alter table public.log replica identity full; \
             grant select on public.log to driftline",
        )
        .await
        .unwrap();
    copies
        .pair
        .publisher()
        .execute(
            "app",
            "insert into public.log select i, repeat('n', 50) from generate_series(1, 2000) i; \
             insert into public.log select -1, 'alike' from generate_series(1, 3); \
             insert into public.log values (null, null), (null, '')",
        )
        .await
        .unwrap();
    copies.pair.refresh().await.unwrap();
    copies.pair.wait_applied(PATIENCE).await.unwrap();
    copies
}

async fn request(pair: &Pair) -> Request {
    let mut request = everything(pair, &[]).await;
    let is_log = |side: &Option<stores::Collection>| side.as_ref().is_some_and(|one| one.name == LOG);
    request
        .selected
        .retain(|one| is_log(&one.primary) && is_log(&one.secondary));
    assert_eq!(request.selected.len(), 1);
    request
}

/// Equal copies are equal; copies that are too many, and rows that only one has, are found as such.
async fn compared(from: Option<u16>, to: Option<u16>) {
    let copies = start(from, to).await;
    let pair = copies.ends();
    let (found, summary) = divergences(&pair, &request(&pair).await).await;
    assert!(found.is_empty(), "{found:?}");
    let [log] = summary.coverage.as_slice() else {
        panic!("{:?}", summary.coverage)
    };
    assert_eq!(
        (summary.exit_code(), log.state),
        (0, CoverageState::Verified),
        "{log:?}"
    );
    assert_eq!((log.primary_rows, log.fence.as_str()), (Some(2_005), "canary"));
    assert!(log.scope.contains("by their contents and number"), "{}", log.scope);

    copies
        .pair
        .subscriber()
        .execute(
            "app",
            "insert into public.log values (-1, 'alike'); delete from public.log where at = 7; \
             update public.log set note = null where at is null and note = ''; insert into public.log values (-9, 'new')",
        )
        .await
        .unwrap();
    let (found, summary) = divergences(&pair, &request(&pair).await).await;
    assert_eq!(summary.exit_code(), 1, "{:?}", summary.coverage);
    let mut classes: Vec<(Class, &str)> = found.iter().map(|one| (one.class, one.detail.as_str())).collect();
    classes.sort_unstable();
    let mut wanted = [
        (Class::Duplicate, "3 copies at the primary, 4 at the secondary"),
        (Class::Duplicate, "1 copies at the primary, 2 at the secondary"),
        (Class::MissingOnSecondary, ""),
        (Class::MissingOnSecondary, ""),
        (Class::MissingOnPrimary, ""),
    ];
    wanted.sort_unstable();
    assert_eq!(classes, wanted);
    copies.shutdown().await;
}

#[tokio::test]
async fn contents_of_logical_copies_are_compared_and_counted() {
    compared(None, None).await;
}

/// 13 cannot read a range of blocks, and 17 can: the sides are cut into other parts.
#[tokio::test]
async fn contents_are_compared_between_versions_that_read_them_in_other_parts() {
    compared(Some(13), Some(17)).await;
}

/// Makes and removes copies of one row at the publisher, and of others.
async fn churn(copies: &Copies) -> (CancellationToken, tokio::task::JoinHandle<u64>) {
    let client = copies.pair.publisher().client("app").await.unwrap();
    let stop = CancellationToken::new();
    let stopped = stop.clone();
    let task = tokio::spawn(async move {
        let mut rounds = 0;
        while !stopped.is_cancelled() {
            for sql in [
                "insert into public.log values (-1, 'alike')",
                "insert into public.log values (-2, 'comes and goes')",
                "delete from public.log where ctid = (select ctid from public.log where at = -1 limit 1)",
                "delete from public.log where at = -2",
            ] {
                client.batch_execute(sql).await.unwrap();
            }
            rounds += 1;
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        rounds
    });
    (stop, task)
}

/// The subscriber applies no change to the table faster than in 4 ms. That is less than [`churn`] takes for one: application keeps up, and
/// something is on its way most of the time, also right behind a fence.
async fn apply_slowly(copies: &Copies) {
    let slowly = "create function public.slowly() returns trigger language plpgsql as \
                  'begin perform pg_sleep(0.004); return null; end'; \
                  create trigger slowly after insert or delete on public.log for each row execute function public.slowly(); \
                  alter table public.log enable always trigger slowly";
    copies.pair.subscriber().execute("app", slowly).await.unwrap();
}

#[tokio::test]
async fn copies_in_flight_are_no_divergences_and_a_planted_one_is_found_among_them() {
    let copies = start(None, None).await;
    let pair = copies.ends();
    apply_slowly(&copies).await;
    let (stop, task) = churn(&copies).await;
    let request = request(&pair).await;
    until_in_flight(1, async || {
        let (found, summary) = divergences(&pair, &request).await;
        assert!(found.is_empty(), "{found:?}");
        summary
    })
    .await;
    let wrong = "delete from public.log where at = 7";
    copies.pair.subscriber().execute("app", wrong).await.unwrap();
    let (found, _) = divergences(&pair, &request).await;
    let classes: Vec<Class> = found.iter().map(|one| one.class).collect();
    assert_eq!(classes, [Class::MissingOnSecondary]);
    stop.cancel();
    assert!(task.await.unwrap() > 0);
    copies.shutdown().await;
}
