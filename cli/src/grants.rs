//! What tools are granted of the network, of randomness and of time, as the configuration writes it.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use agentkernel::{ClockSource, HttpRule, RandomSource, Secret, ToolGrants, ToolResources};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, de};
use toml::Value;
use toml::value::{Datetime, Offset};

use crate::config::ToolConfig;
use crate::failure::{Failure, Result};

/// Where the value of a secret comes from, and where it may go.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SecretConfig {
    /// The variable of this process that has the value. Default: none; it must be given.
    #[schemars(example = &"EXAMPLE_TOKEN")]
    env: String,
    /// Rules of the requests that it may be part of. Default: none; they must be given.
    #[schemars(example = ["api.example.com"])]
    hosts: Vec<String>,
}

/// What becomes of a tool's open resources.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
#[schemars(inline)]
pub enum Resources {
    Kept,
    Closed,
    Recreated,
    Refused,
}

impl From<Resources> for ToolResources {
    fn from(resources: Resources) -> Self {
        match resources {
            Resources::Kept => ToolResources::Kept,
            Resources::Closed => ToolResources::Closed,
            Resources::Recreated => ToolResources::Recreated,
            Resources::Refused => ToolResources::Refused,
        }
    }
}

/// `"system"`, `"none"` or `{ seed = N }`.
#[derive(Clone, Copy, Debug)]
pub struct Random(RandomSource);

/// `"system"`, `"none"` or a date and time with its offset.
#[derive(Clone, Copy, Debug)]
pub struct Clock(ClockSource);

impl JsonSchema for Random {
    fn schema_name() -> Cow<'static, str> {
        "Random".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "anyOf": [
                { "enum": ["system", "none"] },
                {
                    "type": "object",
                    "properties": { "seed": { "type": "integer", "minimum": 0 } },
                    "required": ["seed"],
                    "additionalProperties": false,
                },
            ],
            "x-type": "text or table",
        })
    }
}

impl JsonSchema for Clock {
    fn schema_name() -> Cow<'static, str> {
        "Clock".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        // Editors see a date of TOML as text.
        json_schema!({
            "anyOf": [{ "enum": ["system", "none"] }, { "type": "string", "format": "date-time" }],
            "x-type": "text or date",
        })
    }
}

impl<'de> Deserialize<'de> for Random {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let source = match Value::deserialize(deserializer)? {
            Value::String(text) if text == "system" => Some(RandomSource::System),
            Value::String(text) if text == "none" => Some(RandomSource::Refused),
            Value::Table(table) if table.len() == 1 => table
                .get("seed")
                .and_then(Value::as_integer)
                .and_then(|seed| u64::try_from(seed).ok())
                .map(RandomSource::Seeded),
            _ => None,
        };
        source.map(Random).ok_or_else(|| {
            de::Error::custom(
                "`random` is `\"system\"`, `\"none\"` or a seed, as in `random = { seed = 42 }`",
            )
        })
    }
}

impl<'de> Deserialize<'de> for Clock {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let source = match Value::deserialize(deserializer)? {
            Value::String(text) if text == "system" => Some(ClockSource::System),
            Value::String(text) if text == "none" => Some(ClockSource::Refused),
            Value::Datetime(time) => instant(&time).map(ClockSource::Fixed),
            _ => None,
        };
        source.map(Clock).ok_or_else(|| {
            de::Error::custom(
                "`clock` is `\"system\"`, `\"none\"` or a time from 1970 on with its offset, as in \
                 `clock = 2026-01-31T12:00:00Z`",
            )
        })
    }
}

/// The instant that a date, a time and an offset name.
fn instant(time: &Datetime) -> Option<SystemTime> {
    let (date, clock, offset) = (time.date?, time.time?, time.offset?);
    let minutes = match offset {
        Offset::Z => 0,
        Offset::Custom { minutes } => i64::from(minutes),
    };
    // Days since 1970 in the Gregorian calendar: a year is taken to begin in March, so that the day that
    // only some years have is the last.
    let (year, month) = (i64::from(date.year), i64::from(date.month));
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let days = year * 365 + year / 4 - year / 100 + year / 400 + (month * 153 + 2) / 5 + i64::from(date.day)
        - 719_469;
    let (hour, minute, second) = (clock.hour, clock.minute, clock.second.unwrap_or(0));
    let seconds =
        days * 86_400 + i64::from(hour) * 3600 + (i64::from(minute) - minutes) * 60 + i64::from(second);
    let since = Duration::new(u64::try_from(seconds).ok()?, clock.nanosecond.unwrap_or(0));
    SystemTime::UNIX_EPOCH.checked_add(since)
}

