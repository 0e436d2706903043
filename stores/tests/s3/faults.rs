//! Faults of the store and of the way to it: what is certain after each, and what is not.

use stores::s3::KeySet;
use stores::{Covers, End, Sought, StoreError, WriteOutcome};

use super::scripted::{Answer, Scripted, error};
use super::setup::{Map, STREAM, canary, sequences};

async fn end_at(endpoint: String) -> (Map, End) {
    let buckets = ["here".to_owned(), "there".to_owned()];
    let map = Map::new([endpoint.clone(), endpoint], &buckets, None);
    let keys = KeySet {
        rule: None,
        prefix: String::new(),
        tags: std::collections::BTreeMap::new(),
        destination: None,
    };
    let end = map.end(&keys, 0).await;
    (map, end)
}

/// Nothing is in any slot, and a write is answered so.
async fn write_answered(answer: Answer) -> WriteOutcome {
    let server = Scripted::start(move |method, _| match method {
        "PUT" => answer.clone(),
        _ => error(404, "NoSuchKey"),
    })
    .await;
    let (_map, end) = end_at(server.endpoint()).await;
    end.canary_writer.unwrap().write(&canary(1)).await
}

async fn poll_answered(
    answers: impl Fn(&str, &str) -> Answer + Send + Sync + 'static,
    sought: Sought<'_>,
) -> stores::Result<stores::Sighting> {
    let server = Scripted::start(answers).await;
    let (_map, end) = end_at(server.endpoint()).await;
    end.canary_reader.unwrap().poll(STREAM, sought).await
}

#[tokio::test]
async fn a_refused_write_is_failed() {
    for (status, code, kind) in [
        (503, "SlowDown", "retryable"),
        (403, "AccessDenied", "denied"),
        (403, "ExpiredToken", "config"),
        (400, "ExpiredToken", "config"),
        (403, "SignatureDoesNotMatch", "config"),
        (404, "NoSuchBucket", "not_found"),
        (409, "ConditionalRequestConflict", "retryable"),
        (412, "PreconditionFailed", "config"),
        (501, "NotImplemented", "unsupported"),
    ] {
        let outcome = write_answered(error(status, code)).await;
        assert!(
            matches!(&outcome, WriteOutcome::Failed(e) if e.kind() == kind),
            "{code}: {outcome:?}"
        );
    }
    let WriteOutcome::Failed(StoreError::Retryable { after, .. }) = write_answered(error(503, "SlowDown")).await else {
        panic!("not retryable");
    };
    assert!(after.is_some(), "S3 asks to slow down");
}

#[tokio::test]
async fn a_write_that_may_have_reached_the_store_is_unknown() {
    for answer in [
        error(500, "InternalError"),
        error(503, "ServiceUnavailable"),
        error(502, ""),
        error(408, "RequestTimeout"),
        Answer::Cut,
        Answer::Http(504, "", "<html>a gateway gave up</html>".to_owned()),
    ] {
        let outcome = write_answered(answer.clone()).await;
        assert!(matches!(outcome, WriteOutcome::Unknown(_)), "{answer:?}: {outcome:?}");
    }
}

#[tokio::test]
async fn a_write_that_is_not_answered_is_unknown_before_its_caller_gives_up() {
    let outcome = tokio::time::timeout(std::time::Duration::from_secs(60), write_answered(Answer::Silence)).await;
    let outcome = outcome.unwrap();
    assert!(
        matches!(&outcome, WriteOutcome::Unknown(StoreError::Retryable { trouble, .. }) if trouble.cause.contains("timeout")),
        "{outcome:?}"
    );
}

#[tokio::test]
async fn where_nobody_listens_nothing_was_written() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    drop(listener);
    let (_map, end) = end_at(format!("http://127.0.0.1:{port}")).await;
    let outcome = end.canary_writer.unwrap().write(&canary(1)).await;
    assert!(
        matches!(outcome, WriteOutcome::Failed(StoreError::Unreachable(_))),
        "{outcome:?}"
    );
    let polled = end.canary_reader.unwrap().poll(STREAM, Sought::Only(&[1])).await;
    assert!(matches!(polled, Err(StoreError::Unreachable(_))), "{polled:?}");
}

#[tokio::test]
async fn a_poll_that_was_not_answered_shows_nothing() {
    for (answer, kind) in [
        (error(503, "SlowDown"), "retryable"),
        (error(500, "InternalError"), "retryable"),
        (error(403, ""), "denied"),
        (Answer::Cut, "retryable"),
    ] {
        for sought in [Sought::Only(&[1, 2]), Sought::All] {
            let answer = answer.clone();
            let error = poll_answered(move |_, _| answer.clone(), sought).await.unwrap_err();
            assert_eq!(error.kind(), kind, "{sought:?}: {error}");
            assert_eq!(error.trouble().site, "use1");
        }
    }
}

/// A web page that says 404 to everything is no empty bucket.
#[tokio::test]
async fn a_404_of_somebody_else_is_no_miss() {
    let page = Answer::Http(404, "Content-Type: text/html\r\n", "<html>not found</html>".to_owned());
    for sought in [Sought::Only(&[1, 2]), Sought::All] {
        let page = page.clone();
        let polled = poll_answered(move |_, _| page.clone(), sought).await;
        assert!(matches!(polled, Err(StoreError::NotFound(_))), "{sought:?}: {polled:?}");
    }
}

/// One slot is throttled, one is empty: only the empty one is covered.
#[tokio::test]
async fn a_throttled_slot_is_not_covered() {
    let script = |_: &str, path: &str| match path.contains("/002") {
        true => error(503, "SlowDown"),
        false => error(404, "NoSuchKey"),
    };
    let sighting = poll_answered(script, Sought::Only(&[1, 2, 257])).await.unwrap();
    assert_eq!(
        (sequences(&sighting), sighting.covers),
        (vec![], Covers::Slots(vec![1, 257]))
    );
}

/// A listing that goes on for ever is an error, not a ring.
#[tokio::test]
async fn a_listing_without_an_end_is_refused() {
    let page = "<?xml version=\"1.0\"?><ListBucketResult><IsTruncated>true</IsTruncated>\
                <NextContinuationToken>again</NextContinuationToken></ListBucketResult>";
    let script = move |_: &str, _: &str| Answer::Http(200, "Content-Type: application/xml\r\n", page.to_owned());
    let polled = poll_answered(script, Sought::All).await;
    assert!(matches!(polled, Err(StoreError::Corrupt(_))), "{polled:?}");
}

#[tokio::test]
async fn no_error_tells_the_secret() {
    for answer in [error(403, "SignatureDoesNotMatch"), Answer::Cut] {
        let outcome = write_answered(answer).await;
        assert!(!format!("{outcome:?}").contains(lab::S3_SECRET_KEY), "{outcome:?}");
    }
    let (_map, end) = end_at("http://127.0.0.1:9".to_owned()).await;
    assert!(!format!("{end:?}").contains(lab::S3_SECRET_KEY));
}
