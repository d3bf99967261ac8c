//! Searching files and directories.

use std::fs;
use std::path::{Path, PathBuf};

use common::{explain, resolve};
use regex::Regex;

use crate::exports::agentkernel::text::text::{Found, Hit};
use crate::glob::Glob;
use crate::pattern::{Places, groups};

const FILE_BYTES: u64 = 64 << 20;
/// Where binary files show their first NUL.
const LOOKED_AT: usize = 8192;
const DEFAULT_LIMIT: u32 = 1000;
const SKIPPED_NAMED: usize = 100;
const TEXT_CHARS: usize = 1000;
const CONTEXT_CHARS: usize = 400;

/// # Errors
///
/// A wrong glob, or a `path` that cannot be read. What lies below it and cannot be read is skipped.
pub fn search(
    regex: &Regex,
    path: Option<&str>,
    glob: Option<&str>,
    limit: Option<u32>,
) -> Result<Found, String> {
    let named = path.unwrap_or("/workspace");
    let root = resolve(named)?;
    let glob = glob.map(Glob::new).transpose()?;
    let wrong = |error: std::io::Error| explain("search", named, &error);
    let mut search = Search {
        regex,
        root: &root,
        glob,
        limit: limit.unwrap_or(DEFAULT_LIMIT) as usize,
        found: Found { hits: Vec::new(), files: 0, skipped: Vec::new(), truncated: false },
    };
    if fs::metadata(&root).map_err(wrong)?.is_dir() {
        let entries = sorted(&root).map_err(wrong)?;
        search.directory(entries);
    } else {
        let content = fs::metadata(&root).and_then(|metadata| {
            if metadata.len() > FILE_BYTES { Ok(None) } else { fs::read(&root).map(Some) }
        });
        let content = content.map_err(wrong)?;
        let content = content.ok_or_else(|| format!("cannot search `{named}`: it has more than 64 MiB"))?;
        search.content(&root, content);
    }
    Ok(search.found)
}

/// What is in a directory, the names that begin with a dot left out, the last first.
fn sorted(directory: &Path) -> std::io::Result<Vec<(PathBuf, fs::FileType)>> {
    let mut entries = Vec::new();
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        if !entry.file_name().as_encoded_bytes().starts_with(b".") {
            entries.push((entry.path(), entry.file_type()?));
        }
    }
    entries.sort_by(|one, other| other.0.cmp(&one.0));
    Ok(entries)
}

struct Search<'a> {
    regex: &'a Regex,
    root: &'a Path,
    glob: Option<Glob>,
    limit: usize,
    found: Found,
}

impl Search<'_> {
    fn directory(&mut self, mut waiting: Vec<(PathBuf, fs::FileType)>) {
        while let Some((path, kind)) = waiting.pop() {
            if kind.is_dir() {
                match sorted(&path) {
                    Ok(entries) => waiting.extend(entries),
                    Err(error) => self.skip(&path, &error.to_string()),
                }
            } else if kind.is_file() && self.wanted(&path) {
                match fs::metadata(&path) {
                    Ok(metadata) if metadata.len() > FILE_BYTES => self.skip(&path, "more than 64 MiB"),
                    _ => match fs::read(&path) {
                        Ok(content) => self.content(&path, content),
                        Err(error) => self.skip(&path, &error.to_string()),
                    },
                }
            }
            if self.found.truncated {
                return;
            }
        }
    }

    fn wanted(&self, path: &Path) -> bool {
        let below = path.strip_prefix(self.root).unwrap_or(path);
        self.glob.as_ref().is_none_or(|glob| glob.fits(&below.to_string_lossy()))
    }

    fn skip(&mut self, path: &Path, why: &str) {
        if self.found.skipped.len() < SKIPPED_NAMED {
            self.found.skipped.push(format!("{}: {why}", shown(path)));
        }
    }

    fn content(&mut self, path: &Path, content: Vec<u8>) {
        if content[..content.len().min(LOOKED_AT)].contains(&0) {
            self.skip(path, "binary");
            return;
        }
        self.found.files += 1;
        let text = match String::from_utf8(content) {
            Ok(text) => text,
            Err(error) => String::from_utf8_lossy(error.as_bytes()).into_owned(),
        };
        let mut places = None;
        for captures in self.regex.captures_iter(&text) {
            let Some(whole) = captures.get(0) else { continue };
            // `$` matches after the last newline too, where there is no line.
            if whole.start() == text.len() && (text.is_empty() || text.ends_with('\n')) {
                continue;
            }
            if self.found.hits.len() == self.limit {
                self.found.truncated = true;
                return;
            }
            let places = places.get_or_insert_with(|| Places::new(&text));
            places.index(whole.start());
            let (line, column) = places.line_and_column();
            self.found.hits.push(Hit {
                path: shown(path),
                line,
                column,
                text: first(whole.as_str(), TEXT_CHARS).to_owned(),
                context: around(&text, whole.start()),
                groups: groups(&captures),
            });
        }
    }
}

/// A path as the program can use it: its directory is `/workspace`.
fn shown(path: &Path) -> String {
    path.strip_prefix("/workspace").unwrap_or(path).to_string_lossy().into_owned()
}

fn first(text: &str, characters: usize) -> &str {
    text.char_indices().nth(characters).map_or(text, |(end, _)| &text[..end])
}

/// The line at `offset`, or the part of it that is around `offset`.
fn around(text: &str, offset: usize) -> String {
    let start = text[..offset].rfind('\n').map_or(0, |newline| newline + 1);
    let end = text[offset..].find('\n').map_or(text.len(), |length| offset + length);
    let line = text[start..end].trim_end_matches('\r');
    if line.len() <= CONTEXT_CHARS {
        return line.to_owned();
    }
    let before = &text[start..offset];
    let skipped = before.char_indices().rev().nth(CONTEXT_CHARS / 4 - 1).map_or(0, |(place, _)| place);
    first(line.get(skipped..).unwrap_or_default(), CONTEXT_CHARS).to_owned()
}
