//! What `new` was told, kept as it was typed and read again at each turn.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};

use agentkernel::ContextMark;
use agentkernel::task::TaskId;
use clap::Parser;
use serde::{Deserialize, Serialize};

use crate::arguments::{Arguments, Command, NewSession, SessionAction};
use crate::failure::{Failure, Result};
use crate::store::replace;
use crate::warm;

const FILE: &str = "session.json";
const FORMAT: u32 = 1;

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Config {
    /// Of all files of the session.
    pub format: u32,
    pub created: String,
    /// The version that made it.
    pub version: String,
    /// Where relative paths start, and the search for agentkernel.toml.
    pub directory: PathBuf,
    /// What followed `session new`.
    pub words: Vec<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub forked_from: Option<Origin>,
    /// What `--context` named looked like.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub context: Option<ContextMark>,
    /// What it looked like when the image was made that the session begins with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image_context: Option<ContextMark>,
    /// Whose the tasks are that its programs dispatch; forks have them in common. Those of sessions that were made
    /// before there was such a name are each turn's own.
    #[serde(default = "owner")]
    pub tasks: String,
}

/// A name that no other session has.
fn owner() -> String {
    TaskId::new().as_str().to_owned()
}

/// What a session is a fork of.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Origin {
    pub name: String,
    pub turn: u64,
}

pub fn now() -> String {
    agentkernel::rlm::timestamp(std::time::SystemTime::now())
}

impl Config {
    /// What this process was told.
    pub fn of_process() -> Result<Self> {
        let words = std::env::args_os().skip(3).map(word).collect::<Result<_>>()?;
        let directory = std::env::current_dir()
            .map_err(|error| Failure::new(format!("cannot tell the working directory: {error}")))?;
        if directory.to_str().is_none() {
            return Err(Failure::new(format!("the path `{}` is not UTF-8", directory.display()))
                .hint("make the session in another directory"));
        }
        let version = env!("CARGO_PKG_VERSION").to_owned();
        let (forked_from, context, image_context) = (None, None, None);
        let (created, tasks) = (now(), owner());
        Ok(Config {
            format: FORMAT,
            created,
            version,
            directory,
            words,
            forked_from,
            context,
            image_context,
            tasks,
        })
    }

    pub fn read(session: &Path) -> Result<Self, String> {
        let text =
            fs::read(session.join(FILE)).map_err(|error| format!("`{FILE}` cannot be read: {error}"))?;
        let value: serde_json::Value =
            serde_json::from_slice(&text).map_err(|error| format!("`{FILE}` cannot be read: {error}"))?;
        match value["format"].as_u64() {
            Some(format) if format == u64::from(FORMAT) => {}
            Some(format) => return Err(format!("it has format {format}, and this version reads {FORMAT}")),
            None => return Err(format!("`{FILE}` has no format")),
        }
        serde_json::from_value(value).map_err(|error| format!("`{FILE}` cannot be read: {error}"))
    }

    pub fn write(&self, session: &Path) -> Result<()> {
        let text = serde_json::to_vec_pretty(self).map_err(std::io::Error::from);
        text.and_then(|text| replace(&session.join(FILE), &text))
            .map_err(|error| Failure::new(format!("cannot write `{FILE}`: {error}")))
    }

    /// Refuses a context over which the session cannot begin: its image was made over another one.
    pub fn check_beginning(&self, now: Option<&ContextMark>) -> Result<()> {
        warm::check_context(self.image_context.as_ref(), now).map_err(|failure| {
            failure.hint("put that back as it was, or make a session without `--image`, or with one that was made over what is there now")
        })
    }

    /// The flags again.
    pub fn flags(&self) -> Result<NewSession> {
        let words =
            ["agentkernel", "session", "new"].into_iter().chain(self.words.iter().map(String::as_str));
        let parsed = Arguments::try_parse_from(words).map_err(|error| {
            let text = error.to_string();
            let first = text.lines().next().unwrap_or_default().trim_start_matches("error: ");
            Failure::new(format!("this version does not take the flags of the session: {first}"))
                .hint("make the session anew; `agentkernel session show` says its flags")
        })?;
        match parsed.command {
            Command::Session { action: SessionAction::New(new) } => Ok(*new),
            _ => Err(Failure::new("the session's flags are none of `session new`")),
        }
    }

    /// Makes relative paths and the search for agentkernel.toml start where they did for `new`.
    pub fn enter(&self) -> Result<()> {
        std::env::set_current_dir(&self.directory).map_err(|error| {
            let shown = self.directory.display();
            Failure::new(format!("cannot enter `{shown}`, where the session was made: {error}"))
                .hint("put the directory back, or make a session elsewhere")
        })
    }
}

fn word(word: OsString) -> Result<String> {
    word.into_string().map_err(|word| {
        Failure::new(format!("`{}` is not UTF-8, so it cannot be kept", word.display()))
            .hint("rename the file or directory")
    })
}
