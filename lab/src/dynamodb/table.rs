//! Tables of a lab, in any key shape.

use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::error::{BuildError, DisplayErrorContext};
use aws_sdk_dynamodb::types::{
    AttributeDefinition, BillingMode, KeySchemaElement, KeyType, ProvisionedThroughput, ScalarAttributeType,
    TimeToLiveSpecification,
};

use crate::LabError;

/// A table to make at both sides.
#[derive(Debug, Clone)]
pub struct TableSpec {
    name: String,
    partition: (String, ScalarAttributeType),
    sort: Option<(String, ScalarAttributeType)>,
    expires_by: Option<String>,
    provisioned: Option<(i64, i64)>,
}

impl TableSpec {
    /// A table whose items are spread by the text attribute `partition`.
    pub fn keyed_by_text(name: impl Into<String>, partition: impl Into<String>) -> Self {
        Self::new(name, partition, ScalarAttributeType::S)
    }

    /// A table whose items are spread by the attribute `partition`.
    pub fn new(name: impl Into<String>, partition: impl Into<String>, kind: ScalarAttributeType) -> Self {
        Self {
            name: name.into(),
            partition: (partition.into(), kind),
            sort: None,
            expires_by: None,
            provisioned: None,
        }
    }

    /// And sorted by `sort`.
    #[must_use]
    pub fn sorted_by(mut self, sort: impl Into<String>, kind: ScalarAttributeType) -> Self {
        self.sort = Some((sort.into(), kind));
        self
    }

    /// Whose items expire by `attribute`.
    #[must_use]
    pub fn expires_by(mut self, attribute: impl Into<String>) -> Self {
        self.expires_by = Some(attribute.into());
        self
    }

    /// With a bound on read and write units a second, where the server keeps to one.
    #[must_use]
    pub fn provisioned(mut self, read_units: i64, write_units: i64) -> Self {
        self.provisioned = Some((read_units, write_units));
        self
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Names of its key attributes.
    pub(crate) fn key(&self) -> Vec<String> {
        let sort = self.sort.iter().map(|(name, _)| name.clone());
        std::iter::once(self.partition.0.clone()).chain(sort).collect()
    }

    /// Makes it with `client`.
    pub(crate) async fn make(&self, server: &str, client: &Client) -> Result<(), LabError> {
        let failed = |tried: &str, message: String| LabError::Service {
            server: server.to_owned(),
            tried: format!("{tried} {}", self.name),
            message,
        };
        let invalid = |error: BuildError| failed("describe table", error.to_string());
        let mut asked = client.create_table().table_name(&self.name);
        let keys = [
            (Some(&self.partition), KeyType::Hash),
            (self.sort.as_ref(), KeyType::Range),
        ];
        for (key, role) in keys {
            let Some((name, kind)) = key else { continue };
            let attribute = AttributeDefinition::builder()
                .attribute_name(name)
                .attribute_type(kind.clone());
            let element = KeySchemaElement::builder().attribute_name(name).key_type(role);
            asked = asked
                .attribute_definitions(attribute.build().map_err(invalid)?)
                .key_schema(element.build().map_err(invalid)?);
        }
        asked = match self.provisioned {
            None => asked.billing_mode(BillingMode::PayPerRequest),
            Some((read, write)) => {
                let units = ProvisionedThroughput::builder()
                    .read_capacity_units(read)
                    .write_capacity_units(write);
                asked.provisioned_throughput(units.build().map_err(invalid)?)
            }
        };
        let made = asked.send().await;
        made.map_err(|error| failed("make table", DisplayErrorContext(&error).to_string()))?;
        let Some(attribute) = &self.expires_by else {
            return Ok(());
        };
        let by = TimeToLiveSpecification::builder()
            .enabled(true)
            .attribute_name(attribute);
        let set = client
            .update_time_to_live()
            .table_name(&self.name)
            .time_to_live_specification(by.build().map_err(invalid)?)
            .send()
            .await;
        set.map(drop)
            .map_err(|error| failed("switch on the expiry of", DisplayErrorContext(&error).to_string()))
    }
}
