//! `driftline lab up`, and the pair that the demo plays on.

mod embedded;

use std::fmt::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result};
use lab::{PgOptions, PgPair, demo};
use stores::aurora::{self, Auth, Tls};
use stores::secret::Secret;

pub(crate) use self::embedded::Embedded;
use super::{Context, print};
use crate::cli::{Format, LabUpArgs};
use crate::config::Config;
use crate::exit::{Exit, Failure, Outcome};
use crate::stop;

/// The application's database in the lab.
pub(crate) const DATABASE: &str = "shop";
/// Where the primary is.
pub(crate) const OLD_SITE: &str = "use1";
/// Where the standby is.
pub(crate) const NEW_SITE: &str = "usw2";
/// The same rows in every lab.
const SEED: u32 = 7;
/// How long the standby may take to apply the rows of the shop.
const CATCH_UP_PATIENCE: Duration = Duration::from_secs(60);

/// A running pair with a shop, and a folder with its configuration.
#[derive(Debug)]
pub(crate) struct Stage {
    pub(crate) pair: PgPair,
    /// The other stores; probed, and never failed over.
    pub(crate) _embedded: Embedded,
    pub(crate) context: Context,
    pub(crate) config_file: PathBuf,
}

/// Starts a pair, fills a shop of `rows` rows, makes driftline's role and canary table, and writes the configuration into `folder`.
pub(crate) async fn stage(folder: &Path, rows: u32) -> Result<Stage> {
    std::fs::create_dir_all(folder).with_context(|| format!("make the folder {}", folder.display()))?;
    let folder = folder
        .canonicalize()
        .with_context(|| format!("find the folder {}", folder.display()))?;
    let pair = PgPair::start(PgOptions::with_database(DATABASE))
        .await
        .context("start a PostgreSQL pair")?;
    let embedded = Embedded::start(&folder).await?;
    let primary = pair.primary();
    demo::create_schema(primary, DATABASE)
        .await
        .context("create the shop's tables")?;
    demo::fill(primary, DATABASE, rows, SEED)
        .await
        .context("fill the shop's tables")?;

    let config_file = folder.join("driftline.toml");
    std::fs::write(&config_file, configuration(&folder, &pair, &embedded)?)
        .with_context(|| format!("write {}", config_file.display()))?;
    secret(
        &folder.join("driftline-password"),
        &format!("lab-of-port-{}", primary.port()),
    )?;
    let config = Config::load(&config_file)?;
    grant(&folder, &pair, &config).await?;
    pair.wait_replayed(CATCH_UP_PATIENCE)
        .await
        .context("wait until the standby has everything")?;
    let context = Context {
        output: config.output.clone(),
        config,
        format: Format::Human,
        file: config_file.clone(),
    };
    Ok(Stage {
        pair,
        _embedded: embedded,
        context,
        config_file,
    })
}

fn configuration(folder: &Path, pair: &PgPair, embedded: &Embedded) -> Result<String> {
    let ca_file = folder.join("ca.pem");
    std::fs::copy(pair.primary().ca_file(), &ca_file).context("copy the lab's certificate")?;
    let mut text = format!(
        "# Written by `driftline`: a PostgreSQL pair and stand-ins of the other stores, gone when the command ends.\n\
         here    = \"{NEW_SITE}\"\n\
         writers = [\"{OLD_SITE}\"]\n\
         output  = {out:?}\n\
         state   = {state:?}\n\
         ledger  = {{ path = {ledger:?} }}\n\
         listen  = \"127.0.0.1:0\"\n\n\
         [defaults]\nprobe = {{ rate = \"5/s\" }}\n\n\
         [site.{OLD_SITE}]\nregion = \"us-east-1\"\n{old}[site.{NEW_SITE}]\nregion = \"us-west-2\"\n{new}\n\
         [connection.shop-db.aurora]\n\
         auth = {{ password = {{ file = {password:?} }} }}\n\
         tls  = {{ ca_file = {ca_file:?} }}\n",
        old = embedded.site(folder, OLD_SITE),
        new = embedded.site(folder, NEW_SITE),
        out = folder.join("out"),
        state = folder.join("state"),
        ledger = folder.join("ledger"),
        password = folder.join("driftline-password"),
    );
    for (site, server) in [(OLD_SITE, pair.primary()), (NEW_SITE, pair.standby())] {
        write!(
            text,
            "[connection.shop-db.aurora.sites.{site}]\nwriter = \"postgresql://driftline@127.0.0.1:{}/{DATABASE}\"\n",
            server.port()
        )?;
    }
    text.push_str("\n[dataset.shop.aurora]\nconnection = \"shop-db\"\ntables = [\"public.*\"]\n");
    for table in demo::TABLES {
        writeln!(text, "table.\"{table}\" = {{ changed_at = \"updated_at\" }}")?;
    }
    text.push_str(&embedded.datasets());
    Ok(text)
}

/// Applies what `init --print` prints, as the lab's superuser, and gives the role its password.
async fn grant(folder: &Path, pair: &PgPair, config: &Config) -> Result<()> {
    let admin_file = folder.join("admin-password");
    let primary = pair.primary();
    secret(&admin_file, primary.password())?;
    let units = crate::topology::units(config);
    let unit = units.iter().find(|unit| unit.aurora().is_some());
    let unit = unit.context("the lab's configuration has a PostgreSQL connection")?;
    let aurora = unit
        .aurora()
        .context("the lab's configuration has a PostgreSQL connection")?;
    let admin: aurora::Url = primary
        .url("postgres", "postgres")
        .parse()
        .map_err(anyhow::Error::msg)?;
    let spec = super::init::spec(unit).map_err(|failure| failure.error)?;
    let tls = Tls::CaFile(folder.join("ca.pem"));
    aurora::init(OLD_SITE, &admin, &Auth::Password(Secret::File(admin_file)), &tls, &spec)
        .await
        .with_context(|| format!("make the role and the canary table of {}", aurora.canary.database))?;
    let password = std::fs::read_to_string(folder.join("driftline-password")).context("read the role's password")?;
    primary
        .execute("postgres", &format!("alter role {} password '{password}'", spec.role))
        .await
        .context("give the role its password")
}

fn secret(path: &Path, text: &str) -> Result<()> {
    use std::io::Write as _;
    let mut file = std::fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(path)
        .with_context(|| format!("write {}", path.display()))?;
    file.write_all(text.as_bytes())
        .with_context(|| format!("write {}", path.display()))
}

pub(super) async fn up(args: &LabUpArgs) -> Outcome {
    let stop = stop::on_signal()
        .context("listen for signals")
        .map_err(Failure::cannot_tell)?;
    let started = tokio::select! {
        stage = stage(&args.folder, args.rows) => stage.map_err(Failure::cannot_tell)?,
        () = stop.cancelled() => return Ok(Exit::CannotTell),
    };
    if let Some(delay) = args.replay_delay {
        started
            .pair
            .set_replay_delay(delay)
            .await
            .context("delay the standby")
            .map_err(Failure::cannot_tell)?;
    }
    let config = std::fs::read_to_string(&started.config_file)
        .context("read the configuration")
        .map_err(Failure::cannot_tell)?;
    print::line(&format!(
        "{config}\n# Running until Ctrl-C. Try, in another terminal:\n#   driftline --config {file} check\n#   driftline --config {file} probe --for 20s\n#   driftline --config {file} reconcile run",
        file = started.config_file.display()
    ))?;
    stop.cancelled().await;
    started.pair.shutdown().await;
    Ok(Exit::Fine)
}
