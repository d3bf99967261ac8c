//! `agentkernel config show`: what is in force, and where it comes from.

use clap::parser::ValueSource;
use clap::{ArgMatches, CommandFactory};
use serde::Serialize;
use serde_json::Value;

use super::keys::{self, Key, NAME, tables};
use crate::arguments::{Arguments, ConfigShow};
use crate::config::Config;
use crate::failure::{Failure, Result};
use crate::llm::{self, DotEnv, PROVIDER_VARIABLES};
use crate::repetition::Again;
use crate::settings::Settings;
use crate::terminal::say;

/// What stands for a value that is not shown.
const MASK: &str = "***";

/// A key as it is.
#[derive(Serialize)]
struct Shown {
    key: String,
    /// Nothing where nobody says anything and the default is no value.
    value: Option<Value>,
    source: Source,
    /// The flag, the variable, or the place in the file.
    from: Option<String>,
}

#[derive(Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
enum Source {
    Flag,
    Environment,
    File,
    Default,
}

pub fn run(show: ConfigShow) -> Result<i32> {
    let config = Config::of(&show.sandbox.configuration)?;
    let file = match &config.file {
        Some(file) => Some(File::read(file)?),
        None => None,
    };
    let matches = Arguments::command().get_matches();
    let matches =
        ["config", "show"].iter().try_fold(&matches, |matches, name| matches.subcommand_matches(name));
    let mut shown: Vec<Shown> = Vec::new();
    for key in tables().iter().flat_map(|table| &table.keys) {
        match key.path.iter().any(|part| part == NAME) {
            true => shown.extend(file.iter().flat_map(|file| file.below(key))),
            false => shown.push(state(key, matches, file.as_ref())),
        }
    }
    shown.extend(providers(&config, show.sandbox.configuration.no_config)?);
    // What makes no sense is told as a run tells it.
    Settings::with_models(show.sandbox, &show.models, &Again::default())?;
    if show.json {
        let text = serde_json::to_string_pretty(&shown)
            .map_err(|error| Failure::new(format!("the settings have no JSON form: {error}")))?;
        say!("{text}");
        return Ok(0);
    }
    if let Some(file) = &config.file {
        say!("# {}", file.display());
    }
    let lines: Vec<(String, String)> = shown
        .into_iter()
        .filter_map(|Shown { key, value, source, from }| {
            let from = match source {
                Source::Default => "default".to_owned(),
                _ => from.unwrap_or_default(),
            };
            Some((format!("{key} = {}", keys::toml(&value?)), from))
        })
        .collect();
    let width = lines.iter().map(|(line, _)| line.chars().count()).filter(|width| *width < 60).max();
    for (line, from) in &lines {
        say!("{line:<width$}  # {from}", width = width.unwrap_or_default());
    }
    Ok(0)
}

/// A key without names in it.
fn state(key: &Key, matches: Option<&ArgMatches>, file: Option<&File>) -> Shown {
    let given =
        key.flags.iter().find_map(|flag| Some((flag, of_flag(flag.trim_start_matches('-'), matches?)?)));
    let of_file = file.and_then(|file| Some((file.value(&key.path)?.clone(), file.place(&key.path)?)));
    let variable = || {
        key.variables.iter().find_map(|name| {
            let value = std::env::var(name).ok().filter(|value| !value.is_empty())?;
            Some((typed(key, &value), name.clone()))
        })
    };
    let (value, source, from) = match (given, of_file) {
        // Lists add up.
        (Some((flag, values)), Some((Value::Array(own), place))) => {
            let all = own.into_iter().chain(values.into_iter().map(Value::from)).collect();
            (Some(Value::Array(all)), Source::Flag, Some(format!("{place}, {flag}")))
        }
        (Some((flag, values)), _) => {
            let value = match key.kind.starts_with("list") {
                true => values.into_iter().map(Value::from).collect(),
                false => typed(key, values.last().map_or("true", String::as_str)),
            };
            (Some(value), Source::Flag, Some(flag.clone()))
        }
        (None, of_file) => match (variable(), of_file) {
            (Some((value, name)), _) => (Some(value), Source::Environment, Some(name)),
            (None, Some((value, place))) => (Some(value), Source::File, Some(place)),
            (None, None) => (key.value().map(|value| typed(key, value)), Source::Default, None),
        },
    };
    let value = value.map(|value| covered(key, value));
    Shown { key: key.dotted(), value, source, from }
}

