//! Keeping changes that could not be applied.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use agentkernel::rlm::timestamp;
use agentkernel::task::TaskId;
use serde::{Deserialize, Serialize};

use super::CHANGES;
use crate::failure::{Failure, Result};
use crate::files;
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
    #[serde(with = "any_path")]
    pub directory: PathBuf,
    /// How many, where that could be told.
    pub changes: Option<u64>,
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

/// Paths as text, or else as bytes.
mod any_path {
    use std::path::{Path, PathBuf};

    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Written {
        Text(PathBuf),
        Bytes(Vec<u8>),
    }

    pub fn serialize<S: Serializer>(path: &Path, serializer: S) -> Result<S::Ok, S::Error> {
        match path.to_str() {
            Some(text) => text.serialize(serializer),
            None => path.as_os_str().as_encoded_bytes().serialize(serializer),
        }
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<PathBuf, D::Error> {
        Written::deserialize(deserializer).map(|written| match written {
            Written::Text(path) => path,
            Written::Bytes(bytes) => of_bytes(bytes),
        })
    }

    #[cfg(unix)]
    fn of_bytes(bytes: Vec<u8>) -> PathBuf {
        use std::os::unix::ffi::OsStringExt;
        std::ffi::OsString::from_vec(bytes).into()
    }

    #[cfg(not(unix))]
    fn of_bytes(bytes: Vec<u8>) -> PathBuf {
        String::from_utf8_lossy(&bytes).into_owned().into()
    }
}

/// What became of changes that could not be applied.
pub enum Kept {
    /// They are kept under this name.
    Named(String),
    /// They could not be kept, and are in a directory for temporary files, as they would be kept.
    Aside(PathBuf, Failure),
    Lost(Failure),
}

impl Kept {
    /// What can be done with them.
    pub fn remedy(&self) -> String {
        match self {
            Kept::Named(name) => format!(
                "the changes are kept: `agentkernel changes diff {name}` shows them, `agentkernel changes apply {name}` takes \
                 them over, `agentkernel changes discard {name}` drops them"
            ),
            Kept::Aside(at, why) => {
                let place = files::data().map(|data| data.join(files::CHANGES));
                let place = place.map_or("changes".to_owned(), |place| place.display().to_string());
                format!(
                    "the changes are in `{}`, since {}: move that directory into `{place}` before temporary files are \
                     removed, and `agentkernel changes` has them",
                    at.display(),
                    told(why)
                )
            }
            Kept::Lost(why) => format!("the changes are lost: {}", told(why)),
        }
    }
}

fn told(Failure { message, hint }: &Failure) -> String {
    match hint {
        None => message.clone(),
        Some(hint) => format!("{message} ({hint})"),
    }
}

/// Keeps changes to `directory` that `by` could not apply, with the layers that `write` makes.
pub fn keep(
    by: &str,
    directory: &Path,
    changes: Option<usize>,
    why: &str,
    write: impl Fn(&Path) -> agentkernel::Result<()>,
) -> Kept {
    // The end of it is random.
    let id = TaskId::new();
    let name = format!("{by}-{}", &id.as_str()[id.as_str().len() - LETTERS..]);
    let about = About {
        format: FORMAT,
        created: timestamp(SystemTime::now()),
        directory: directory.canonicalize().unwrap_or_else(|_| directory.to_owned()),
        changes: changes.map(|changes| changes as u64),
        why: why.to_owned(),
    };
    let fill = |kept: &Path| {
        write(&kept.join(LAYERS))?;
        about.write(kept)
    };
    match Store::open(&CHANGES).and_then(|store| store.make(&name, fill)) {
        Ok(()) => Kept::Named(name),
        Err(why) => match aside(&name, fill) {
            Ok(at) => Kept::Aside(at, why),
            Err(_) => Kept::Lost(why),
        },
    }
}

/// Puts changes where they take no room: their contents lie there already.
fn aside(name: &str, fill: impl Fn(&Path) -> Result<()>) -> Result<PathBuf> {
    let cannot = |error| Failure::new(format!("cannot make a temporary directory: {error}"));
    let directory = tempfile::Builder::new().prefix("agentkernel-changes-").tempdir().map_err(cannot)?;
    let at = directory.path().join(name);
    files::private(&at).map_err(cannot)?;
    fill(&at)?;
    let _ = directory.keep();
    Ok(at)
}

/// Drops changes that were kept.
pub fn forget(name: &str) -> Result<()> {
    Store::open(&CHANGES)?.remove(name)
}
