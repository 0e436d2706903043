//! When CloudWatch tells nothing: not collected, with a reason, said once; and what it tells stands beside the store's own word.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use lab::MetricAnswer;
use stores::cloudwatch::{Told, Watch, beside};
use stores::memory::{Pair, Settings};
use stores::{End, Fork, NativeStatus, Result, Status, StoreError, Trouble};
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Level, Metadata, Subscriber};

use crate::setup::{Lab, pass_a_minute, told};

const A_SECOND: MetricAnswer = MetricAnswer::Points(|asked, _| vec![(asked.end_s - 60, 1_000.0)]);
const NOTHING: MetricAnswer = MetricAnswer::Points(|_, _| Vec::new());
const DENIED: MetricAnswer = MetricAnswer::Error(400, "AccessDenied", "User lab may not");

#[track_caller]
fn not_collected(told: &Told, words: &[&str]) {
    assert_eq!((told.lag_us, told.as_of_us), (None, None), "{told:?}");
    let reason = told.not_collected.as_deref().unwrap_or_default();
    for word in words {
        assert!(reason.contains(word), "`{word}` is missing in {reason}");
    }
}

#[tokio::test]
async fn no_data_point_is_no_lag_of_zero() {
    let empty = told(NOTHING).await;
    not_collected(&empty, &["no data point", "TableName=profiles", "not a lag of 0"]);
    let ancient = told(MetricAnswer::Points(|asked, _| vec![(asked.start_s - 60, 0.0)])).await;
    not_collected(&ancient, &["no data point"]);
    let nonsense = told(MetricAnswer::Points(|asked, _| vec![(asked.end_s - 60, -1.0)])).await;
    not_collected(&nonsense, &["the value -1"]);
}

#[tokio::test]
async fn an_error_is_a_reason() {
    not_collected(
        &told(DENIED).await,
        &["AccessDenied", "may not", "allow cloudwatch:GetMetricData"],
    );
    let throttled = told(MetricAnswer::Error(400, "Throttling", "Rate exceeded")).await;
    not_collected(&throttled, &["Throttling", "too often"]);
    let withheld = told(MetricAnswer::Withheld("Forbidden", "another account")).await;
    not_collected(&withheld, &["Forbidden", "another account"]);
    let half = told(MetricAnswer::Withheld("InternalError", "later")).await;
    not_collected(&half, &["InternalError"]);
}

#[tokio::test]
async fn nobody_who_answers_is_a_reason() {
    not_collected(&told(MetricAnswer::Silence).await, &["no answer in time"]);
    let lab = Lab::start(A_SECOND).await;
    // A port that was just given back.
    let closed = std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let east = lab.site_at("us-east-1", format!("http://{closed}"));
    let watch = Watch::table("profiles", ("use1", &east), ("usw2", &east), Arc::default()).await;
    not_collected(&watch.unwrap().now().await, &[]);
    let nowhere = Watch::nowhere("no replication rule").now().await;
    not_collected(&nowhere, &["no replication rule"]);
}

#[tokio::test]
async fn what_was_read_before_a_request_that_was_given_up_is_not_told_as_new() {
    let lab = Lab::start(A_SECOND).await;
    let watch = lab.table().await;
    assert_eq!(watch.now().await.lag_us, Some(1_000_000));
    lab.cloudwatch.answer(MetricAnswer::Silence);
    pass_a_minute().await;
    let patience = Duration::from_millis(500);
    tokio::time::timeout(patience, watch.now()).await.unwrap_err();
    not_collected(&watch.now().await, &["given up"]);
}

/// The sites that warnings named. For the whole process: what a thread alone subscribes to is not told reliably beside others.
struct Warned(Mutex<Vec<String>>);

static WARNED: Warned = Warned(Mutex::new(Vec::new()));

impl Warned {
    fn of(site: &str) -> usize {
        let sites = WARNED.0.lock().unwrap();
        sites.iter().filter(|warned| *warned == site).count()
    }
}

