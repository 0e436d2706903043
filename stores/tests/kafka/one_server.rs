//! One real cluster at both ends: rights, logins, and topics that go.

use lab::KafkaServer;
use stores::kafka::{Auth, Config, InitSpec, Mechanism, Tls, check_canary, init, open, partitions};
use stores::secret::Secret;
use stores::{End, Sought, StoreError, WriteOutcome};

use super::setup::{STREAM, TOPIC, canary, config, poll, reader, sequences, until, write, writer};

fn identity_config(server: &KafkaServer) -> Config {
    let mut config = config(server.bootstrap(), server.bootstrap());
    config.mapping.clear();
    config
}

fn ends(config: &Config) -> [End; 2] {
    open(config, "use1", "usw2", 0).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_topic_is_made_once_and_its_end_in_mid_run_is_said() {
    let server = KafkaServer::start_alone().await.unwrap();
    let config = identity_config(&server);
    let error = partitions(&config, "use1").await.unwrap_err();
    assert!(matches!(error, StoreError::NotFound(_)), "{error:?}");
    let problems = check_canary(&config, "use1", "usw2").await.unwrap();
    assert!(problems[0].contains("run `driftline init`"), "{problems:?}");
    let spec = InitSpec {
        partitions: 2,
        replication: None,
    };
    for _ in 0..2 {
        init(&config, "use1", &spec).await.unwrap();
    }
    let [primary, secondary] = ends(&config);
    for sequence in 1..=3 {
        write(&primary, &canary('a', sequence)).await;
    }
    let (before, _) = until(&secondary, |sighting, _| sequences(sighting) == [1, 2, 3]).await;
    server.delete_topic(TOPIC).await.unwrap();
    let gone = until_error(&secondary).await;
    assert!(matches!(gone, StoreError::NotFound(_)), "{gone:?}");
    let outcome = writer(&primary).write(&canary('a', 4)).await;
    assert!(!matches!(outcome, WriteOutcome::Acknowledged), "{outcome:?}");
    init(&config, "use1", &spec).await.unwrap();
    write_when_it_can(&primary, 5).await;
    let (after, _) = until(&secondary, |sighting, _| sequences(sighting).contains(&5)).await;
    assert_eq!(
        sequences(&after).first(),
        Some(&5),
        "what was in the old topic is in no other"
    );
    assert_ne!(
        before.instance, after.instance,
        "a miss in the old topic says nothing of the new"
    );
}

async fn until_error(end: &End) -> StoreError {
    let deadline = tokio::time::Instant::now() + super::setup::PATIENCE;
    loop {
        match reader(end).poll(STREAM, Sought::All).await {
            Err(error) if !error.is_passing() => return error,
            other => assert!(tokio::time::Instant::now() < deadline, "never: {other:?}"),
        }
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
}

async fn write_when_it_can(end: &End, sequence: u64) {
    let deadline = tokio::time::Instant::now() + super::setup::PATIENCE;
    loop {
        match writer(end).write(&canary('b', sequence)).await {
            WriteOutcome::Acknowledged => return,
            other => assert!(tokio::time::Instant::now() < deadline, "never: {other:?}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn logins_over_tls_work_and_their_refusal_says_what_to_check() {
    let server = KafkaServer::start_alone().await.unwrap();
    let secrets = tempfile::tempdir().unwrap();
    let (user, password) = server.login();
    let secret = |name: &str, text: &str| {
        let path = secrets.path().join(name);
        std::fs::write(&path, text).unwrap();
        Secret::File(path)
    };
    init(&identity_config(&server), "use1", &InitSpec::default())
        .await
        .unwrap();
    let login = |mechanism, password: Secret| {
        let mut config = identity_config(&server);
        config.tls = Tls::CaFile(server.ca_file());
        config.auth = Some(Auth {
            mechanism,
            user: user.to_owned(),
            password,
        });
        let sites = config.sites.values_mut();
        sites.for_each(|site| site.bootstrap = server.secure_bootstrap());
        config
    };
    let mut sequence = 0;
    for mechanism in [Mechanism::Plain, Mechanism::ScramSha256, Mechanism::ScramSha512] {
        let [primary, secondary] = ends(&login(mechanism, secret("right", password)));
        sequence += 1;
        write(&primary, &canary('a', sequence)).await;
        assert_eq!(
            sequences(&poll(&secondary).await).last(),
            Some(&sequence),
            "{mechanism:?}"
        );
        let [refused, _] = ends(&login(mechanism, secret("wrong", "lab-wrong")));
        let error = refused.identify.identity().await.unwrap_err();
        let text = error.to_string();
        assert!(matches!(error, StoreError::Config(_)), "{mechanism:?}: {error:?}");
        assert!(
            text.contains("user and password") && !text.contains("lab-wrong"),
            "{text}"
        );
    }
    let mut stranger = login(Mechanism::ScramSha256, secret("right", password));
    stranger.tls = Tls::System;
    let [untrusted, _] = ends(&stranger);
    let error = untrusted.identify.identity().await.unwrap_err();
    assert!(
        matches!(&error, StoreError::Config(trouble) if trouble.hint.contains("ca_file")),
        "{error:?}"
    );
}
