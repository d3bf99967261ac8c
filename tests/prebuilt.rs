//! What is committed prebuilt was made from the sources as they are.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use sha2::{Digest, Sha256};

#[derive(Deserialize)]
struct Manifest {
    component: Component,
    binaryen: Option<String>,
    sources: BTreeMap<String, String>,
}

#[derive(Deserialize)]
struct Component {
    sha256: String,
    bytes: u64,
}

fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

fn prebuilt() -> (PathBuf, Manifest) {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().join("guest-python/prebuilt");
    let manifest = fs::read(directory.join("manifest.json")).unwrap();
    let manifest = serde_json::from_slice(&manifest).unwrap();
    (directory, manifest)
}

fn files(path: PathBuf, found: &mut Vec<PathBuf>) {
    if path.is_dir() {
        for entry in fs::read_dir(path).unwrap() {
            let entry = entry.unwrap();
            if entry.file_name() != "__pycache__" {
                files(entry.path(), found);
            }
        }
    } else {
        found.push(path);
    }
}

#[test]
fn the_interpreter_was_built_from_these_sources() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let (_, manifest) = prebuilt();
    for (name, expected) in &manifest.sources {
        let source =
            fs::read(root.join(name)).unwrap_or_else(|_| panic!("`{name}` is gone: run `cargo xtask guest`"));
        assert_eq!(&sha256(&source), expected, "`{name}` has changed: run `cargo xtask guest`");
    }
    let mut sources = Vec::new();
    for folder in ["guest-python/_agentkernel", "xtask/src", "wit"] {
        files(root.join(folder), &mut sources);
    }
    for source in sources {
        let name = source.strip_prefix(root).unwrap().to_str().unwrap();
        assert!(manifest.sources.contains_key(name), "`{name}` is new: run `cargo xtask guest`");
    }
}

/// The manifest's hash also names the compiled interpreter in the cache.
#[test]
fn the_interpreter_is_the_one_of_the_manifest() {
    let (directory, manifest) = prebuilt();
    let compressed = fs::File::open(directory.join("python.wasm.zst")).unwrap();
    let mut component = Vec::new();
    let mut decoder = ruzstd::decoding::StreamingDecoder::new(compressed).unwrap();
    std::io::Read::read_to_end(&mut decoder, &mut component).unwrap();
    assert_eq!(component.len() as u64, manifest.component.bytes);
    assert_eq!(sha256(&component), manifest.component.sha256);
    assert!(manifest.binaryen.is_some(), "it was built with `--fast`");
}
