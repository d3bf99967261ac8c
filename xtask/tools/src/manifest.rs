//! What prebuilt tools were built from.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// The version of the format of manifests.
const FORMAT: u32 = 1;

#[derive(Serialize, Deserialize)]
pub struct Manifest {
    pub format: u32,
    /// By name.
    pub tools: BTreeMap<String, Entry>,
}

#[derive(Serialize, Deserialize)]
pub struct Entry {
    /// The version of the compiler.
    pub rustc: String,
    /// Of the component.
    pub sha256: String,
    pub bytes: u64,
    /// Source path, relative to the repository, to the SHA-256 of its content.
    pub sources: BTreeMap<String, String>,
}

impl Default for Manifest {
    fn default() -> Self {
        Self { format: FORMAT, tools: BTreeMap::new() }
    }
}

impl Manifest {
    pub const NAME: &str = "manifest.json";

    pub fn read(directory: &Path) -> Result<Self> {
        let path = directory.join(Self::NAME);
        let text = fs::read(&path).with_context(|| {
            format!("cannot read `{}`\nhint: `cargo xtask-tools build` writes it", path.display())
        })?;
        let manifest: Self = serde_json::from_slice(&text)
            .with_context(|| format!("cannot understand `{}`", path.display()))?;
        if manifest.format != FORMAT {
            bail!("`{}` has another format than {FORMAT}", path.display());
        }
        Ok(manifest)
    }
}

pub fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}
