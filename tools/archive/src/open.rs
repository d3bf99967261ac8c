//! Archives of any kind, entry by entry.

use std::fs::File;
use std::io::{self, BufReader, Read, Seek};

use common::{explain, resolve};

use crate::codec;
use crate::exports::agentkernel::archive::archive::Kind;
use crate::item::Item;
use crate::limits::Budget;
use crate::{tar, zip};

/// What is done with an entry: its content may be read, `false` ends the visit.
pub type Each<'a> = &'a mut dyn FnMut(&Item, &mut dyn Read) -> Result<bool, String>;

pub struct Archive<'a> {
    path: &'a str,
    file: File,
    pub bytes: u64,
}

impl<'a> Archive<'a> {
    /// # Errors
    ///
    /// That the file cannot be read.
    pub fn open(path: &'a str) -> Result<Self, String> {
        let wrong = |error: io::Error| explain("read", path, &error);
        let file = File::open(resolve(path)?).map_err(wrong)?;
        let metadata = file.metadata().map_err(wrong)?;
        if metadata.is_dir() {
            return Err(wrong(io::ErrorKind::IsADirectory.into()));
        }
        Ok(Archive { path, file, bytes: metadata.len() })
    }

    /// All entries, without their content.
    ///
    /// # Errors
    ///
    /// As [`Archive::visit`].
    pub fn list(self, limit: u32, budget: &Budget) -> Result<Vec<Item>, String> {
        let mut items = Vec::new();
        let path = self.path;
        self.entries(
            limit,
            budget,
            &mut |item| {
                items.push(item.clone());
                false
            },
            &mut |_, _| Ok(true),
        )
        .map_err(|error| said(path, &error))?;
        Ok(items)
    }

    /// Gives each entry that `wanted` names with its content to `each`.
    ///
    /// # Errors
    ///
    /// What `each` says; that this is no archive, is damaged, or goes past a limit.
    pub fn visit(
        self,
        limit: u32,
        budget: &Budget,
        wanted: &mut dyn FnMut(&Item) -> bool,
        each: Each<'_>,
    ) -> Result<(), String> {
        let path = self.path;
        let mut why = None;
        let result = self.entries(limit, budget, wanted, &mut |item, content| {
            each(item, content).map_err(|error| {
                why = Some(error);
                io::Error::other("stopped")
            })
        });
        match (result, why) {
            (Ok(()), _) => Ok(()),
            // What `each` says needs no more words.
            (Err(_), Some(why)) => Err(why),
            (Err(error), None) => Err(said(path, &error)),
        }
    }

    fn entries(
        mut self,
        limit: u32,
        budget: &Budget,
        wanted: &mut dyn FnMut(&Item) -> bool,
        each: &mut dyn FnMut(&Item, &mut dyn Read) -> io::Result<bool>,
    ) -> io::Result<()> {
        let mut start = Vec::new();
        (&self.file).take(512).read_to_end(&mut start)?;
        self.file.rewind()?;
        if start.starts_with(b"PK") {
            let entries = zip::entries(&mut self.file, limit)?;
            zip::check_overlaps(&entries)?;
            for entry in entries.iter().filter(|entry| wanted(&entry.item)) {
                let more = match entry.item.kind {
                    Kind::File => zip::content(&mut self.file, entry, |content| {
                        each(&entry.item, &mut budget.counted(content))
                    })?,
                    _ => each(&entry.item, &mut io::empty())?,
                };
                if !more {
                    break;
                }
            }
            return Ok(());
        }
        let mut count = 0;
        let mut counted = |item: Item, content: &mut dyn Read| {
            count += 1;
            if count > limit {
                return Err(io::Error::other(zip::too_many(limit)));
            }
            if wanted(&item) { each(&item, content) } else { Ok(true) }
        };
        let source = BufReader::with_capacity(64 << 10, &self.file);
        match codec::detect(&start) {
            Some(codec) => {
                let mut source = budget.counted(codec::reader(codec, source));
                let mut first = Vec::new();
                source.by_ref().take(512).read_to_end(&mut first)?;
                if !tar::is_header(&first) {
                    return Err(io::Error::other(format!(
                        "this is no archive but one file, compressed with {}: read it and use `decompress`",
                        codec::name(codec)
                    )));
                }
                tar::visit(&mut BufReader::with_capacity(64 << 10, first.chain(source)), &mut counted)
            }
            None if tar::is_header(&start) => tar::visit(&mut budget.counted(source), &mut counted),
            None => Err(io::Error::other("this is neither a zip nor a tar file, compressed or not")),
        }
    }
}

fn said(path: &str, error: &io::Error) -> String {
    format!("`{}`: {}", path.escape_debug(), reason(error))
}

/// An error of reading, in words.
pub fn reason(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::OutOfMemory => codec::NO_MEMORY.to_owned(),
        io::ErrorKind::UnexpectedEof => "it is cut off".to_owned(),
        io::ErrorKind::InvalidData | io::ErrorKind::InvalidInput => format!("it is damaged: {error}"),
        _ => error.to_string(),
    }
}