/// What a flag was given on the command line.
fn of_flag(flag: &str, matches: &ArgMatches) -> Option<Vec<String>> {
    let command = Arguments::command();
    let command = command.find_subcommand("config")?.find_subcommand("show")?;
    let argument = command.get_arguments().find(|argument| argument.get_long() == Some(flag))?;
    let id = argument.get_id().as_str();
    match matches.value_source(id)? {
        ValueSource::CommandLine => {
            let values = matches.get_raw(id).into_iter().flatten();
            Some(values.map(|value| value.to_string_lossy().into_owned()).collect())
        }
        _ => None,
    }
}

/// A text as a value of the key's type.
fn typed(key: &Key, text: &str) -> Value {
    match key.kind.as_str() {
        "whole number" => text.parse::<u64>().map_or_else(|_| text.into(), Value::from),
        "number" => text.parse::<f64>().map_or_else(|_| text.into(), Value::from),
        "true or false" => Value::from(!matches!(text, "false" | "0" | "no" | "off" | "n" | "f")),
        _ => text.into(),
    }
}

/// The value of a key without what may be a secret: values of variables and headers, users and passwords of URLs.
fn covered(key: &Key, value: Value) -> Value {
    // A header has a name of its own below.
    let name = key.path.iter().rfind(|part| *part != NAME).map_or("", String::as_str);
    match value {
        Value::Array(_) | Value::String(_) if name == "env" => masked(value),
        Value::String(_) if name == "headers" => MASK.into(),
        Value::String(text) => without_user(&text).into(),
        Value::Array(items) => items.into_iter().map(|item| covered(key, item)).collect(),
        value => value,
    }
}

/// `NAME=VALUE` without the value, which may be a secret.
fn masked(value: Value) -> Value {
    let mask = |item: Value| match item.as_str().and_then(|text| text.split_once('=')) {
        Some((name, _)) => Value::from(format!("{name}={MASK}")),
        None => item,
    };
    match value {
        Value::Array(items) => items.into_iter().map(mask).collect(),
        value => mask(value),
    }
}

/// The variables of providers that are set, without their values where these are keys.
fn providers(config: &Config, no_config: bool) -> Result<Vec<Shown>> {
    let dot_env = DotEnv::load(config, no_config)?;
    let shown = |name: &str| {
        let (source, from, value) = match (llm::own(name), &dot_env.file) {
            (Some(value), _) => (Source::Environment, name.to_owned(), value),
            (None, Some(file)) if dot_env.has(name) => {
                (Source::File, file.display().to_string(), dot_env.get(name)?)
            }
            _ => return None,
        };
        let value = if name.ends_with("_KEY") { MASK.to_owned() } else { without_user(&value) };
        Some(Shown { key: name.to_owned(), value: Some(value.into()), source, from: Some(from) })
    };
    Ok(PROVIDER_VARIABLES.iter().filter_map(|name| shown(name)).collect())
}

/// A text whose URLs have no user and no password.
fn without_user(text: &str) -> String {
    let Some((before, after)) = text.split_once("://") else { return text.to_owned() };
    let (place, rest) = after.split_at(after.find(['/', '?', '#']).unwrap_or(after.len()));
    let rest = without_user(rest);
    match place.rsplit_once('@') {
        Some((_, host)) => format!("{before}://{MASK}@{host}{rest}"),
        None => format!("{before}://{place}{rest}"),
    }
}

