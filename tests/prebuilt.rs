//! What is committed prebuilt was made from the sources as they are.

use std::collections::{BTreeMap, BTreeSet};
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
    let directory = root().join("guest-python/prebuilt");
    let manifest = fs::read(directory.join("manifest.json")).unwrap();
    let manifest = serde_json::from_slice(&manifest).unwrap();
    (directory, manifest)
}

fn files(path: PathBuf, found: &mut Vec<PathBuf>) {
    if path.is_dir() {
        for entry in fs::read_dir(path).unwrap() {
            let entry = entry.unwrap();
            if !["__pycache__", "target"].iter().any(|name| entry.file_name() == *name) {
                files(entry.path(), found);
            }
        }
    } else {
        found.push(path);
    }
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap()
}

#[test]
fn the_interpreter_was_built_from_these_sources() {
    let root = root();
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

#[derive(Deserialize)]
struct ToolManifest {
    tools: BTreeMap<String, PrebuiltTool>,
}

#[derive(Deserialize)]
struct PrebuiltTool {
    #[serde(flatten)]
    component: Component,
    sources: BTreeMap<String, String>,
}

#[test]
fn the_tools_were_built_from_these_sources() {
    let root = root();
    let directory = root.join("tools/prebuilt");
    let manifest = fs::read(directory.join("manifest.json")).expect("run `cargo xtask-tools build`");
    let manifest: ToolManifest = serde_json::from_slice(&manifest).unwrap();
    let mut known = BTreeSet::new();
    for (name, tool) in &manifest.tools {
        let component = fs::read(directory.join(format!("{name}.wasm"))).unwrap_or_default();
        let hash = (sha256(&component), component.len() as u64);
        let hint = format!("run `cargo xtask-tools build {name}`");
        assert_eq!(hash, (tool.component.sha256.clone(), tool.component.bytes), "`{name}.wasm`: {hint}");
        for (path, expected) in &tool.sources {
            let source = fs::read(root.join(path)).unwrap_or_else(|_| panic!("`{path}` is gone: {hint}"));
            assert_eq!(&sha256(&source), expected, "`{path}` has changed: {hint}");
            known.insert(path.clone());
        }
    }
    for entry in fs::read_dir(&directory).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_stem().unwrap().to_str().unwrap();
        let is_component = path.extension().is_some_and(|extension| extension == "wasm");
        assert!(!is_component || manifest.tools.contains_key(name), "no tool is called `{name}` any more");
    }
    let mut sources = Vec::new();
    for entry in fs::read_dir(root.join("tools")).unwrap() {
        let path = entry.unwrap().path();
        if path.join("Cargo.toml").exists() {
            files(path, &mut sources);
        }
    }
    for source in sources {
        let name = source.strip_prefix(root).unwrap().to_str().unwrap().replace('\\', "/");
        assert!(known.contains(&name), "`{name}` is new: run `cargo xtask-tools build`");
    }
}
