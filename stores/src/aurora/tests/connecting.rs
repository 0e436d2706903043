//! What a connection that does not come about means to the caller.

use lab::PgServer;
use tokio::net::TcpListener;

use super::setup::{Files, One, options, sessions};
use crate::StoreError;
use crate::aurora::{Auth, Config, Connection, Endpoint, Tls, Url};

async fn refusal(config: &Config) -> StoreError {
    sessions(config, "use1", 1).lease().await.unwrap_err()
}

fn elsewhere(config: &Config, change: impl Fn(&Url) -> String) -> Config {
    let mut config = config.clone();
    let endpoints = config.sites.get_mut("use1").unwrap();
    endpoints.writer = change(&endpoints.writer).parse().unwrap();
    config
}

#[tokio::test]
async fn what_only_a_person_can_change_is_a_fault_of_the_configuration() {
    let one = One::start().await;
    let right = &one.config;
    sessions(right, "use1", 1).lease().await.unwrap();

    let wrong_password = Config {
        auth: one.files.secret("wrong", "hunter2"),
        ..right.clone()
    };
    let error = refusal(&wrong_password).await;
    assert!(matches!(error, StoreError::Config(_)), "{error:?}");
    assert!(
        error.to_string().contains("28P01") && !error.to_string().contains("hunter2"),
        "{error}"
    );

    let no_password = Config {
        auth: Auth::Trusted,
        ..right.clone()
    };
    assert!(matches!(refusal(&no_password).await, StoreError::Config(_)));

    let stranger = elsewhere(right, |url| {
        format!("postgresql://stranger@127.0.0.1:{}/app", url.port())
    });
    assert!(matches!(refusal(&stranger).await, StoreError::Config(_)));

    let no_database = elsewhere(right, |url| {
        format!("postgresql://driftline@127.0.0.1:{}/absent", url.port())
    });
    let error = refusal(&no_database).await;
    assert!(matches!(error, StoreError::Config(_)), "{error:?}");
    assert!(
        error.to_string().contains("absent") && error.to_string().contains("site use1"),
        "{error}"
    );
}

#[tokio::test]
async fn tls_is_verified_and_its_faults_are_told_apart() {
    let one = One::with(lab::PgOptions {
        tls: lab::Tls::Required,
        ..options()
    })
    .await;
    let right = &one.config;
    sessions(right, "use1", 1).lease().await.unwrap();
    let by_name = elsewhere(right, |url| {
        format!("postgresql://driftline@localhost:{}/app", url.port())
    });
    sessions(&by_name, "use1", 1).lease().await.unwrap();

    let with = |tls: Tls| Config { tls, ..right.clone() };
    let error = refusal(&with(Tls::Disable)).await;
    assert!(matches!(error, StoreError::Config(_)), "{error:?}");
    assert!(error.to_string().contains("wants TLS"), "{error}");

    let stranger = PgServer::start(options()).await.unwrap();
    let error = refusal(&with(Tls::CaFile(stranger.ca_file()))).await;
    assert!(matches!(error, StoreError::Config(_)), "{error:?}");
    assert!(error.to_string().contains("not trusted"), "{error}");

    let absent = with(Tls::CaFile("/does/not/exist.pem".into()));
    assert!(matches!(refusal(&absent).await, StoreError::Config(_)));
    let no_certificate = tempfile::NamedTempFile::new().unwrap();
    let empty = with(Tls::CaFile(no_certificate.path().to_owned()));
    let error = refusal(&empty).await;
    assert!(error.to_string().contains("no certificate"), "{error}");

    // The certificate is for localhost and 127.0.0.1.
    let proxied = elsewhere(right, |url| {
        format!("postgresql://driftline@127.0.0.1:{}/app", url.port())
    });
    sessions(&proxied, "use1", 1).lease().await.unwrap();
}

#[tokio::test]
async fn a_server_without_tls_is_refused() {
    let one = One::start().await;
    one.server.alter_system("set ssl = off").await.unwrap();
    let error = super::setup::eventually("the server turns TLS off", async || {
        sessions(&one.config, "use1", 1).lease().await.err()
    })
    .await;
    assert!(matches!(error, StoreError::Config(_)), "{error:?}");
    assert!(error.to_string().contains("does not support TLS"), "{error}");
}

#[tokio::test]
async fn nobody_at_the_address_is_unreachable() {
    let files = Files::new();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    drop(listener);
    let config = loopback_config(&files, port);
    let error = refusal(&config).await;
    assert!(matches!(error, StoreError::Unreachable(_)), "{error:?}");
    assert!(error.to_string().contains("refused"), "{error}");
}

#[tokio::test]
async fn a_connection_that_is_dropped_at_once_is_unreachable() {
    let files = Files::new();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let config = loopback_config(&files, listener.local_addr().unwrap().port());
    let drops = tokio::spawn(async move {
        let (stream, _) = listener.accept().await.unwrap();
        drop(stream);
    });
    let error = refusal(&config).await;
    drops.await.unwrap();
    assert!(matches!(error, StoreError::Unreachable(_)), "{error:?}");
}

/// Time is paused: it leaps to the time-out as soon as nothing else can happen.
#[tokio::test(start_paused = true)]
async fn a_host_that_never_answers_is_given_up() {
    let files = Files::new();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let config = loopback_config(&files, listener.local_addr().unwrap().port());
    let error = refusal(&config).await;
    assert!(matches!(error, StoreError::Unreachable(_)), "{error:?}");
}

#[tokio::test]
async fn a_server_that_starts_up_is_worth_another_try() {
    let one = One::start().await;
    one.server
        .execute("postgres", "alter database app connection limit 0")
        .await
        .unwrap();
    let error = refusal(&one.config).await;
    assert!(matches!(error, StoreError::Retryable { .. }), "{error:?}");
    one.server
        .execute("postgres", "alter database app connection limit -1")
        .await
        .unwrap();
    one.server
        .execute("postgres", "revoke connect on database app from driftline, public")
        .await
        .unwrap();
    let error = refusal(&one.config).await;
    assert!(matches!(error, StoreError::Denied(_)), "{error:?}");
}

#[test]
fn what_cannot_work_is_refused_before_anything_is_opened() {
    let files = Files::new();
    let mut config = loopback_config(&files, 5432);
    config.auth = Auth::Iam;
    let error = Connection::new(&config, "use1", Endpoint::Writer).unwrap_err();
    assert!(matches!(error, StoreError::Unsupported(_)), "{error:?}");

    let mut config = loopback_config(&files, 5432);
    config.sites.get_mut("use1").unwrap().reader = Some("postgresql://u@db.example/app".parse().unwrap());
    let error = Connection::new(&config, "use1", Endpoint::Writer).unwrap_err();
    assert!(error.to_string().contains("db.example"), "{error}");

    let error = Connection::new(&loopback_config(&files, 5432), "usw9", Endpoint::Writer).unwrap_err();
    assert!(matches!(error, StoreError::Config(_)), "{error:?}");
    assert!(error.to_string().contains("it has use1"), "{error}");
}

fn loopback_config(files: &Files, port: u16) -> Config {
    let endpoints = crate::aurora::Endpoints {
        writer: format!("postgresql://driftline@127.0.0.1:{port}/app").parse().unwrap(),
        reader: None,
    };
    Config {
        auth: files.secret("password", "x"),
        tls: Tls::Disable,
        canary: crate::aurora::CanaryPlace::default(),
        relation: None,
        fence: None,
        writers: None,
        sites: [("use1".to_owned(), endpoints)].into(),
    }
}