/// The configuration file as it is written.
struct File {
    name: String,
    text: String,
    value: Value,
}

impl File {
    fn read(path: &std::path::Path) -> Result<Self> {
        let text = std::fs::read_to_string(path)
            .map_err(|error| Failure::new(format!("cannot read `{}`: {error}", path.display())))?;
        // It was read before.
        let table: toml::Table = toml::from_str(&text).unwrap_or_default();
        let value = json(toml::Value::Table(table));
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        Ok(File { name, text, value })
    }

    fn value(&self, path: &[String]) -> Option<&Value> {
        path.iter().try_fold(&self.value, |value, part| value.get(part))
    }

    /// Where a key stands: the file and the line.
    fn place(&self, path: &[String]) -> Option<String> {
        let table = toml::de::DeTable::parse(&self.text).ok()?;
        let mut at = table.get_ref();
        let (last, above) = path.split_last()?;
        for part in above {
            let (_, below) = at.iter().find(|(key, _)| key.get_ref().as_ref() == part.as_str())?;
            at = below.get_ref().as_table()?;
        }
        let (key, _) = at.iter().find(|(key, _)| key.get_ref().as_ref() == last.as_str())?;
        let line = self.text[..key.span().start].matches('\n').count() + 1;
        Some(format!("{}:{line}", self.name))
    }

    /// What stands where a key with names in it may stand.
    fn below(&self, key: &Key) -> Vec<Shown> {
        let mut found = vec![(Vec::<String>::new(), &self.value)];
        for part in &key.path {
            found = found
                .into_iter()
                .flat_map(|(path, value)| {
                    let table = value.as_object().into_iter().flatten();
                    let fits = table.filter(|(name, _)| part == NAME || *name == part);
                    fits.map(move |(name, value)| {
                        let mut path = path.clone();
                        path.push(name.clone());
                        (path, value)
                    })
                    .collect::<Vec<_>>()
                })
                .collect();
        }
        let shown = |(path, value): (Vec<String>, &Value)| Shown {
            key: path.join("."),
            value: Some(covered(key, value.clone())),
            source: Source::File,
            from: self.place(&path),
        };
        found.into_iter().map(shown).collect()
    }
}

/// The same as JSON; dates are texts.
fn json(value: toml::Value) -> Value {
    match value {
        toml::Value::String(text) => text.into(),
        toml::Value::Integer(number) => number.into(),
        toml::Value::Float(number) => number.into(),
        toml::Value::Boolean(value) => value.into(),
        toml::Value::Datetime(time) => time.to_string().into(),
        toml::Value::Array(items) => items.into_iter().map(json).collect(),
        toml::Value::Table(table) => {
            Value::Object(table.into_iter().map(|(key, value)| (key, json(value))).collect())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_not_shown() {
        assert_eq!(masked(serde_json::json!(["A=b=c", "HOME"])), serde_json::json!(["A=***", "HOME"]));
        assert_eq!(without_user("https://me:word@example.com/v1"), "https://***@example.com/v1");
        assert_eq!(without_user("https://example.com/@v1"), "https://example.com/@v1");
        assert_eq!(without_user("https://me:word@a?x=http://you:word@b"), "https://***@a?x=http://***@b");
        let text = |path: &str, text: &str| {
            let tables = tables();
            let mut keys = tables.iter().flat_map(|table| &table.keys);
            covered(keys.find(|key| key.dotted() == path).unwrap(), text.into())
        };
        assert_eq!(text("tool.NAME.mcp.headers.NAME", "Bearer hush"), MASK);
        assert_eq!(text("tool.NAME.mcp.url", "https://me:word@a/mcp"), "https://***@a/mcp");
        assert_eq!(text("telemetry.otlp", "http://me:word@b"), "http://***@b");
        assert_eq!(text("tool.NAME.env", "A=b"), "A=***");
    }
}
