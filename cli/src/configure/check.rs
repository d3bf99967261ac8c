//! `agentkernel config check`: all that is wrong with a configuration file, not only the first.

use std::path::{Path, PathBuf};

use serde::Deserialize;
use toml::Spanned;
use toml::de::{DeTable, DeValue, Deserializer};

use super::keys::{NAME, tables};
use crate::arguments::{Configuration, Engine, Models, Sandbox, Talk};
use crate::config::{Config, PrivacyConfig};
use crate::failure::{Failure, Result};
use crate::llm::Granted;
use crate::repetition::Again;
use crate::settings::{self, Settings};
use crate::terminal::{self, say};
use crate::units::show_number_of;
use crate::{sandbox, telemetry, warm};

/// The exit code of a file with mistakes.
const WRONG: i32 = 2;

/// Mistakes that are told of one file.
const MOST: usize = 100;

/// Something that is wrong, and where in the file if that is known.
struct Finding {
    at: Option<usize>,
    failure: Failure,
}

impl From<Failure> for Finding {
    fn from(failure: Failure) -> Self {
        Finding { at: None, failure }
    }
}

pub fn run(file: Option<PathBuf>, engine: Engine) -> Result<i32> {
    let found = || Config::find().transpose();
    let file = file.map(Ok).or_else(found).transpose()?.ok_or_else(|| {
        Failure::new("there is no agentkernel.toml here or in a directory above")
            .hint("name a file, or write one with `agentkernel config init`")
    })?;
    let shown = file.display();
    let text = std::fs::read_to_string(&file)
        .map_err(|error| Failure::new(format!("cannot read the configuration `{shown}`: {error}")))?;
    let (mut findings, settings) = read(&text);
    if findings.is_empty() {
        findings = of_config(&file, &text, &engine);
    }
    if let Err(failure) = settings::check_variables() {
        findings.push(failure.into());
    }
    findings.sort_by_key(|finding| finding.at.unwrap_or(usize::MAX));
    for Finding { at, failure } in &findings {
        let place = at.map(|at| place(&text, at)).unwrap_or_default();
        terminal::error(&format!("`{shown}{place}`: {}", failure.message), failure.hint.as_deref());
    }
    if findings.is_empty() {
        say!("`{shown}` is right: {}", show_number_of(settings, "setting"));
        return Ok(0);
    }
    Ok(WRONG)
}

/// The line and the column of a position.
fn place(text: &str, at: usize) -> String {
    let before = &text[..text.floor_char_boundary(at.min(text.len()))];
    let line = before.matches('\n').count() + 1;
    let column = before.chars().rev().take_while(|letter| *letter != '\n').count() + 1;
    format!(":{line}:{column}")
}

/// What the text says by itself: mistakes of form, keys that are none, values that are none; and how many settings it has.
fn read(text: &str) -> (Vec<Finding>, u64) {
    let (table, errors) = DeTable::parse_recoverable(text);
    let found = |error: &toml::de::Error| Finding {
        at: error.span().map(|span| span.start),
        failure: told(error.message()),
    };
    if !errors.is_empty() {
        return (errors.iter().map(found).collect(), 0);
    }
    let (span, mut table) = (table.span(), table.into_inner());
    let mut findings = Vec::new();
    // What is wrong is taken out, until nothing is.
    while findings.len() < MOST {
        let whole = Spanned::new(span.clone(), table.clone());
        let Err(error) = Config::deserialize(Deserializer::from(whole)) else { break };
        findings.push(found(&error));
        if !error.span().is_some_and(|span| take_out(&mut table, span.start)) {
            break;
        }
    }
    (findings, settings_in(&table))
}

/// Removes what stands at a position: the innermost entry that does.
fn take_out(table: &mut DeTable<'_>, at: usize) -> bool {
    let mut own = None;
    for (key, value) in table.iter_mut() {
        let stands = key.span().contains(&at) || value.span().contains(&at);
        if let DeValue::Table(below) = value.get_mut()
            && take_out(below, at)
        {
            return true;
        }
        if stands {
            own = Some(key.clone());
        }
    }
    own.is_some_and(|key| table.remove(&key).is_some())
}

