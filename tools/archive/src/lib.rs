//! The tool `archive`: see `wit/archive.wit`.

mod codec;
mod create;
mod extract;
mod item;
mod limits;
mod open;
mod tar;
mod zip;
mod zip_writer;

use exports::agentkernel::archive::archive::{Codec, Created, Entry, Extracted, Guest, Kind};

use crate::limits::{Budget, ENTRIES};
use crate::open::Archive;

wit_bindgen::generate!({ world: "tool", path: "wit" });

/// What `read` and `decompress` give at most, unless they are told: it has to fit into memory twice.
const IN_MEMORY: u64 = 64 << 20;

struct Tool;

export!(Tool);

impl Guest for Tool {
    fn entries(archive: String, max_entries: Option<u32>) -> Result<Vec<Entry>, String> {
        let archive = Archive::open(&archive)?;
        let items = archive.list(max_entries.unwrap_or(ENTRIES), &Budget::unlimited())?;
        Ok(items
            .into_iter()
            .map(|item| Entry {
                name: item.name,
                kind: item.kind,
                size: item.size,
                compressed: item.compressed,
                modified: item.modified,
            })
            .collect())
    }

    fn read(archive: String, name: String, max_bytes: Option<u64>) -> Result<Vec<u8>, String> {
        let most = max_bytes.unwrap_or(IN_MEMORY);
        let opened = Archive::open(&archive)?;
        let mut found = None;
        opened.visit(
            u32::MAX,
            &Budget::unlimited(),
            &mut |item| item.name == name && item.kind == Kind::File,
            &mut |_, content| {
                let bytes = codec::read_all(content, most);
                let wrong = |error| format!("the entry `{}`: {}", name.escape_debug(), open::reason(&error));
                found = Some(bytes.map_err(wrong)?);
                Ok(false)
            },
        )?;
        match found {
            None => Err(format!(
                "there is no file `{}` in `{archive}`: `entries` says what there is",
                name.escape_debug()
            )),
            Some(bytes) if bytes.len() as u64 > most => {
                Err(format!("`{name}` has more than {most} bytes: give a larger `max_bytes`, or extract it"))
            }
            Some(bytes) => Ok(bytes),
        }
    }

    fn extract(
        archive: String,
        into: Option<String>,
        names: Option<Vec<String>>,
        overwrite: Option<bool>,
        max_bytes: Option<u64>,
        max_entries: Option<u32>,
        max_ratio: Option<u32>,
    ) -> Result<Extracted, String> {
        let order = extract::Order {
            into,
            names,
            overwrite: overwrite.unwrap_or(false),
            entries: max_entries.unwrap_or(ENTRIES),
            bytes: max_bytes,
            ratio: max_ratio,
        };
        extract::extract(&archive, order)
    }

    fn create(archive: String, paths: Vec<String>, base: Option<String>) -> Result<Created, String> {
        create::create(&archive, &paths, base.as_deref())
    }

    fn compress(data: Vec<u8>, codec: Codec, level: Option<u32>) -> Result<Vec<u8>, String> {
        codec::compress(&data, codec, level)
    }

    fn decompress(data: Vec<u8>, codec: Option<Codec>, max_bytes: Option<u64>) -> Result<Vec<u8>, String> {
        codec::decompress(&data, codec, max_bytes.unwrap_or(IN_MEMORY))
    }
}
