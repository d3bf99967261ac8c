//! A directory's entries, one at a time: a directory of a million files is never held whole.

use std::sync::Arc;

use cap_std::fs::ReadDir;

use super::bindings::wasi::filesystem::types::{DescriptorType, DirectoryEntry};
use super::descriptor::kind;
use super::error::Result;
use super::{Opened, overlay};
use crate::replay::Taped;

/// A directory being listed.
pub struct Listing {
    pub(super) entries: Entries,
    pub(super) _opened: Arc<Opened>,
    /// What the tape calls it, if there is one.
    pub(super) taped: Option<Arc<Taped>>,
}

pub(super) enum Entries {
    Plain(ReadDir),
    Overlaid(overlay::Entries),
    /// Those of a recording.
    Recorded,
}

impl Listing {
    /// The next entry. Names that are not UTF-8 are left out: WASI has no way to say them, so the
    /// program could not open them either.
    pub(super) fn next(&mut self) -> Result<Option<DirectoryEntry>> {
        let entries = match &mut self.entries {
            Entries::Plain(entries) => entries,
            Entries::Overlaid(entries) => return Ok(entries.next()?),
            Entries::Recorded => return Ok(None),
        };
        for entry in entries {
            let entry = entry?;
            let Ok(name) = entry.file_name().into_string() else {
                continue;
            };
            // An entry that vanished meanwhile still has its name.
            let type_ = entry.file_type().map_or(DescriptorType::Unknown, kind);
            return Ok(Some(DirectoryEntry { type_, name }));
        }
        Ok(None)
    }
}
