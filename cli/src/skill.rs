//! `agentkernel skill`.

use std::path::PathBuf;

use agentkernel::{Ending, Skill, Skills, Turn};

use crate::arguments::{Engine, Sandbox, SkillAction, SkillsAt, Talk};
use crate::config::Config;
use crate::failure::{Failure, Result};
use crate::settings::Settings;
use crate::terminal::{self, say};

pub fn run(action: SkillAction) -> Result<i32> {
    match action {
        SkillAction::List { json, at } => show(&Skills::open(directory(&at)?)?.list()?, json),
        SkillAction::Search { words, json, at } => {
            let found = Skills::open(directory(&at)?)?.search(&words.join(" "))?;
            if found.is_empty() && !json {
                terminal::remark("nothing was found; `agentkernel skill list` shows all skills");
                return Ok(1);
            }
            show(&found, json)
        }
        SkillAction::Show { name, at } => {
            let (_, code) = Skills::open(directory(&at)?)?.get(&name)?;
            say!("{}", escaped(code.trim_end()));
            Ok(0)
        }
        SkillAction::Check { names, at, engine } => check(names, &at, engine),
        SkillAction::Rm { names, at } => {
            let skills = Skills::open_writable(directory(&at)?)?;
            for name in names {
                skills.delete(&name)?;
            }
            Ok(0)
        }
    }
}

/// The directory that is meant.
fn directory(at: &SkillsAt) -> Result<PathBuf> {
    if let Some(directory) = &at.skills {
        return Ok(directory.clone());
    }
    let config = Config::of(&at.configuration)?;
    let configured = config.skills.map(|table| config.directory.join(table.directory));
    configured.ok_or_else(|| {
        Failure::new("there are no skills")
            .hint("name their directory with `--skills DIR`, or in agentkernel.toml: `[skills]` `directory = \"DIR\"`")
    })
}

fn show(skills: &[Skill], json: bool) -> Result<i32> {
    if json {
        let text = serde_json::to_string(skills);
        say!("{}", text.map_err(|error| Failure::new(format!("the skills have no JSON form: {error}")))?);
        return Ok(0);
    }
    let width = skills.iter().map(|skill| skill.name.len()).max().unwrap_or(0);
    for Skill { name, description, version, .. } in skills {
        say!("{}", format!("{name:width$}  v{version}  {description}").trim_end());
    }
    Ok(0)
}

/// Compiles them where programs run, as the host has no Python.
fn check(names: Vec<String>, at: &SkillsAt, engine: Engine) -> Result<i32> {
    let skills = Skills::open(directory(at)?)?;
    let names = match names.is_empty() {
        true => skills.list()?.into_iter().map(|skill| skill.name).collect(),
        false => names,
    };
    let sandbox = Sandbox { engine, configuration: at.configuration.clone(), ..Sandbox::default() };
    let settings = Settings::resolve(sandbox)?;
    let kernel = settings.kernel().on_progress(terminal::progress(Talk::default())).build()?;
    let mut session = kernel.session().start()?;
    let mut exit = 0;
    for name in names {
        let (_, code) = skills.get(&name)?;
        // JSON writes strings as Python does.
        let code = serde_json::Value::from(code);
        let turn = Turn::new(format!("compile({code}, 'skills/{name}.py', 'exec', dont_inherit=True)\nNone"));
        match session.run_blocking(turn)?.ending {
            Ending::Completed(_) => say!("{name}: compiles"),
            Ending::Raised(exception) => {
                terminal::error(
                    &format!("{name}: {}: {}", exception.kind, escaped(&exception.message)),
                    None,
                );
                exit = 1;
            }
            other => {
                terminal::error(&format!("{name}: its check ended in {}", other.name()), None);
                exit = 1;
                session = kernel.session().start()?;
            }
        }
    }
    Ok(exit)
}

/// Code with what a terminal would obey shown as what it is.
fn escaped(code: &str) -> String {
    let mut shown = String::with_capacity(code.len());
    for letter in code.chars() {
        match letter.is_control() && !matches!(letter, '\n' | '\t') || terminal::reorders(letter) {
            true => shown.extend(letter.escape_unicode()),
            false => shown.push(letter),
        }
    }
    shown
}
