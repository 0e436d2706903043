//! What `init` makes and prints, and what `check` finds.

use aws_sdk_dynamodb::types::{
    AttributeDefinition, CreateGlobalSecondaryIndexAction, GlobalSecondaryIndexUpdate, KeySchemaElement, KeyType,
    Projection, ProjectionType, ScalarAttributeType,
};
use lab::TableSpec;
use stores::StoreError;
use stores::dynamodb::{check_canary, init, init_text, open};

use super::scripted::Scripted;
use super::setup::{Kind, Two, acknowledged, by_text, canary, config, poll, secrets, site};

#[tokio::test]
async fn a_table_of_their_own_is_made_once_and_carries_the_canaries() {
    let two = Two::start(Kind::Local, by_text("profiles")).await;
    let config = config("profiles", Some("driftline_canaries"));
    let names = &config.tables[0];
    let missing = check_canary(&config, names, "use1", &two.site(0), true).await.unwrap();
    assert!(
        missing.len() == 1 && missing[0].contains("driftline init"),
        "{missing:?}"
    );
    let made = init(&config, names, "use1", &two.site(0)).await.unwrap();
    assert!(
        made[0].contains("made table driftline_canaries") && made[1].contains("expire"),
        "{made:?}"
    );
    let again = init(&config, names, "use1", &two.site(0)).await.unwrap();
    assert_eq!(again, ["table driftline_canaries at use1 is there"]);
    let problems = check_canary(&config, names, "use1", &two.site(0), true).await.unwrap();
    assert_eq!(problems, Vec::<String>::new());
    let end = open(&config, names, "use1", &two.site(0)).await.unwrap();
    acknowledged(&end, &canary('a', 1)).await;
    assert_eq!(poll(&end, &[1]).await.unwrap().canaries, [canary('a', 1)]);
    assert_eq!(
        poll(&two.ends[0], &[1]).await.unwrap().canaries,
        [],
        "in the table itself"
    );
    assert_eq!(end.identify.identity().await.unwrap().facts["table"], "profiles");
}

#[tokio::test]
async fn check_changes_nothing_and_names_an_index_that_canaries_enter() {
    let spec = TableSpec::new("profiles", "id", ScalarAttributeType::S).sorted_by("at", ScalarAttributeType::S);
    let two = Two::start(Kind::Local, spec).await;
    let key = |name: &str, role| {
        KeySchemaElement::builder()
            .attribute_name(name)
            .key_type(role)
            .build()
            .unwrap()
    };
    let index = CreateGlobalSecondaryIndexAction::builder()
        .index_name("inverted")
        .key_schema(key("at", KeyType::Hash))
        .key_schema(key("id", KeyType::Range))
        .projection(Projection::builder().projection_type(ProjectionType::KeysOnly).build());
    let update = GlobalSecondaryIndexUpdate::builder()
        .create(index.build().unwrap())
        .build();
    let defined = |name: &str| {
        AttributeDefinition::builder()
            .attribute_name(name)
            .attribute_type(ScalarAttributeType::S)
            .build()
            .unwrap()
    };
    let alter = two.pair.client(0).update_table().table_name("profiles");
    alter
        .attribute_definitions(defined("id"))
        .attribute_definitions(defined("at"))
        .global_secondary_index_updates(update)
        .send()
        .await
        .unwrap();
    let config = config("profiles", None);
    let problems = check_canary(&config, &config.tables[0], "use1", &two.site(0), true)
        .await
        .unwrap();
    assert!(
        problems.len() == 1 && problems[0].contains("index inverted"),
        "{problems:?}"
    );
    let left = two.pair.client(0).scan().table_name("profiles").send().await.unwrap();
    assert_eq!(left.count(), 0, "check wrote something");
}

#[tokio::test]
async fn check_tells_a_right_that_is_missing() {
    let server = Scripted::start().await;
    let config = config("profiles", None);
    let secrets = secrets();
    let site = site(0, &server.endpoint(), &secrets);
    server.fail(
        "PutItem",
        400,
        "AccessDeniedException",
        "not authorized to perform dynamodb:PutItem",
    );
    let problems = check_canary(&config, &config.tables[0], "use1", &site, true)
        .await
        .unwrap();
    assert!(
        problems.len() == 1 && problems[0].contains("dynamodb:PutItem"),
        "{problems:?}"
    );
    let as_reader = check_canary(&config, &config.tables[0], "use1", &site, false)
        .await
        .unwrap();
    assert_eq!(as_reader, Vec::<String>::new());
    assert_eq!(server.requests("PutItem").len(), 1, "a reader's site was written to");
    server.fail("GetItem", 400, "ExpiredTokenException", "expired");
    let error = check_canary(&config, &config.tables[0], "use1", &site, false)
        .await
        .unwrap_err();
    assert!(matches!(error, StoreError::Config(_)), "{error}");
}

#[test]
fn what_init_prints_is_the_least_that_is_needed() {
    let own = config("profiles", Some("driftline_canaries"));
    let site = site(0, "http://127.0.0.1:1", &secrets());
    let text = init_text(&own, &own.tables[0], "use1", &site, None).unwrap();
    for words in [
        "create-table --region us-east-1 --table-name driftline_canaries",
        "--replica-updates",
        "arn:aws:dynamodb:us-east-1:ACCOUNT:table/driftline_canaries",
        "\"dynamodb:LeadingKeys\"",
        "\"driftline-canary/*\"",
    ] {
        assert!(text.contains(words), "{words}\n{text}");
    }
    let carried = config("profiles", None);
    let prefix = "arn:aws:dynamodb:us-east-1:123456789012:table/";
    let text = init_text(&carried, &carried.tables[0], "use1", &site, Some(prefix)).unwrap();
    assert!(
        text.contains("123456789012:table/profiles") && !text.contains("create-table"),
        "{text}"
    );
    let policy: serde_json::Value = serde_json::from_str(&text[text.find('{').unwrap()..]).unwrap();
    let rights = policy["Statement"][0]["Action"].as_array().unwrap();
    assert_eq!(rights.len(), 3, "{rights:?}");
}
