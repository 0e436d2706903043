//! Every way in which a request ends badly, and what is said of it.

use stores::{Covers, End, Sought, StoreError};

use super::scripted::{Answer, Scripted};
use super::setup::{
    Kind, STREAM, Two, acknowledged, by_text, canary, end, poll, refused, secrets, site, text, unknown,
};

async fn scripted() -> (Scripted, End) {
    let server = Scripted::start().await;
    let end = end(&site(0, &server.endpoint(), &secrets()), "use1", "profiles").await;
    (server, end)
}

#[tokio::test]
async fn what_the_service_rejects_was_not_written() {
    let (server, end) = scripted().await;
    for (status, code, kind) in [
        (400, "ProvisionedThroughputExceededException", "retryable"),
        (400, "ThrottlingException", "retryable"),
        (400, "RequestLimitExceeded", "retryable"),
        (400, "ValidationException", "unsupported"),
        (400, "AccessDeniedException", "denied"),
        (400, "ResourceNotFoundException", "not_found"),
        (400, "ExpiredTokenException", "config"),
        (400, "UnrecognizedClientException", "config"),
    ] {
        server.fail("PutItem", status, code, "words of the service");
        let error = refused(&end, &canary('a', 1)).await;
        assert_eq!(error.kind(), kind, "{code}: {error}");
        assert!(error.to_string().contains("words of the service"), "{error}");
    }
    assert_eq!(server.requests("PutItem").len(), 8, "a rejected write was sent again");
}

#[tokio::test]
async fn what_may_have_been_written_is_unknown_and_never_sent_again() {
    let (server, end) = scripted().await;
    server.fail("PutItem", 500, "InternalServerError", "words");
    server.fail("PutItem", 503, "ServiceUnavailable", "words");
    server.next("PutItem", Answer::Json(502, "<html>".to_owned()));
    server.next("PutItem", Answer::Json(200, "not JSON".to_owned()));
    server.next("PutItem", Answer::HangUp);
    for sent in 1..=5 {
        let error = unknown(&end, &canary('a', sent)).await;
        assert!(error.to_string().contains("table profiles"), "{error}");
        assert_eq!(server.requests("PutItem").len(), usize::try_from(sent).unwrap());
    }
}

#[tokio::test]
async fn a_write_without_an_answer_is_unknown() {
    let (server, end) = scripted().await;
    server.next("PutItem", Answer::Silence);
    let error = unknown(&end, &canary('a', 1)).await;
    assert!(error.is_passing(), "{error}");
    assert_eq!(server.requests("PutItem").len(), 1);
}

#[tokio::test]
async fn a_write_that_reached_nobody_failed() {
    let (server, end) = scripted().await;
    acknowledged(&end, &canary('a', 1)).await;
    drop(server);
    let two = Two::start(Kind::Embedded, by_text("profiles")).await;
    acknowledged(&two.ends[0], &canary('a', 1)).await;
    let port = two.pair.endpoint(0);
    let end_of_it = super::setup::end(&two.site(0), "use1", "profiles").await;
    acknowledged(&end_of_it, &canary('a', 2)).await;
    drop(two);
    let error = match super::setup::write(&end_of_it, &canary('a', 3)).await {
        stores::WriteOutcome::Failed(error) => error,
        // The connection that was kept open may be found closed only after the request was put on it.
        stores::WriteOutcome::Unknown(_) => refused(&end_of_it, &canary('a', 3)).await,
        stores::WriteOutcome::Acknowledged => panic!("acknowledged by nobody"),
    };
    assert!(matches!(error, StoreError::Unreachable(_)), "{port}: {error}");
}

#[tokio::test]
async fn expired_credentials_are_told_without_secrets() {
    let (server, end) = scripted().await;
    let message = r"The security token included in the request is expired\nx-amz-security-token:lab-secret";
    server.fail("BatchGetItem", 400, "ExpiredTokenException", message);
    let error = poll(&end, &[1]).await.unwrap_err();
    let shown = format!("{error} {error:?}");
    assert!(matches!(error, StoreError::Config(_)), "{error}");
    for words in [
        "use1",
        "ExpiredTokenException",
        "token included",
        "renew the credentials",
    ] {
        assert!(shown.contains(words), "{words}: {shown}");
    }
    assert!(!shown.contains("lab-secret"), "{shown}");
}

