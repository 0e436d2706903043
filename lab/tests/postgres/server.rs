use std::sync::Arc;

use lab::{PgOptions, PgServer, Tls};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use rustls::{ClientConfig, RootCertStore};
use tokio_postgres::config::SslMode;
use tokio_postgres::{Config, NoTls};
use tokio_postgres_rustls::MakeRustlsConnect;

use crate::support::{NUMBERS, count};

fn over_tcp(server: &PgServer) -> Config {
    let mut config: Config = server.url("postgres", "postgres").parse().unwrap();
    config.password(server.password());
    config
}

fn trusting(server: &PgServer) -> MakeRustlsConnect {
    let mut roots = RootCertStore::empty();
    roots
        .add(CertificateDer::from_pem_file(server.ca_file()).unwrap())
        .unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    MakeRustlsConnect::new(config)
}

#[tokio::test]
async fn tls_is_there_and_vouched_for_by_the_labs_own_authority() {
    let (server, other) = tokio::join!(
        PgServer::start(PgOptions::default()),
        PgServer::start(PgOptions::default())
    );
    let (server, other) = (server.unwrap(), other.unwrap());
    let mut config = over_tcp(&server);
    config.ssl_mode(SslMode::Require);
    let (client, connection) = config.connect(trusting(&server)).await.unwrap();
    tokio::spawn(connection);
    let sql = "select ssl from pg_stat_ssl where pid = pg_backend_pid()";
    assert!(client.query_one(sql, &[]).await.unwrap().get::<_, bool>(0));
    assert!(
        config.connect(trusting(&other)).await.is_err(),
        "another lab's authority does not vouch for it"
    );
    assert!(
        over_tcp(&server).connect(NoTls).await.is_ok(),
        "without TLS it goes too, by default"
    );
}

#[tokio::test]
async fn required_tls_lets_nobody_in_without_it() {
    let options = PgOptions {
        tls: Tls::Required,
        ..PgOptions::default()
    };
    // A pair, because replication has to use TLS too.
    let pair = lab::PgPair::start(options).await.unwrap();
    let replication = "select ssl from pg_stat_replication join pg_stat_ssl using (pid)";
    assert_eq!(
        pair.primary().value("postgres", replication).await.unwrap().as_deref(),
        Some("t")
    );
    for server in [pair.primary(), pair.standby()] {
        let mut config = over_tcp(server);
        assert!(config.connect(NoTls).await.is_err());
        config.ssl_mode(SslMode::Require);
        assert!(config.connect(trusting(server)).await.is_ok());
    }
}

#[tokio::test]
async fn a_wrong_password_is_refused_and_none_is_in_the_url_or_in_errors() {
    let server = PgServer::start(PgOptions::default()).await.unwrap();
    let mut config = over_tcp(&server);
    config.password("wrong");
    assert!(config.connect(NoTls).await.is_err());
    assert!(!server.url("a b", "c/d").contains(server.password()));
    assert!(server.url("a b", "c/d").ends_with("/c%2Fd"));
    let sql = format!("create role r password '{}' no such option", server.password());
    let error = server.execute("postgres", &sql).await.unwrap_err().to_string();
    assert!(
        error.contains("create role r") && error.contains("syntax error"),
        "{error}"
    );
    assert!(!error.contains(server.password()), "{error}");
}

#[tokio::test]
async fn a_crash_keeps_what_was_committed_and_a_restart_keeps_the_port() {
    let server = PgServer::start(PgOptions::with_database("shop")).await.unwrap();
    server.execute("shop", NUMBERS).await.unwrap();
    server.execute("shop", "insert into numbers values (1)").await.unwrap();
    let port = server.port();
    server.kill9().await.unwrap();
    assert!(!server.is_running());
    assert!(server.execute("shop", "select 1").await.is_err());
    server.start_again().await.unwrap();
    assert_eq!(count(&server).await.as_deref(), Some("1"));
    let log = server.log_tail();
    assert!(
        log.contains("was not properly shut down") && log.contains("is ready"),
        "{log}"
    );
    server.restart().await.unwrap();
    server.start_again().await.unwrap();
    assert_eq!(count(&server).await.as_deref(), Some("1"));
    assert_eq!(server.port(), port);
}

#[tokio::test]
async fn settings_are_applied_and_a_server_that_cannot_start_tells_why() {
    let with = |name: &str, value: &str| PgOptions {
        settings: vec![(name.to_owned(), value.to_owned())],
        track_commit_timestamp: false,
        synchronous_commit: false,
        ..PgOptions::default()
    };
    let server = PgServer::start(with("work_mem", "5MB")).await.unwrap();
    for (name, value) in [
        ("work_mem", "5MB"),
        ("track_commit_timestamp", "off"),
        ("synchronous_commit", "off"),
    ] {
        let shown = server.value("postgres", &format!("show {name}")).await.unwrap();
        assert_eq!(shown.as_deref(), Some(value));
    }
    let error = PgServer::start(with("work_mem", "green"))
        .await
        .unwrap_err()
        .to_string();
    assert!(error.contains("work_mem") && error.contains("green"), "{error}");
}
