//! Making archives: written beside their place, and moved there when complete.

use std::fs::{self, File};
use std::io::{self, BufReader, BufWriter, Read, Write};
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use common::{beside, explain, resolve};

use crate::codec::{self, Encoder};
use crate::exports::agentkernel::archive::archive::{Codec, Created};
use crate::item::Paths;
use crate::{tar, zip_writer};

const ENTRIES: usize = 100_000;
const SKIPPED: usize = 100;

enum Format {
    Zip,
    Tar(Option<Codec>),
}

fn format(archive: &str) -> Result<Format, String> {
    let ends = [
        (".zip", Format::Zip),
        (".tar", Format::Tar(None)),
        (".tar.gz", Format::Tar(Some(Codec::Gzip))),
        (".tgz", Format::Tar(Some(Codec::Gzip))),
        (".tar.bz2", Format::Tar(Some(Codec::Bzip2))),
        (".tar.xz", Format::Tar(Some(Codec::Xz))),
        (".tar.zst", Format::Tar(Some(Codec::Zstd))),
    ];
    let lower = archive.to_lowercase();
    ends.into_iter().find(|(end, _)| lower.ends_with(end)).map(|(_, format)| format).ok_or_else(|| {
        format!("`{archive}` does not say what to make: end it in .zip, .tar, .tar.gz, .tgz, .tar.bz2, .tar.xz or .tar.zst")
    })
}

/// A file or directory that goes in.
struct Source {
    path: PathBuf,
    /// With a slash at the end of a directory's.
    name: String,
    size: u64,
    modified: u64,
}

pub fn create(archive: &str, paths: &[String], base: Option<&str>) -> Result<Created, String> {
    let format = format(archive)?;
    let target = resolve(archive)?;
    let wrong = |error: io::Error| explain("write", archive, &error);
    if target.is_dir() {
        return Err(wrong(io::ErrorKind::IsADirectory.into()));
    }
    if paths.is_empty() {
        return Err("`paths` is empty: name at least one file or directory".to_owned());
    }
    let mut skipped = Vec::new();
    let sources = collect(paths, base, &target, &mut skipped)?;
    let part = beside(&target);
    // Whether the place can be written to is told with its own name.
    File::create(&part).map_err(wrong)?;
    let result = match format {
        Format::Zip => zip(&part, &sources),
        Format::Tar(codec) => compressed(&part, codec, &sources),
    };
    let result = result.and_then(|()| {
        let bytes = fs::metadata(&part).map_err(wrong)?.len();
        fs::rename(&part, &target).map_err(wrong)?;
        Ok(bytes)
    });
    let bytes = result.inspect_err(|_| {
        let _ = fs::remove_file(&part);
    })?;
    Ok(Created { entries: sources.len() as u32, bytes, skipped })
}

/// Everything that goes in, in the order of its names below each of `paths`.
fn collect(
    paths: &[String],
    base: Option<&str>,
    target: &Path,
    skipped: &mut Vec<String>,
) -> Result<Vec<Source>, String> {
    let base = base.map(resolve).transpose()?;
    let mut sources: Vec<Source> = Vec::new();
    let mut names = Paths::default();
    for given in paths {
        let root = resolve(given)?;
        let above = match &base {
            Some(base) => base.clone(),
            // What has no name of its own, `.` or `/workspace`, gives the names of what it holds.
            None if given.ends_with('.') || root.parent() == Some(Path::new("/")) => root.clone(),
            None => root.parent().unwrap_or(&root).to_path_buf(),
        };
        if !root.starts_with(&above) {
            return Err(format!("`{given}` does not lie in `base`"));
        }
        let mut waiting = vec![root.clone()];
        while let Some(path) = waiting.pop() {
            let shown = path.strip_prefix("/workspace").unwrap_or(&path).to_string_lossy().into_owned();
            let wrong = |error: io::Error| explain("read", &shown, &error);
            let metadata = if path == root { fs::metadata(&path) } else { fs::symlink_metadata(&path) };
            let metadata = metadata.map_err(wrong)?;
            if path == *target {
                continue;
            }
            if !metadata.is_dir() && !metadata.is_file() {
                if skipped.len() < SKIPPED {
                    skipped.push(shown);
                }
                continue;
            }
            if metadata.is_dir() {
                let entries = fs::read_dir(&path).map_err(wrong)?;
                let mut below = entries
                    .map(|entry| entry.map(|entry| entry.path()))
                    .collect::<Result<Vec<_>, _>>()
                    .map_err(wrong)?;
                below.sort_by(|one, other| other.cmp(one));
                waiting.extend(below);
            }
            let mut name = path.strip_prefix(&above).unwrap_or(&path).to_string_lossy().into_owned();
            if name.is_empty() {
                continue;
            }
            names
                .add(&name, metadata.is_dir())
                .map_err(|why| format!("{why}: give `base`, or other paths"))?;
            if metadata.is_dir() {
                name.push('/');
            }
            let modified = metadata.modified().ok().and_then(|time| time.duration_since(UNIX_EPOCH).ok());
            let size = if metadata.is_dir() { 0 } else { metadata.len() };
            sources.push(Source { path, name, size, modified: modified.map_or(0, |time| time.as_secs()) });
            if sources.len() > ENTRIES {
                return Err(format!("more than {ENTRIES} files and directories: archive a part of them"));
            }
        }
    }
    Ok(sources)
}

impl Source {
    fn open(&self) -> io::Result<Box<dyn Read>> {
        if self.name.ends_with('/') {
            Ok(Box::new(io::empty()))
        } else {
            Ok(Box::new(File::open(&self.path)?))
        }
    }
}

fn failed(error: &io::Error) -> String {
    format!("cannot make the archive: {error}")
}

fn zip(part: &Path, sources: &[Source]) -> Result<(), String> {
    let make = || {
        let mut writer = zip_writer::Writer::new(BufWriter::with_capacity(64 << 10, File::create(part)?));
        for source in sources {
            writer.add(&source.name, source.modified, &mut source.open()?)?;
        }
        writer.finish()
    };
    make().map_err(|error| failed(&error))
}

fn compressed(part: &Path, codec: Option<Codec>, sources: &[Source]) -> Result<(), String> {
    let make = || {
        let target = BufWriter::with_capacity(64 << 10, File::create(part)?);
        let Some(codec) = codec else { return tar(target, sources)?.flush() };
        if let Some(encoder) = Encoder::new(codec, target, codec::default_level(codec), u64::MAX)? {
            return tar(encoder, sources)?.finish()?.flush();
        }
        // The encoder of zstd reads, so the tar file has to be there first.
        let plain = beside(part);
        let result = (|| {
            tar(BufWriter::with_capacity(64 << 10, File::create(&plain)?), sources)?.flush()?;
            let mut target = BufWriter::with_capacity(64 << 10, File::create(part)?);
            codec::zstd(BufReader::with_capacity(64 << 10, File::open(&plain)?), &mut target)?;
            target.flush()
        })();
        let _ = fs::remove_file(&plain);
        result
    };
    make().map_err(|error| failed(&error))
}

fn tar<W: Write>(mut target: W, sources: &[Source]) -> io::Result<W> {
    for source in sources {
        tar::write_header(&mut target, &source.name, source.size, source.modified)?;
        let written = io::copy(&mut source.open()?.take(source.size), &mut target)?;
        if written != source.size {
            return Err(io::Error::other(format!("`{}` was changed while it was read", source.name)));
        }
        tar::pad(&mut target, source.size)?;
    }
    tar::finish(&mut target)?;
    Ok(target)
}
