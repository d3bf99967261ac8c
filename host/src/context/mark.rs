//! What a context was made of, as far as it can be known without reading it: whether it is still the same is
//! told later, in another process.

use std::path::Path;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::Context;
use crate::Result;
use crate::engine::hex;

/// What the files of a [`Context`](super::Context) looked like when they were opened: names, sizes and times of their last
/// change, of texts the content. Contexts that do not differ in this are taken to be the same text.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ContextMark {
    parts: Vec<Part>,
}

/// A file, a directory or a text that was given.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Part {
    /// As it was named, for messages: the same may have other names.
    given: String,
    files: u64,
    /// As they lie on the disk.
    bytes: u64,
    sha256: String,
}

/// What a file looks like.
pub(super) struct Look {
    pub bytes: u64,
    /// Seconds and nanoseconds since 1970.
    pub modified: (i64, i64),
}

impl ContextMark {
    /// What files and directories look like now. They are not read, so this is quick where [`Context::open`] decompresses.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Grant`](crate::ErrorKind::Grant) when one is not there or a directory cannot be read.
    pub fn of(paths: impl IntoIterator<Item = impl AsRef<Path>>) -> Result<Self> {
        Context::of(paths)?.mark()
    }

    /// In words, what is another now; `None` if nothing is.
    pub fn difference(&self, now: &ContextMark) -> Option<String> {
        let (before, after) = (&self.parts, &now.parts);
        if before.len() != after.len() {
            return Some(format!(
                "it was made of {} files or directories, and is of {}",
                before.len(),
                after.len()
            ));
        }
        let (before, after) =
            before.iter().zip(after).find(|(before, after)| before.sha256 != after.sha256)?;
        let name = after.given.escape_debug();
        let told = |part: &Part| format!("{} files of {} bytes", part.files, part.bytes);
        Some(match (before.files, before.bytes) == (after.files, after.bytes) {
            true => format!("`{name}` has another content or another time of change"),
            false if (before.files, after.files) == (1, 1) => {
                format!("`{name}` had {} bytes, and has {}", before.bytes, after.bytes)
            }
            false => format!("`{name}` had {}, and has {}", told(before), told(after)),
        })
    }
}

/// Makes a mark, file by file.
pub(super) struct Marker {
    parts: Vec<(Part, Sha256)>,
}

impl Marker {
    pub fn new(given: Vec<String>) -> Self {
        let part = |given| (Part { given, files: 0, bytes: 0, sha256: String::new() }, Sha256::new());
        Marker { parts: given.into_iter().map(part).collect() }
    }

    /// Notes a file of a part.
    pub fn file(&mut self, part: usize, name: &str, look: &Look) {
        let (seconds, nanoseconds) = look.modified;
        self.note(part, name, look.bytes, &[seconds.to_le_bytes(), nanoseconds.to_le_bytes()].concat());
    }

    /// Notes a text.
    pub fn text(&mut self, part: usize, name: &str, text: &[u8]) {
        self.note(part, name, text.len() as u64, text);
    }

    fn note(&mut self, part: usize, name: &str, bytes: u64, rest: &[u8]) {
        let Some((part, hash)) = self.parts.get_mut(part) else { return };
        part.files += 1;
        part.bytes = part.bytes.saturating_add(bytes);
        // Lengths first, so that nothing can be taken for something else.
        for field in [name.as_bytes(), &bytes.to_le_bytes(), rest] {
            hash.update((field.len() as u64).to_le_bytes());
            hash.update(field);
        }
    }

    pub fn end(self) -> ContextMark {
        let end = |(part, hash): (Part, Sha256)| Part { sha256: hex(&hash.finalize()), ..part };
        ContextMark { parts: self.parts.into_iter().map(end).collect() }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use super::super::Context;

    fn difference(at: &Path, change: impl FnOnce()) -> Option<String> {
        let open = || Context::open([at.join("one.txt"), at.join("all")]).unwrap().mark().clone();
        let before = open();
        // As it is kept for another process.
        let before: super::ContextMark =
            serde_json::from_str(&serde_json::to_string(&before).unwrap()).unwrap();
        change();
        before.difference(&open())
    }

    #[test]
    fn what_was_changed_is_told() {
        let place = tempfile::tempdir().unwrap();
        let at = place.path();
        fs::create_dir(at.join("all")).unwrap();
        for (name, text) in [("one.txt", "1"), ("all/a", "a"), ("all/b", "bb"), ("all/.hidden", "")] {
            fs::write(at.join(name), text).unwrap();
        }
        let told = |change: &dyn Fn()| difference(at, change).unwrap_or_default();
        assert_eq!(told(&|| fs::write(at.join("all/.hidden"), "more").unwrap()), "");
        assert!(told(&|| fs::write(at.join("one.txt"), "12").unwrap()).ends_with("had 1 bytes, and has 2"));
        let same_size = told(&|| {
            std::thread::sleep(std::time::Duration::from_millis(20));
            fs::write(at.join("one.txt"), "21").unwrap();
        });
        assert!(same_size.contains("one.txt` has another content"), "{same_size}");
        let more = told(&|| fs::write(at.join("all/c"), "c").unwrap());
        assert!(more.ends_with("all` had 2 files of 3 bytes, and has 3 files of 4 bytes"), "{more}");
        let moved = told(&|| fs::rename(at.join("all/c"), at.join("all/d")).unwrap());
        assert!(moved.contains("all` has another content"), "{moved}");
        // The same is told of files that are not opened.
        let paths = [at.join("one.txt"), at.join("all"), at.join("one.txt")];
        let opened = Context::open(&paths).unwrap().mark().clone();
        assert_eq!(opened.difference(&super::ContextMark::of(&paths).unwrap()), None);
        // Who has less of it than before, or has it in another order.
        let two = Context::open([at.join("one.txt"), at.join("all")]).unwrap();
        let one = Context::open([at.join("one.txt")]).unwrap();
        assert!(two.mark().difference(one.mark()).unwrap().contains("2 files or directories, and is of 1"));
        let other = Context::open([at.join("all"), at.join("one.txt")]).unwrap();
        assert!(two.mark().difference(other.mark()).is_some());
    }
}