fn unprocessed(slots: &[u64]) -> Answer {
    let key = |slot: &u64| format!(r#"{{"id":{{"S":"driftline-canary/{STREAM}/{slot}"}}}}"#);
    let keys: Vec<String> = slots.iter().map(key).collect();
    Answer::Json(
        200,
        format!(
            r#"{{"Responses":{{}},"UnprocessedKeys":{{"profiles":{{"Keys":[{}]}}}}}}"#,
            keys.join(",")
        ),
    )
}

#[tokio::test]
async fn a_slot_that_was_not_processed_is_no_miss() {
    let (server, end) = scripted().await;
    server.next("BatchGetItem", unprocessed(&[2, 3]));
    let seen = poll(&end, &[1, 2, 3, 4, 4_098]).await.unwrap();
    assert_eq!(seen.covers, Covers::Slots(vec![1, 4]));
    assert_eq!(server.requests("BatchGetItem").len(), 1, "a poll asks once");
    assert!(server.requests("BatchGetItem")[0].contains(r#""ConsistentRead":true"#));
    server.next("BatchGetItem", unprocessed(&[1, 2]));
    let nothing = poll(&end, &[1, 2]).await.unwrap_err();
    assert!(nothing.is_passing(), "{nothing}");
}

#[tokio::test]
async fn the_whole_ring_is_read_or_an_error() {
    let (server, end) = scripted().await;
    let reader = end.canary_reader.as_ref().unwrap();
    server.next("BatchGetItem", unprocessed(&[2, 3]));
    assert_eq!(reader.poll(STREAM, Sought::All).await.unwrap().covers, Covers::Ring);
    assert_eq!(
        server.requests("BatchGetItem").len(),
        42,
        "the slots left over are asked for again"
    );
    for _ in 0..41 + 4 {
        server.fail("BatchGetItem", 400, "ProvisionedThroughputExceededException", "words");
    }
    let writer = end.canary_writer.as_ref().unwrap();
    // The first round fails whole, later ones in part: in the end all is read.
    assert_eq!(writer.highest_sequence(STREAM).await, Ok(0));
    for _ in 0..41 * 5 {
        server.fail("BatchGetItem", 400, "ProvisionedThroughputExceededException", "words");
    }
    let error = writer.highest_sequence(STREAM).await.unwrap_err();
    assert!(matches!(error, StoreError::Retryable { after: Some(_), .. }), "{error}");
}

#[tokio::test]
async fn batches_hold_a_hundred_keys_and_each_slot_once() {
    let (server, end) = scripted().await;
    let twice: Vec<u64> = (1..=150).chain(4_097..=4_100).collect();
    poll(&end, &twice).await.unwrap();
    let keys: Vec<usize> = server
        .requests("BatchGetItem")
        .iter()
        .map(|body| body.matches("driftline-canary/").count())
        .collect();
    assert_eq!(keys.iter().sum::<usize>(), 150);
    assert!(keys.len() == 2 && keys.iter().all(|count| *count <= 100), "{keys:?}");
}

/// Removed in mid-run, and made again with another key.
async fn a_removed_table_is_told_and_found_again(kind: Kind) {
    let two = Two::start(kind, by_text("profiles")).await;
    acknowledged(&two.ends[0], &canary('a', 1)).await;
    poll(&two.ends[0], &[1]).await.unwrap();
    let client = two.pair.client(0);
    client.delete_table().table_name("profiles").send().await.unwrap();
    for error in [
        refused(&two.ends[0], &canary('a', 2)).await,
        poll(&two.ends[0], &[2]).await.unwrap_err(),
        two.ends[0].identify.identity().await.unwrap_err(),
    ] {
        assert!(matches!(error, StoreError::NotFound(_)), "{error}");
        assert!(error.to_string().contains("driftline init"), "{error}");
    }
    let other = aws_sdk_dynamodb::types::AttributeDefinition::builder()
        .attribute_name("other")
        .attribute_type(aws_sdk_dynamodb::types::ScalarAttributeType::N);
    let key = aws_sdk_dynamodb::types::KeySchemaElement::builder()
        .attribute_name("other")
        .key_type(aws_sdk_dynamodb::types::KeyType::Hash);
    let make = client.create_table().table_name("profiles");
    make.attribute_definitions(other.build().unwrap())
        .key_schema(key.build().unwrap())
        .billing_mode(aws_sdk_dynamodb::types::BillingMode::PayPerRequest)
        .send()
        .await
        .unwrap();
    acknowledged(&two.ends[0], &canary('a', 3)).await;
    assert_eq!(poll(&two.ends[0], &[3]).await.unwrap().canaries, [canary('a', 3)]);
}

#[tokio::test]
async fn a_removed_table_is_told() {
    a_removed_table_is_told_and_found_again(Kind::Embedded).await;
}

#[tokio::test]
async fn and_so_in_dynamodb_local() {
    a_removed_table_is_told_and_found_again(Kind::Local).await;
}

#[tokio::test]
async fn a_cut_network_is_told_and_mends() {
    let two = Two::start(Kind::Embedded, by_text("profiles")).await;
    acknowledged(&two.ends[0], &canary('a', 1)).await;
    two.pair.relay(0).cut();
    let error = poll(&two.ends[0], &[1]).await.unwrap_err();
    assert!(error.is_passing(), "{error}");
    two.pair.relay(0).restore();
    assert_eq!(poll(&two.ends[0], &[1]).await.unwrap().canaries, [canary('a', 1)]);
    assert!(
        two.item(0, &format!("driftline-canary/{STREAM}/1"))
            .await
            .unwrap()
            .values()
            .any(|value| *value == text(STREAM))
    );
}
