//! Canaries represent a rule: its prefix, its tags, whether it is switched on.

use lab::{S3Options, S3Rule};
use stores::s3::KeySet;
use stores::{Sought, WriteOutcome};

use super::setup::{Rig, STREAM, canary, sequences, until};

fn tagged(id: &str, prefix: &str, priority: i32) -> S3Rule {
    S3Rule {
        tags: vec![
            ("tier".to_owned(), "hot & cold".to_owned()),
            ("größe".to_owned(), "1".to_owned()),
        ],
        priority,
        ..S3Rule::of_prefix(id, prefix)
    }
}

#[tokio::test]
async fn canaries_lie_under_the_rules_prefix_and_carry_its_tags() {
    let options = S3Options {
        rules: vec![tagged("hot images", "img/", 2), S3Rule::of_prefix("logs", "log/")],
        ..S3Options::default()
    };
    let rig = Rig::with(options, Some("img/cats/")).await;
    let rules = rig.map.rules().await;
    assert_eq!(
        rules.key_sets.len(),
        1,
        "the other rule does not touch the dataset: {rules:?}"
    );
    assert_eq!(rig.keys.rule.as_deref(), Some("hot images"));
    assert_eq!(rig.keys.prefix, "img/");
    assert!(rig.keys.reaches("media-usw2") && !rig.keys.reaches("elsewhere"));
    rig.write([1]).await;
    rig.arrived(1).await;
    let listed = rig
        .pair
        .secondary()
        .client()
        .list_objects_v2()
        .bucket("media-usw2")
        .send()
        .await
        .unwrap();
    assert!(listed.contents()[0].key().unwrap().starts_with("img/driftline-canary/"));
    // Without the tags the rule does not take it along: so the tags are what brought it.
    let untagged = KeySet {
        tags: std::collections::BTreeMap::new(),
        ..rig.keys.clone()
    };
    let writer = rig.map.end(&untagged, 0).await.canary_writer.unwrap();
    let outcome = writer.write(&canary(2)).await;
    assert!(matches!(outcome, WriteOutcome::Acknowledged), "{outcome:?}");
    rig.write([3]).await;
    rig.arrived(3).await;
    assert_eq!(sequences(&rig.look(&[1, 2, 3]).await.unwrap()), [1, 3]);
}

#[tokio::test]
async fn each_enabled_rule_is_a_unit_of_its_own() {
    let options = S3Options {
        rules: vec![S3Rule::of_prefix("images", "img/"), tagged("hot logs", "log/", 2)],
        ..S3Options::default()
    };
    let rig = Rig::with(options, None).await;
    let rules = rig.map.rules().await;
    assert!(rules.notes.is_empty() && rules.disabled.is_empty(), "{rules:?}");
    for keys in &rules.key_sets {
        let [primary, secondary] = [rig.map.end(keys, 0).await, rig.map.end(keys, 1).await];
        let outcome = primary.canary_writer.unwrap().write(&canary(1)).await;
        assert!(matches!(outcome, WriteOutcome::Acknowledged), "{outcome:?}");
        let reader = secondary.canary_reader.unwrap();
        until("it arrives", async || {
            reader.poll(STREAM, Sought::All).await.unwrap().canaries == [canary(1)]
        })
        .await;
    }
    let listed = rig
        .pair
        .secondary()
        .client()
        .list_objects_v2()
        .bucket("media-usw2")
        .send()
        .await
        .unwrap();
    assert_eq!(listed.contents().len(), 2, "one stream under two rules has two rings");
}

#[tokio::test]
async fn a_disabled_rule_is_said_and_its_objects_never_arrive() {
    let rule = S3Rule {
        is_enabled: false,
        ..S3Rule::of_prefix("off", "img/")
    };
    let options = S3Options {
        rules: vec![rule],
        ..S3Options::default()
    };
    let rig = Rig::with(options, Some("img/")).await;
    let rules = rig.map.rules().await;
    assert_eq!(rules.disabled.len(), 1);
    assert!(
        rules.notes.iter().any(|note| note.contains("\"off\" is disabled")),
        "{rules:?}"
    );
    assert_eq!(rig.keys.rule, None);
    rig.write([1]).await;
    assert_eq!(rig.pair.link().waiting(), 0);
    assert_eq!(sequences(&rig.look(&[1]).await.unwrap()), [0; 0]);
    assert_eq!(rig.link(0).await, None, "S3 says nothing of what no rule takes");
}

#[tokio::test]
async fn rules_that_cannot_be_read_are_said_and_the_prefix_stands_for_itself() {
    let rig = Rig::with(S3Options::default(), Some("img/")).await;
    rig.pair.primary().deny_rules(true);
    let rules = rig.map.rules().await;
    assert_eq!(
        (rules.key_sets[0].rule.as_deref(), rules.key_sets[0].prefix.as_str()),
        (None, "img/")
    );
    assert!(
        rules.notes[0].contains("may not be read (s3:GetReplicationConfiguration)"),
        "{rules:?}"
    );

    let bare = S3Options {
        rules: Vec::new(),
        ..S3Options::default()
    };
    let bare = Rig::with(bare, None).await;
    assert!(bare.map.rules().await.notes[0].contains("has no replication rules"));
}