struct Collecting;

impl Subscriber for Collecting {
    fn enabled(&self, of: &Metadata<'_>) -> bool {
        *of.level() == Level::WARN && of.target().starts_with("stores::cloudwatch")
    }
    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }
    fn record(&self, _: &Id, _: &Record<'_>) {}
    fn record_follows_from(&self, _: &Id, _: &Id) {}
    fn event(&self, event: &Event<'_>) {
        event.record(&mut Site);
    }
    fn enter(&self, _: &Id) {}
    fn exit(&self, _: &Id) {}
}

struct Site;

impl Visit for Site {
    fn record_debug(&mut self, _: &Field, _: &dyn std::fmt::Debug) {}
    fn record_str(&mut self, field: &Field, value: &str) {
        if field.name() == "site" {
            WARNED.0.lock().unwrap().push(value.to_owned());
        }
    }
}

#[tokio::test]
async fn each_reason_is_logged_once() {
    tracing::subscriber::set_global_default(Collecting).unwrap();
    let lab = Lab::start(DENIED).await;
    let site = lab.site("us-east-1");
    let watch = Watch::table("profiles", ("alone", &site), ("usw2", &site), Arc::default()).await;
    let watch = watch.unwrap();
    for minute in 0..3 {
        watch.now().await;
        assert_eq!(Warned::of("alone"), 1, "minute {minute}");
        pass_a_minute().await;
    }
    lab.cloudwatch.answer(NOTHING);
    watch.now().await;
    assert_eq!(Warned::of("alone"), 2, "another reason");
}

/// An end that says this of itself.
#[derive(Debug)]
struct Says(Mutex<Result<NativeStatus>>);

#[async_trait]
impl Status for Says {
    async fn status(&self) -> Result<NativeStatus> {
        self.0.lock().unwrap().clone()
    }
    async fn fork(&self) -> Result<Fork> {
        Err(StoreError::Unsupported(Trouble::new("use1", "read the fork", "none")))
    }
}

/// An end of a reference pair whose status is `says`, with what CloudWatch tells beside it.
async fn end(lab: &Lab, says: Result<NativeStatus>) -> Arc<dyn Status> {
    let end = Pair::new(Settings::default()).primary();
    let end = End {
        status: Some(Arc::new(Says(Mutex::new(says)))),
        ..end
    };
    beside(end, lab.table().await).status.unwrap()
}

async fn says() -> NativeStatus {
    let end = Pair::new(Settings::default()).primary();
    let own = end.status.unwrap().status().await.unwrap();
    NativeStatus { lag_us: None, ..own }
}

#[tokio::test]
async fn the_figure_stands_beside_what_the_store_says_and_never_in_its_place() {
    let lab = Lab::start(A_SECOND).await;
    let own = says().await;
    let both = end(&lab, Ok(own.clone())).await.status().await.unwrap();
    assert_eq!(both.lag_us, Some(1_000_000));
    assert!(both.lag_as_of_us.is_some_and(|at| at != both.as_of_us));
    assert_eq!((both.identity, both.as_of_us), (own.identity.clone(), own.as_of_us));
    let told = NativeStatus {
        lag_us: Some(7),
        ..own.clone()
    };
    assert_eq!(
        end(&lab, Ok(told.clone())).await.status().await,
        Ok(told),
        "its own word comes first"
    );
    let gone = StoreError::Unreachable(Trouble::new("use1", "ask", "gone"));
    assert_eq!(end(&lab, Err(gone.clone())).await.status().await, Err(gone));
    lab.cloudwatch.answer(DENIED);
    let denied = end(&lab, Ok(own)).await.status().await.unwrap();
    assert_eq!((denied.lag_us, denied.lag_as_of_us), (None, None));
    assert!(
        denied
            .not_collected
            .is_some_and(|reason| reason.contains("AccessDenied"))
    );
}
