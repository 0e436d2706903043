//! What `check` finds and what `init` prints.

use aws_sdk_s3::types::{
    BucketLifecycleConfiguration, ExpirationStatus, LifecycleRule, LifecycleRuleFilter, NoncurrentVersionExpiration,
};
use stores::s3::{CheckedPair, Found, check_canary, init_text};

use super::setup::{Rig, until};

async fn found(rig: &Rig) -> Found {
    let [writer, watched] = &rig.map.sites;
    let pair = CheckedPair {
        writer: ("use1", writer),
        watched: ("usw2", watched),
    };
    let keys = std::slice::from_ref(&rig.keys);
    check_canary(&rig.map.config, rig.map.bucket(), keys, pair)
        .await
        .unwrap()
}

async fn problems(rig: &Rig) -> Vec<String> {
    found(rig).await.problems
}

async fn suggest_lifecycle(rig: &Rig) {
    for (site, bucket) in [(rig.pair.primary(), "media-use1"), (rig.pair.secondary(), "media-usw2")] {
        let noncurrent = NoncurrentVersionExpiration::builder().noncurrent_days(1).build();
        let rule = LifecycleRule::builder()
            .id("canaries")
            .status(ExpirationStatus::Enabled)
            .filter(LifecycleRuleFilter::builder().prefix("driftline-canary/").build())
            .noncurrent_version_expiration(noncurrent)
            .build()
            .unwrap();
        let rules = BucketLifecycleConfiguration::builder().rules(rule).build().unwrap();
        let request = site.client().put_bucket_lifecycle_configuration().bucket(bucket);
        request.lifecycle_configuration(rules).send().await.unwrap();
    }
}

#[tokio::test]
async fn a_pair_that_is_set_up_well_has_no_problems() {
    let rig = Rig::start().await;
    suggest_lifecycle(&rig).await;
    assert_eq!(found(&rig).await, Found::default());
    // It can be checked again, and beside canaries.
    rig.write([1]).await;
    assert_eq!(problems(&rig).await, [""; 0]);
}

#[tokio::test]
async fn each_fault_is_found() {
    let rig = Rig::start().await;
    let found = found(&rig).await;
    assert_eq!((found.problems.len(), found.suggestions.len()), (0, 2), "{found:?}");
    assert!(
        found.suggestions.iter().all(|one| one.contains("no lifecycle rule")),
        "nothing that keeps canaries from telling the truth: {found:?}"
    );
    suggest_lifecycle(&rig).await;

    rig.pair.secondary().version("media-usw2", false);
    let found = problems(&rig).await;
    assert!(
        found.len() == 1 && found[0].contains("site usw2: bucket media-usw2 keeps no versions"),
        "{found:?}"
    );
    rig.pair.secondary().version("media-usw2", true);

    rig.pair.primary().ignore_conditions(true);
    let found = problems(&rig).await;
    assert!(found.len() == 1 && found[0].contains("ignores If-Match"), "{found:?}");
    rig.pair.primary().ignore_conditions(false);

    rig.pair.secondary().deny_listing(true);
    let found = problems(&rig).await;
    assert!(found.len() == 1 && found[0].contains("s3:ListBucket"), "{found:?}");
    rig.pair.secondary().deny_listing(false);

    until("all is copied", async || rig.pair.link().waiting() == 0).await;
    rig.pair.secondary().proxy_reads(true);
    rig.pair.link().stall();
    rig.write([7]).await;
    let found = problems(&rig).await;
    assert!(found.len() == 1 && found[0].contains("reads are proxied"), "{found:?}");
}

#[tokio::test]
async fn a_rule_that_copies_elsewhere_is_found() {
    let mut rig = Rig::start().await;
    suggest_lifecycle(&rig).await;
    rig.keys.destination = Some("third".to_owned());
    let found = problems(&rig).await;
    assert!(
        found.len() == 1 && found[0].contains("copies to bucket third"),
        "{found:?}"
    );
}

#[tokio::test]
async fn init_prints_what_the_probe_needs_and_no_more() {
    let rig = Rig::start().await;
    let text = init_text(
        &rig.map.config,
        rig.map.bucket(),
        std::slice::from_ref(&rig.keys),
        "usw2",
    )
    .unwrap();
    for needed in [
        "arn:aws:s3:::media-usw2/driftline-canary/*",
        "s3:PutObject",
        "s3:GetObject",
        "s3:ListBucket",
        "s3:GetReplicationConfiguration",
        "NoncurrentVersionExpiration",
    ] {
        assert!(text.contains(needed), "{needed} is not in {text}");
    }
    for unneeded in ["Delete", "s3:*", "PutObjectTagging", "arn:aws:s3:::media-usw2/*"] {
        assert!(!text.contains(unneeded), "{unneeded} is in {text}");
    }
    let error = init_text(&rig.map.config, rig.map.bucket(), &[], "euw1").unwrap_err();
    assert!(error.to_string().contains("use1, usw2"), "{error}");
}