fn settings_in(table: &DeTable<'_>) -> u64 {
    let count = |value: &Spanned<DeValue<'_>>| match value.get_ref() {
        DeValue::Table(below) => settings_in(below),
        _ => 1,
    };
    table.iter().map(|(_, value)| count(value)).sum()
}

/// A message of the reader, with the nearest name where one is unknown.
fn told(message: &str) -> Failure {
    let mut names = message.split('`').skip(1).step_by(2);
    let Some(name) = message.strip_prefix("unknown field").and_then(|_| names.next()) else {
        return Failure::new(message.trim().to_owned());
    };
    let failure = Failure::new(format!("there is no key `{name}`"));
    if name.to_ascii_lowercase().contains("key") {
        return failure
            .hint("keys are not kept in this file: set them in the environment or in a `.env` file");
    }
    let known: Vec<&str> = names.collect();
    let nearest = known.iter().map(|known| (distance(name, known), *known)).min();
    match nearest.filter(|(distance, known)| *distance <= 1 + known.len() / 3) {
        Some((_, nearest)) => failure.hint(format!("`{nearest}` may be meant")),
        None => failure.hint(format!("there are {}", known.join(", "))),
    }
}

/// How many letters must be changed, added or removed.
fn distance(one: &str, other: &str) -> usize {
    let other: Vec<char> = other.chars().collect();
    let mut row: Vec<usize> = (0..=other.len()).collect();
    for (position, letter) in one.chars().enumerate() {
        let mut before = row[0];
        row[0] = position + 1;
        for (column, counterpart) in other.iter().enumerate() {
            let changed = before + usize::from(letter != *counterpart);
            before = row[column + 1];
            row[column + 1] = changed.min(before + 1).min(row[column] + 1);
        }
    }
    row[other.len()]
}

/// What it says of this machine: paths that are not there, tools that do not load, what has no effect.
fn of_config(file: &Path, text: &str, engine: &Engine) -> Vec<Finding> {
    let configuration = Configuration { config: Some(file.to_owned()), no_config: false };
    let config = match Config::of(&configuration) {
        Ok(config) => config,
        Err(failure) => return vec![failure.into()],
    };
    let mut findings = paths(&config, text);
    let mut note = |result: Result<()>| findings.extend(result.err().map(Finding::from));
    note(sandbox::check(config.sandbox.as_deref()));
    note(config.privacy.as_ref().map_or(Ok(()), |privacy| PrivacyConfig::privacy(privacy).map(drop)));
    note(Granted::resolve(&Models::default(), &config, false).map(drop));
    if let Some(named) = config.telemetry.as_ref().and_then(|telemetry| telemetry.otlp.as_deref()) {
        note(telemetry::check(named));
    }
    let tools = settings::tools(&config, &[]);
    let names: Vec<String> = tools.iter().flatten().map(|tool| tool.name().to_owned()).collect();
    note(tools.map(drop));
    for (name, image) in &config.image {
        note(warm::check(name, image, &names));
    }
    if !findings.is_empty() {
        return findings;
    }
    let sandbox = Sandbox { configuration, engine: engine.clone(), ..Sandbox::default() };
    let settings = Settings::with_models(sandbox, &Models::default(), &Again::default());
    // Only a start tells whether grants go together. The interpreter and tools are compiled, or found in the cache.
    let started = settings.and_then(|settings| {
        let kernel = settings.kernel().on_progress(terminal::progress(Talk::default())).build()?;
        kernel.session().grants(settings.grants.clone()).start()?;
        Ok(())
    });
    findings.extend(started.err().map(Finding::from));
    findings
}

