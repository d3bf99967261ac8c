//! Writing files so that a reader finds the old one or the new one, whole.

use std::fs;
use std::path::Path;

use crate::failure::{Failure, Result};

pub fn replace(path: &Path, bytes: &[u8]) -> Result<()> {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{}.new", std::process::id()));
    let beside = path.with_file_name(name);
    let written = fs::write(&beside, bytes).and_then(|()| fs::rename(&beside, path));
    written.map_err(|error| {
        let _ = fs::remove_file(&beside);
        Failure::new(format!("cannot write `{}`: {error}", path.display()))
    })
}
