//! `driftline init`

use anyhow::anyhow;
use stores::aurora::{self, InitSpec, Readable};
use stores::secret::Secret;

use super::{Context, print};
use crate::cli::{Format, InitArgs};
use crate::exit::{Exit, Failure, Outcome};
use crate::topology::{self, Unit};

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
        return print_sql(context, &chosen);
    }
    let Some(admin) = &args.admin else {
        return Err(Failure::refused(anyhow!(
            "`init` changes a server: name a role that may create roles and databases with --admin URL, or print the SQL with --print"
        )));
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

fn print_sql(context: &Context, units: &[&Unit<'_>]) -> Outcome {
    let mut scripts = Vec::new();
    for unit in units {
        scripts.push((unit.name, unit.primary(), aurora::init_sql(&spec(unit)?)));
    }
    let text = match context.format {
        Format::Human => scripts
            .iter()
            .map(|(name, site, sql)| format!("-- connection {name}, at the writer of site {site}\n{sql}"))
            .collect::<Vec<_>>()
            .join("\n"),
        Format::Json => serde_json::to_string_pretty(
            &scripts
                .iter()
                .map(|(name, site, sql)| serde_json::json!({ "connection": name, "site": site, "sql": sql }))
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
