//! Where a session's state stands.

use std::fs;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::failure::{Failure, Result};
use crate::store::replace;

const FILE: &str = "head.json";

/// The last turn that is part of the session, and the image of the memory after it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Head {
    pub turn: u64,
    /// A file of the session; none at the beginning.
    pub image: Option<String>,
}

/// The name of the image after a turn.
pub fn image_name(turn: u64) -> String {
    format!("turn-{turn}.akimg")
}

/// The turn whose image a file is by its name.
fn turn_of(name: &str) -> Option<u64> {
    let number = name.strip_prefix("turn-")?.strip_suffix(".akimg")?;
    number.bytes().all(|byte| byte.is_ascii_digit()).then(|| number.parse().ok())?
}

/// Whether a file is such an image, and nothing of somebody else's.
pub fn is_image(name: &str) -> bool {
    turn_of(name).is_some()
}

/// The turns of which there are images in a directory, in ascending order.
pub fn turns_in(directory: &Path) -> Vec<u64> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    let mut turns: Vec<u64> = entries.filter_map(|entry| turn_of(entry.file_name().to_str()?)).collect();
    turns.sort_unstable();
    turns
}

impl Head {
    pub fn read(session: &Path) -> Result<Self, String> {
        let text =
            fs::read(session.join(FILE)).map_err(|error| format!("`{FILE}` cannot be read: {error}"))?;
        let head: Head =
            serde_json::from_slice(&text).map_err(|error| format!("`{FILE}` cannot be read: {error}"))?;
        match &head.image {
            Some(image) if !is_image(image) => Err(format!("`{FILE}` names no image of the session")),
            _ => Ok(head),
        }
    }

    pub fn write(&self, session: &Path) -> Result<()> {
        let text = serde_json::to_vec(self).map_err(std::io::Error::from);
        text.and_then(|text| replace(&session.join(FILE), &text)).map_err(|error| {
            Failure::new(format!("cannot write `{FILE}` of the session: {error}"))
                .hint("check that its disk has room and can be written")
        })
    }

    /// Removes the images of other turns, and what killed processes left half written.
    pub fn tidy(&self, session: &Path) {
        for entry in fs::read_dir(session).into_iter().flatten().flatten() {
            let name = entry.file_name();
            let name = name.to_string_lossy();
            let other = is_image(&name) && self.image.as_deref() != Some(&*name);
            if other || name.starts_with(".akimg-") || name.ends_with(".json.new") {
                let _ = fs::remove_file(entry.path());
            }
        }
    }
}
