//! The same data twice is recognised, and two copies are not taken for one.

use super::setup::{One, Two, eventually, sessions};
use crate::aurora::{Connection, Endpoint};
use crate::{Identity, Role};

async fn identity(config: &crate::aurora::Config, site: &str) -> Identity {
    let connection = Connection::new(config, site, Endpoint::Reader).unwrap();
    connection.identify.identity().await.unwrap()
}

#[tokio::test]
async fn one_database_reached_twice_is_the_same_data() {
    let one = One::start().await;
    one.server.execute("postgres", "create database other").await.unwrap();
    let mut config = one.config.clone();
    let mut again = config.sites["use1"].clone();
    again.writer = format!("postgresql://driftline@localhost:{}/app", one.server.port())
        .parse()
        .unwrap();
    config.sites.insert("again".to_owned(), again);
    let mut other = config.sites["use1"].clone();
    other.writer = other.writer.with_database("other");
    config.sites.insert("other".to_owned(), other);

    let here = identity(&config, "use1").await;
    assert_eq!(here.role, Role::Writable);
    assert!(here.version.starts_with("15"), "{}", here.version);
    assert_eq!(here.facts["database"], "app");
    assert_eq!(here.facts["aurora"], "no");
    assert!(here.same_data(&identity(&config, "again").await));
    assert!(
        !here.same_data(&identity(&config, "other").await),
        "another database of the server is other data"
    );

    let lease = sessions(&one.config, "use1", 1).lease().await.unwrap();
    assert_eq!(
        lease.who().instance(),
        here.instance,
        "a lease and an identity name an instance alike"
    );
}

/// One server answers on two addresses; the certificate is good for one of them.
#[tokio::test]
async fn another_address_is_not_another_copy() {
    let one = One::with(lab::PgOptions {
        settings: vec![("listen_addresses".to_owned(), "127.0.0.1,127.0.0.2".to_owned())],
        ..super::setup::options()
    })
    .await;
    let mut config = one.config.clone();
    let mut elsewhere = config.sites["use1"].clone();
    elsewhere.writer = format!("postgresql://driftline@127.0.0.2:{}/app", one.server.port())
        .parse()
        .unwrap();
    config.sites.insert("elsewhere".to_owned(), elsewhere);
    let error = sessions(&config, "elsewhere", 1).lease().await.unwrap_err();
    assert!(error.to_string().contains("not trusted for this host"), "{error}");
    assert!(matches!(error, crate::StoreError::Config(_)), "{error:?}");

    config.tls = crate::aurora::Tls::Disable;
    let (here, there) = (identity(&config, "use1").await, identity(&config, "elsewhere").await);
    assert_ne!(here.facts["address"], there.facts["address"]);
    assert!(here.same_data(&there));
}

#[tokio::test]
async fn a_pair_is_two_copies_of_one_origin_also_after_a_promotion() {
    let two = Two::start().await;
    let (primary, standby) = (identity(&two.config, "use1").await, identity(&two.config, "usw2").await);
    assert!(!primary.same_data(&standby));
    assert_eq!(primary.lineage, standby.lineage);
    assert_eq!((primary.role, standby.role), (Role::Writable, Role::ReadOnly));

    // A session that was open before goes on after a promotion, and so does one that is opened behind it.
    let open = Connection::new(&two.config, "usw2", Endpoint::Reader).unwrap();
    assert_eq!(open.identify.identity().await.unwrap(), standby);
    two.pair.promote().await.unwrap();
    let promoted = identity(&two.config, "usw2").await;
    assert_eq!(promoted.role, Role::Writable);
    assert_eq!(open.identify.identity().await.unwrap(), promoted);
    assert_eq!(
        promoted.instance, standby.instance,
        "a promotion does not make another instance"
    );
}

#[tokio::test]
async fn a_restart_makes_another_instance() {
    let one = One::start().await;
    let before = identity(&one.config, "use1").await;
    one.server.stop().await.unwrap();
    one.server.start_again().await.unwrap();
    let after = eventually("the server is back", async || {
        one.connection().identify.identity().await.ok()
    })
    .await;
    assert_ne!(before.instance, after.instance);
    assert_eq!(before.lineage, after.lineage);
}
