//! What is asked for, where, how often, and which data point is taken.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use lab::{MetricAnswer, MetricQuery, MetricRequest};
use stores::Meter;
use stores::cloudwatch::{ASK_EVERY, Watch};

use crate::setup::{Lab, pass, pass_a_minute, told};

/// Lag 1.5, two operations, three bytes, in the newest minute that was asked about.
const STEADY: MetricAnswer = MetricAnswer::Points(|asked, query| {
    let value = match query.name.as_str() {
        "ReplicationLatency" => 1.5,
        "OperationsPendingReplication" | "MessageLag" => 2.0,
        _ => 3.0,
    };
    vec![(asked.end_s - 60, value)]
});

const US: i64 = 1_000_000;

fn dimensions(query: &MetricQuery) -> Vec<(&str, &str)> {
    let all = query.dimensions.iter();
    all.map(|(name, value)| (name.as_str(), value.as_str())).collect()
}

#[track_caller]
fn only(lab: &Lab) -> MetricRequest {
    let mut requests = lab.cloudwatch.requests();
    assert_eq!(requests.len(), 1, "{requests:?}");
    requests.remove(0)
}

#[tokio::test]
async fn a_table_is_asked_about_in_the_region_of_its_writer() {
    let lab = Lab::start(STEADY).await;
    let told = lab.table().await.now().await;
    let asked = only(&lab);
    assert_eq!(asked.region, "us-east-1");
    let [query] = asked.queries.as_slice() else {
        panic!("{asked:?}")
    };
    assert_eq!(
        (
            query.namespace.as_str(),
            query.name.as_str(),
            query.statistic.as_str(),
            query.period_s
        ),
        ("AWS/DynamoDB", "ReplicationLatency", "Maximum", 60)
    );
    assert_eq!(
        dimensions(query),
        [("ReceivingRegion", "us-west-2"), ("TableName", "profiles")]
    );
    assert_eq!((told.lag_us, told.not_collected), (Some(1_500), None), "milliseconds");
    assert_eq!(told.as_of_us, Some((asked.end_s - 60) * US));
}

#[tokio::test]
async fn a_rule_is_asked_about_in_the_region_of_its_destination() {
    let lab = Lab::start(STEADY).await;
    let (west, meter) = (lab.site("us-west-2"), Arc::new(Meter::default()));
    let watch = Watch::rule("media-use1", "media-usw2", "rule-1", ("usw2", &west), meter).await;
    let told = watch.unwrap().now().await;
    let asked = only(&lab);
    assert_eq!(asked.region, "us-west-2");
    let names: Vec<&str> = asked.queries.iter().map(|query| query.name.as_str()).collect();
    assert_eq!(
        names,
        [
            "ReplicationLatency",
            "OperationsPendingReplication",
            "BytesPendingReplication"
        ]
    );
    for query in &asked.queries {
        assert_eq!(
            (query.namespace.as_str(), query.statistic.as_str()),
            ("AWS/S3", "Maximum")
        );
        assert_eq!(
            dimensions(query),
            [
                ("DestinationBucket", "media-usw2"),
                ("RuleId", "rule-1"),
                ("SourceBucket", "media-use1")
            ]
        );
    }
    assert_eq!(
        (told.lag_us, told.operations, told.bytes),
        (Some(1_500_000), Some(2), Some(3)),
        "seconds"
    );
}

#[tokio::test]
async fn a_replicator_is_asked_about_in_the_region_of_its_target() {
    let lab = Lab::start(STEADY).await;
    let (west, meter) = (lab.site("us-west-2"), Arc::new(Meter::default()));
    let watch = Watch::replicator("orders-to-west", ("usw2", &west), meter).await;
    let told = watch.unwrap().now().await;
    let asked = only(&lab);
    assert_eq!(asked.region, "us-west-2");
    let of = |query: &MetricQuery| (query.namespace.clone(), query.name.clone(), query.statistic.clone());
    let [latency, messages] = asked.queries.as_slice() else {
        panic!("{asked:?}")
    };
    assert_eq!(
        of(latency),
        ("AWS/Kafka".into(), "ReplicationLatency".into(), "Maximum".into())
    );
    assert_eq!(of(messages), ("AWS/Kafka".into(), "MessageLag".into(), "Sum".into()));
    assert_eq!(dimensions(latency), [("ReplicatorName", "orders-to-west")]);
    assert_eq!((told.lag_us, told.operations), (Some(1_500), Some(2)));
}

#[tokio::test]
async fn the_newest_minute_that_is_over_counts_whatever_the_order() {
    let told = told(MetricAnswer::Points(|asked, _| {
        let end = asked.end_s;
        // The one that is still being filled says 0.
        vec![(end - 180, 7.0), (end - 60, 1.0), (end, 0.0), (end - 120, 9.0)]
    }))
    .await;
    assert_eq!(told.lag_us, Some(1_000));
}

#[tokio::test]
async fn a_late_data_point_bears_its_own_minute() {
    let lab = Lab::start(MetricAnswer::Points(|asked, _| vec![(asked.end_s - 600, 4.0)])).await;
    let told = lab.table().await.now().await;
    assert_eq!(told.lag_us, Some(4_000));
    assert_eq!(told.as_of_us, Some((only(&lab).end_s - 600) * US));
}

#[tokio::test]
async fn figures_of_two_minutes_are_as_old_as_the_older_one() {
    let lab = Lab::start(MetricAnswer::Points(|asked, query| {
        let age_s = if query.name == "ReplicationLatency" { 60 } else { 300 };
        vec![(asked.end_s - age_s, 1.0)]
    }))
    .await;
    let (west, meter) = (lab.site("us-west-2"), Arc::new(Meter::default()));
    let watch = Watch::replicator("orders-to-west", ("usw2", &west), meter).await;
    let told = watch.unwrap().now().await;
    assert_eq!(told.as_of_us, Some((only(&lab).end_s - 300) * US));
}

#[tokio::test]
async fn zero_is_told_as_the_zero_of_its_minute() {
    let told = told(MetricAnswer::Points(|asked, _| vec![(asked.end_s - 60, 0.0)])).await;
    assert_eq!((told.lag_us, told.not_collected), (Some(0), None));
    assert!(told.as_of_us.is_some());
}

#[tokio::test]
async fn it_is_asked_once_a_minute_at_most_also_after_an_error_and_counted() {
    let lab = Lab::start(STEADY).await;
    let watch = lab.table().await;
    for _ in 0..3 {
        assert_eq!(watch.now().await.lag_us, Some(1_500));
    }
    assert_eq!(lab.cloudwatch.requests().len(), 1);
    pass(ASK_EVERY.checked_sub(Duration::from_secs(10)).unwrap()).await;
    watch.now().await;
    assert_eq!(lab.cloudwatch.requests().len(), 1, "not yet");
    lab.cloudwatch
        .answer(MetricAnswer::Error(500, "InternalServiceError", "words"));
    pass_a_minute().await;
    for _ in 0..3 {
        assert_eq!(watch.now().await.lag_us, None, "what is old is not told as new");
    }
    assert_eq!(lab.cloudwatch.requests().len(), 2);
    lab.cloudwatch.answer(STEADY);
    pass_a_minute().await;
    assert_eq!(watch.now().await.lag_us, Some(1_500), "collected again");
    let usage: BTreeMap<_, _> = watch.meter().usage();
    assert_eq!(usage["GetMetricData"].requests, 3);
    assert!(
        (usage["GetMetricData"].units - 3.0).abs() < f64::EPSILON,
        "one metric each"
    );
}
