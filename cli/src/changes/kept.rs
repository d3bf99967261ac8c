//! Keeping changes that could not be applied.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use agentkernel::rlm::timestamp;
use agentkernel::task::TaskId;
use serde::{Deserialize, Serialize};

use super::CHANGES;
use crate::failure::{Failure, Result};
use crate::store::{Store, replace};

const FILE: &str = "changes.json";
const FORMAT: u32 = 1;
/// The layers of the overlay.
pub const LAYERS: &str = "layers";

/// Letters by which sets of changes are told apart.
const LETTERS: usize = 6;

/// What is known of changes.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct About {
    format: u32,
    pub created: String,
    /// Where they were to go.
    pub directory: PathBuf,
    /// How many.
    pub changes: u64,
    /// Why they did not.
    pub why: String,
}

impl About {
    pub fn read(kept: &Path) -> Result<Self, String> {
        let cannot = |error: &dyn std::fmt::Display| format!("`{FILE}` cannot be read: {error}");
        let text = fs::read(kept.join(FILE)).map_err(|error| cannot(&error))?;
        let about: About = serde_json::from_slice(&text).map_err(|error| cannot(&error))?;
        match about.format {
            FORMAT => Ok(about),
            format => Err(format!("they have format {format}, and this version reads {FORMAT}")),
        }
    }

    fn write(&self, kept: &Path) -> Result<()> {
        let text = serde_json::to_vec_pretty(self).map_err(std::io::Error::from);
        text.and_then(|text| replace(&kept.join(FILE), &text))
            .map_err(|error| Failure::new(format!("cannot write `{FILE}`: {error}")))
    }
}

/// Keeps changes to `directory` that `by` could not apply, with the layers that `write` makes; gives their name.
pub fn keep(
    by: &str,
    directory: &Path,
    changes: usize,
    why: &str,
    write: impl FnOnce(&Path) -> agentkernel::Result<()>,
) -> Result<String> {
    let store = Store::open(&CHANGES)?;
    // The end of it is random.
    let id = TaskId::new();
    let name = format!("{by}-{}", &id.as_str()[id.as_str().len() - LETTERS..]);
    let about = About {
        format: FORMAT,
        created: timestamp(SystemTime::now()),
        directory: directory.canonicalize().unwrap_or_else(|_| directory.to_owned()),
        changes: changes as u64,
        why: why.to_owned(),
    };
    store.make(&name, |kept| {
        write(&kept.join(LAYERS))?;
        about.write(kept)
    })?;
    Ok(name)
}

/// What can be done with changes that were kept, or why they were not.
pub fn remedy(kept: Result<String>) -> String {
    match kept {
        Ok(name) => format!(
            "the changes are kept: `agentkernel changes diff {name}` shows them, `agentkernel changes apply {name}` takes \
             them over, `agentkernel changes discard {name}` drops them"
        ),
        Err(Failure { message, hint: None }) => format!("the changes are lost: {message}"),
        Err(Failure { message, hint: Some(hint) }) => format!("the changes are lost: {message}; {hint}"),
    }
}
