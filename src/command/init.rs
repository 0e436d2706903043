//! `driftline init`

use anyhow::anyhow;
use stores::aurora::{InitSpec, Readable};
use stores::secret::Secret;
use stores::{aurora, dynamodb, kafka, s3};

use super::{Context, print};
use crate::cli::{Format, InitArgs};
use crate::exit::{Exit, Failure, Outcome};
use crate::topology::{self, Source, Unit};

/// Where the password of `--admin` is read from.
const ADMIN_PASSWORD: &str = "DRIFTLINE_ADMIN_PASSWORD";

pub(super) async fn run(context: &Context, args: &InitArgs) -> Outcome {
    let units = topology::units(&context.config);
    let chosen: Vec<&Unit<'_>> = units
        .iter()
        .filter(|unit| args.connection.as_deref().is_none_or(|name| unit.name == name))
        .collect();
    if chosen.is_empty() {
        let known: Vec<&str> = units.iter().map(|unit| unit.name).collect();
        return Err(Failure::refused(match &args.connection {
            Some(name) => anyhow!("unknown connection `{name}`; known: {}", known.join(", ")),
            None => anyhow!("the configuration has no connections"),
        }));
    }
    if args.print {
        return print_texts(context, &chosen).await;
    }
    let Some(admin) = &args.admin else {
        if let Some(unit) = chosen.iter().find(|unit| unit.aurora().is_some()) {
            return Err(Failure::refused(anyhow!(
                "`init` changes a server: for {} name a role that may create roles and databases with --admin URL, or print the SQL \
                 with --print",
                unit.name
            )));
        }
        return make(&chosen).await;
    };
    let [unit] = chosen[..] else {
        return Err(Failure::refused(anyhow!(
            "--admin is one server: choose its connection with --connection NAME"
        )));
    };
    let admin = admin
        .parse::<aurora::Url>()
        .map_err(|error| Failure::refused(anyhow!("--admin: {error}")))?;
    let auth = aurora::Auth::Password(Secret::Env(ADMIN_PASSWORD.to_owned()));
    let spec = spec(unit)?;
    let tls = unit.aurora().map(|aurora| aurora.tls.clone()).unwrap_or_default();
    aurora::init(unit.primary(), &admin, &auth, &tls, &spec).await?;
    print::line(&format!(
        "connection {}: role {}, database {} and the canary table are there. Give the role its password (\\password {} in psql), \
         then run `driftline check`.",
        unit.name, spec.role, spec.canary_database, spec.role
    ))?;
    Ok(Exit::Fine)
}

/// Makes what canaries need where the configured identity may make it: Kafka's topics, DynamoDB tables of their own.
async fn make(units: &[&Unit<'_>]) -> Outcome {
    for unit in units {
        for site in unit.writers.iter().copied() {
            let told = match unit.source {
                Source::Kafka(config) => {
                    kafka::init(config, site, &kafka::InitSpec::default()).await?;
                    format!("topic {} is there", config.canary.topic)
                }
                Source::Dynamodb(config, names) => match dynamodb::init(config, names, site, unit.aws(site)?).await? {
                    made if made.is_empty() => "there is nothing to make".to_owned(),
                    made => made.join("; "),
                },
                Source::S3(..) => {
                    "there is nothing to make; `init --print` shows the policy and a lifecycle rule".to_owned()
                }
                Source::Aurora(_) => continue,
            };
            print::line(&format!("{}, site {site}: {told}", unit.name))?;
        }
    }
    Ok(Exit::Fine)
}

/// What somebody has to apply to one site: SQL, policies, access rules.
async fn text_of(unit: &Unit<'_>, site: &str) -> Result<String, Failure> {
    let text = canary_text(unit, site).await?;
    Ok(if unit.native().is_some() {
        // IAM cannot limit this right to single metrics.
        format!(
            "{text}\n# And for `native = \"cloudwatch\"`, whichever region is asked:\n\
             {{\"Version\": \"2012-10-17\", \"Statement\": [{{\"Sid\": \"NativeLag\", \"Effect\": \"Allow\", \
             \"Action\": \"cloudwatch:GetMetricData\", \"Resource\": \"*\"}}]}}\n"
        )
    } else {
        text
    })
}

async fn canary_text(unit: &Unit<'_>, site: &str) -> Result<String, Failure> {
    Ok(match unit.source {
        Source::Aurora(_) => aurora::init_sql(&spec(unit)?),
        Source::Dynamodb(config, names) => dynamodb::init_text(config, names, site, unit.aws(site)?, None)?,
        Source::Kafka(config) => {
            let others = unit.sites.iter().filter(|other| **other != site);
            let texts: Vec<String> = others
                .map(|other| kafka::init_text(config, site, other, &kafka::InitSpec::default()))
                .collect();
            texts.join("\n")
        }
        Source::S3(config, bucket) => {
            let rules = s3::rules(config, bucket, site, unit.aws(site)?).await?;
            s3::init_text(config, bucket, &rules.key_sets, site)?
        }
    })
}

async fn print_texts(context: &Context, units: &[&Unit<'_>]) -> Outcome {
    let mut texts = Vec::new();
    for unit in units {
        // PostgreSQL's copies get theirs by replication; elsewhere each site has rights of its own.
        let sites = match unit.source {
            Source::Aurora(_) => vec![unit.primary()],
            _ => unit.sites.clone(),
        };
        for site in sites {
            texts.push((unit.name, site, text_of(unit, site).await?));
        }
    }
    let text = match context.format {
        Format::Human => texts
            .iter()
            .map(|(name, site, text)| format!("-- connection {name}, at the writer of site {site}\n{text}"))
            .collect::<Vec<_>>()
            .join("\n"),
        Format::Json => serde_json::to_string_pretty(
            &texts
                .iter()
                .map(|(name, site, text)| serde_json::json!({ "connection": name, "site": site, "sql": text }))
                .collect::<Vec<_>>(),
        )
        .map_err(|error| Failure::cannot_tell(anyhow::Error::new(error)))?,
    };
    print::line(&text)?;
    Ok(Exit::Fine)
}

/// The schemas and tables that the datasets of a unit name. A pattern over tables grants its whole schema, since a grant cannot hold a pattern.
pub(super) fn spec(unit: &Unit<'_>) -> Result<InitSpec, Failure> {
    let mut readable: Vec<Readable> = Vec::new();
    for (_, tables) in unit.tables() {
        for pattern in &tables.tables {
            let (schema, table) = pattern.split_once('.').unwrap_or(("public", pattern));
            if schema.contains(['*', '?', '[', '{']) {
                return Err(Failure::refused(anyhow!(
                    "connection {}: pattern `{pattern}` spans schemas, and no least-privilege grant can say that; name the schemas",
                    unit.name
                )));
            }
            let grant = if table.contains(['*', '?', '[', '{']) {
                Readable::AllIn {
                    schema: schema.to_owned(),
                }
            } else {
                Readable::Table {
                    schema: schema.to_owned(),
                    table: table.to_owned(),
                }
            };
            if !readable.contains(&grant) {
                readable.push(grant);
            }
        }
    }
    let Some(aurora) = unit.aurora() else {
        return Err(Failure::refused(anyhow!("connection {}: not PostgreSQL", unit.name)));
    };
    Ok(InitSpec::of(aurora, unit.primary(), readable)?)
}
