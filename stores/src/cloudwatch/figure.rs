//! What is asked for: names, dimensions, statistics and units of the metrics.

use aws_sdk_cloudwatch::types::{Dimension, Metric, MetricDataQuery, MetricStat};

/// Data points of a minute are the finest that these metrics have.
pub(crate) const PERIOD_S: i32 = 60;

/// What a figure says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Meaning {
    /// Lag in time; one unit of the metric lasts so many seconds.
    Lag { unit: Unit },
    /// Operations that wait.
    Operations,
    /// Bytes that wait.
    Bytes,
}

/// What a lag is counted in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unit {
    Milliseconds,
    Seconds,
}

/// One metric, as it is asked for.
#[derive(Debug, Clone)]
pub(crate) struct Figure {
    pub(crate) meaning: Meaning,
    namespace: &'static str,
    pub(crate) name: &'static str,
    statistic: &'static str,
    dimensions: Vec<(&'static str, String)>,
}

/// What `table` takes to reach its copy in another region. Published in the region of the writer.
pub(crate) fn of_table(table: &str, receiving_region: &str) -> Vec<Figure> {
    let dimensions = vec![
        ("TableName", table.to_owned()),
        ("ReceivingRegion", receiving_region.to_owned()),
    ];
    let unit = Unit::Milliseconds;
    vec![Figure {
        meaning: Meaning::Lag { unit },
        namespace: "AWS/DynamoDB",
        name: "ReplicationLatency",
        statistic: "Maximum",
        dimensions,
    }]
}

/// How far a replication rule is behind, and what waits. Published in the region of the destination, where the rule has metrics switched on.
pub(crate) fn of_rule(source: &str, destination: &str, rule: &str) -> Vec<Figure> {
    let dimensions = vec![
        ("SourceBucket", source.to_owned()),
        ("DestinationBucket", destination.to_owned()),
        ("RuleId", rule.to_owned()),
    ];
    let unit = Unit::Seconds;
    let of = |meaning, name| Figure {
        meaning,
        namespace: "AWS/S3",
        name,
        statistic: "Maximum",
        dimensions: dimensions.clone(),
    };
    vec![
        of(Meaning::Lag { unit }, "ReplicationLatency"),
        of(Meaning::Operations, "OperationsPendingReplication"),
        of(Meaning::Bytes, "BytesPendingReplication"),
    ]
}

/// How far an MSK Replicator is behind. Published in the region of the target. Each partition is a data point of its own: latencies have a
/// maximum, message counts add up.
pub(crate) fn of_replicator(name: &str) -> Vec<Figure> {
    let unit = Unit::Milliseconds;
    let of = |meaning, metric, statistic| Figure {
        meaning,
        namespace: "AWS/Kafka",
        name: metric,
        statistic,
        dimensions: vec![("ReplicatorName", name.to_owned())],
    };
    vec![
        of(Meaning::Lag { unit }, "ReplicationLatency", "Maximum"),
        of(Meaning::Operations, "MessageLag", "Sum"),
    ]
}

impl Figure {
    /// The question; its answer carries `id`.
    pub(crate) fn query(&self, id: &str) -> MetricDataQuery {
        let dimension = |(name, value): &(&str, String)| Dimension::builder().name(*name).value(value).build();
        let metric = Metric::builder()
            .namespace(self.namespace)
            .metric_name(self.name)
            .set_dimensions(Some(self.dimensions.iter().map(dimension).collect()))
            .build();
        let statistic = MetricStat::builder()
            .metric(metric)
            .period(PERIOD_S)
            .stat(self.statistic)
            .build();
        MetricDataQuery::builder().id(id).metric_stat(statistic).build()
    }

    /// `AWS/S3 ReplicationLatency (SourceBucket=a, DestinationBucket=b, RuleId=c)`.
    pub(crate) fn words(&self) -> String {
        let dimensions = self.dimensions.iter().map(|(name, value)| format!("{name}={value}"));
        let dimensions = dimensions.collect::<Vec<_>>().join(", ");
        format!("{} {} ({dimensions})", self.namespace, self.name)
    }
}