/// Adds what `table` grants to `grants`. `tool` is the name, for messages.
pub fn add(tool: &str, table: &ToolConfig, grants: &mut ToolGrants) -> Result<()> {
    grants.http = rules(&table.http)?;
    for (name, SecretConfig { env, hosts }) in &table.secrets {
        let wrong =
            |message: String| Failure::new(format!("the secret `{name}` of the tool `{tool}`: {message}"));
        let value = std::env::var(env).map_err(|error| match error {
            std::env::VarError::NotPresent => wrong(format!("the variable `{env}` is not set"))
                .hint(format!("set `{env}` before the start, or remove the secret")),
            std::env::VarError::NotUnicode(_) => wrong(format!("the value of `{env}` is not UTF-8")),
        })?;
        let secret = Secret::new(value, rules(hosts)?).map_err(|error| {
            let failure = wrong(error.to_string());
            match error.remedy() {
                Some(hint) => failure.hint(hint),
                None => failure,
            }
        })?;
        grants.secrets.insert(name.clone(), secret);
    }
    if let Some(Random(source)) = table.random {
        grants.random = source;
    }
    if let Some(Clock(source)) = table.clock {
        grants.clock = source;
    }
    let limits = &mut grants.limits;
    limits.requests = table.max_requests.unwrap_or(limits.requests);
    limits.concurrent_requests = table.max_concurrent_requests.unwrap_or(limits.concurrent_requests);
    limits.sent_bytes = table.max_sent.unwrap_or(limits.sent_bytes);
    limits.received_bytes = table.max_received.unwrap_or(limits.received_bytes);
    Ok(())
}

fn rules(texts: &[String]) -> Result<Vec<HttpRule>> {
    texts.iter().map(|text| Ok(text.parse()?)).collect()
}

/// Refuses limits of something that is not granted.
pub fn check_effect(tool: &str, table: &ToolConfig) -> Result<()> {
    if !table.http.is_empty() || table.mcp.is_some() {
        return Ok(());
    }
    let given = [
        ("max-requests", table.max_requests.is_some()),
        ("max-concurrent-requests", table.max_concurrent_requests.is_some()),
        ("max-sent", table.max_sent.is_some()),
        ("max-received", table.max_received.is_some()),
    ];
    match given.iter().find(|(_, given)| *given) {
        None => Ok(()),
        Some((key, _)) => {
            Err(Failure::new(format!("`{key}` in `[tool.{tool}]` has no effect: no HTTP is granted"))
                .hint(format!("grant it: `http = [\"api.example.com\"]`, or remove `{key}`")))
        }
    }
}

/// Secrets as a file has them, by their names.
pub type Secrets = BTreeMap<String, SecretConfig>;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_instants() {
        let seconds = |text: &str| {
            let time = instant(&text.parse().unwrap())?;
            Some(time.duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs_f64())
        };
        for (text, expected) in [
            ("1970-01-01T00:00:00Z", Some(0.0)),
            ("2009-02-13T23:31:30Z", Some(1_234_567_890.0)),
            ("2009-02-14T01:01:30+01:30", Some(1_234_567_890.0)),
            ("2009-02-13T23:31:30.25Z", Some(1_234_567_890.25)),
            ("2000-02-29T12:00:00Z", Some(951_825_600.0)),
            ("2100-03-01T00:00:00Z", Some(4_107_542_400.0)),
            ("1969-12-31T23:59:59Z", None),
            ("2026-01-01T00:00:00", None),
            ("2026-01-01", None),
        ] {
            assert_eq!(seconds(text), expected, "{text}");
        }
    }
}
