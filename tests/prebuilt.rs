//! What is committed prebuilt was made from the sources as they are.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use sha2::{Digest, Sha256};

#[derive(Deserialize)]
struct Manifest {
    sources: BTreeMap<String, String>,
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
    let manifest = fs::read(root.join("guest-python/prebuilt/manifest.json")).unwrap();
    let manifest: Manifest = serde_json::from_slice(&manifest).unwrap();
    for (name, expected) in &manifest.sources {
        let source =
            fs::read(root.join(name)).unwrap_or_else(|_| panic!("`{name}` is gone: run `cargo xtask guest`"));
        let actual: String = Sha256::digest(source).iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(&actual, expected, "`{name}` has changed: run `cargo xtask guest`");
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
