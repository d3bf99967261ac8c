//! The interpreter component: the one that is built in, or another that the embedder names.

use std::io::Read;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use sha2::{Digest, Sha256};

use crate::{Error, ErrorKind, Result};

static PREBUILT: &[u8] = include_bytes!("../../../guest-python/prebuilt/python.wasm.zst");
static MANIFEST: &str = include_str!("../../../guest-python/prebuilt/manifest.json");

/// A component larger than this is not one of ours; decompression stops there.
const MAX_BYTES: u64 = 512 << 20;

/// Where the interpreter comes from.
#[derive(Clone, Debug, Default)]
pub(crate) enum Source {
    #[default]
    BuiltIn,
    /// A `.wasm` or `.wasm.zst` file that the embedder vouches for.
    File(PathBuf),
}

/// What the manifest of the built-in guest says about it.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Manifest {
    pub cpython: String,
    pub component: Component,
}

#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Component {
    pub sha256: String,
}

pub(crate) fn manifest() -> Manifest {
    serde_json::from_str(MANIFEST).expect("the manifest is checked by a test")
}

impl Source {
    /// A name for the content: equal hashes, equal components. Cheap for the built-in one.
    pub fn sha256(&self) -> Result<String> {
        match self {
            Source::BuiltIn => Ok(manifest().component.sha256),
            Source::File(path) => Ok(hex(&Sha256::digest(read(path)?))),
        }
    }

    /// The component's bytes, decompressed.
    pub fn component(&self) -> Result<Vec<u8>> {
        let (bytes, name) = match self {
            Source::BuiltIn => (PREBUILT.to_vec(), "the built-in interpreter".to_owned()),
            Source::File(path) => (read(path)?, format!("`{}`", path.display())),
        };
        if !bytes.starts_with(&[0x28, 0xb5, 0x2f, 0xfd]) {
            return Ok(bytes);
        }
        let unreadable = |error: &dyn std::fmt::Display| {
            Error::new(ErrorKind::Guest, format!("cannot decompress {name}: {error}"))
                .hint("rebuild it with `cargo xtask guest`")
        };
        let decoder =
            ruzstd::decoding::StreamingDecoder::new(bytes.as_slice()).map_err(|error| unreadable(&error))?;
        let mut component = Vec::new();
        decoder.take(MAX_BYTES).read_to_end(&mut component).map_err(|error| unreadable(&error))?;
        Ok(component)
    }
}

fn read(path: &Path) -> Result<Vec<u8>> {
    let read = || match std::fs::metadata(path)?.is_file() {
        true => std::fs::read(path),
        false => Err(std::io::Error::other("it is no file")),
    };
    read().map_err(|error| {
        Error::new(ErrorKind::Guest, format!("cannot read the interpreter `{}`", path.display()))
            .hint("leave the setting out to use the built-in interpreter")
            .source(error)
    })
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write;
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}