/// Paths that lead nowhere.
fn paths(config: &Config, text: &str) -> Vec<Finding> {
    let Ok(table) = DeTable::parse(text) else { return Vec::new() };
    let mut findings = Vec::new();
    let mut look = |value: &Spanned<DeValue<'_>>, what: &str, path: &str, made: bool| {
        let path = config.directory.join(path);
        // What is made when it is needed needs a directory.
        let needed = if made { path.parent().unwrap_or(Path::new("")) } else { &path };
        if needed.as_os_str().is_empty() || needed.exists() {
            return;
        }
        let failure = Failure::new(format!("`{what}`: `{}` is not there", needed.display()));
        let failure = failure.hint("make it, or correct the path; relative ones start where the file lies");
        findings.push(Finding { at: Some(value.span().start), failure });
    };
    for key in tables().into_iter().flat_map(|table| table.keys) {
        let mounts = key.name() == "mounts";
        if !key.kind.ends_with("path") && !key.kind.ends_with("paths") && !mounts {
            continue;
        }
        let what = key.dotted();
        for value in standing(table.get_ref(), &key.path) {
            let texts: Vec<&str> = match value.get_ref() {
                DeValue::String(text) => vec![text],
                DeValue::Array(items) => items.iter().filter_map(|item| item.get_ref().as_str()).collect(),
                _ => Vec::new(),
            };
            for text in texts {
                match mounts {
                    false => look(value, &what, text, key.is_made),
                    // One that is none is told when it is read.
                    true if text.starts_with(agentkernel::ToolGrants::WORKSPACE) => {}
                    true => {
                        if let Some((host, _)) = text.rfind(":/").map(|at| text.split_at(at)) {
                            look(value, &what, host, false);
                        }
                    }
                }
            }
        }
    }
    findings
}

/// The values that stand at a path, of which any name may be a part.
fn standing<'t, 'i>(table: &'t DeTable<'i>, path: &[String]) -> Vec<&'t Spanned<DeValue<'i>>> {
    let Some((first, rest)) = path.split_first() else { return Vec::new() };
    let fits = table.iter().filter(|(key, _)| first == NAME || key.get_ref().as_ref() == first.as_str());
    let below = |(_, value): (_, &'t Spanned<DeValue<'i>>)| match value.get_ref() {
        _ if rest.is_empty() => vec![value],
        DeValue::Table(table) => standing(table, rest),
        _ => Vec::new(),
    };
    fits.flat_map(below).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    const WRONG: &str = "timout = '1s'\nmemory = 5\n[tool.x]\nmax-sent = '1 parsec'\nmounts = 'a'\n[state]\nfle = 'x'\n\
                         [llm]\napi-key = 'x'\nmax-calls = -1\n";

    #[test]
    fn all_mistakes_are_found_in_one_go() {
        let (findings, _) = read(WRONG);
        let told: BTreeMap<String, String> = findings
            .iter()
            .map(|finding| {
                let failure = &finding.failure;
                let text = format!("{} {}", failure.message, failure.hint.as_deref().unwrap_or_default());
                (place(WRONG, finding.at.unwrap()), text)
            })
            .collect();
        for (place, part) in [
            (":1:1", "`timeout` may be meant"),
            (":2:10", "string"),
            (":4:12", "not a unit"),
            (":5:10", "sequence"),
            (":7:1", "`file` may be meant"),
            (":9:1", "not kept in this file"),
            (":10:13", ""),
        ] {
            assert!(told.get(place).is_some_and(|told| told.contains(part)), "{place} {part}: {told:#?}");
        }
        // And the table that lacks what it must have.
        assert!(told.values().any(|told| told.contains("missing field `file`")), "{told:#?}");
        let (findings, _) = read("a = = 1\nb = [\n");
        assert!(!findings.is_empty());
        assert_eq!(read("timeout = '1s'\n[llm]\nmodel = 'x'\n").1, 2);
    }

    #[test]
    fn distances_are_those_of_letters() {
        assert_eq!(distance("timout", "timeout"), 1);
        assert_eq!(distance("", "abc"), 3);
        assert_eq!(distance("abc", "abc"), 0);
        assert_eq!(distance("mount", "mounts"), 1);
    }
}
