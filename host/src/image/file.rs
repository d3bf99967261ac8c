//! Images in files.
//!
//! A file is a magic number, a version, a header in JSON with its length and SHA-256, and the pages that
//! differ from the interpreter's own image, compressed with zstd: their numbers, then their content. The
//! hashes find damage. They do not make a file of somebody else's safe to start from, and need not: what
//! an image can do is what any program in the sandbox can do.

use std::fs::File;
use std::io::{self, Read, Write};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::{Content, Contexts, Image, check_guest, check_tools, no_memory};
use crate::engine::{Page, hex};
use crate::kernel::Inner;
use crate::tool::ToolMark;
use crate::{Error, ErrorKind, Result};

const MAGIC: &[u8; 8] = b"\x89AKIMG\r\n";
const VERSION: u32 = 1;

/// A longer header is none of ours.
const HEADER_BYTES: u32 = 16 << 20;

/// Bytes of a page and of its number.
const PAGE: u64 = 4096 + 4;

/// Speed matters more than the last percent.
const LEVEL: i32 = -1;

/// Threads that compress.
const MOST_THREADS: usize = 4;

/// Fewer pages are not worth a thread.
const LEAST_PART: usize = 512;

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Header {
    guest: String,
    memory_bytes: u64,
    clock_ns: u64,
    tools: Vec<ToolMark>,
    #[serde(default, skip_serializing_if = "Contexts::is_empty")]
    contexts: Contexts,
    pages: u64,
    body_bytes: u64,
    body_sha256: String,
}

pub(super) fn save(content: &Content, path: &Path) -> Result<()> {
    let cannot = |error: io::Error| {
        Error::new(ErrorKind::Image, format!("cannot write the image `{}`", path.display()))
            .hint("check that its directory is there, can be written, and has space left")
            .source(error)
    };
    let pages = content.memory.flat();
    let body = pack(&pages).map_err(cannot)?;
    let header = Header {
        guest: content.guest.clone(),
        memory_bytes: content.memory.size() as u64,
        clock_ns: u64::try_from(content.clock.as_nanos()).unwrap_or(u64::MAX),
        tools: content.tools.to_vec(),
        contexts: content.contexts.clone(),
        pages: pages.len() as u64,
        body_bytes: body.len() as u64,
        body_sha256: hex(&Sha256::digest(&body)),
    };
    let header = serde_json::to_vec(&header).map_err(|error| cannot(error.into()))?;
    if header.len() > HEADER_BYTES as usize {
        return Err(cannot(io::Error::other("what its contexts looked like takes too long to say"))
            .hint("give the session a context of fewer files"));
    }
    write(path, &header, &body).map_err(cannot)
}

/// Page numbers and contents, compressed: parts by several threads, one after another.
fn pack(pages: &[Page]) -> io::Result<Vec<u8>> {
    let numbers: Vec<u8> = pages.iter().flat_map(|(number, _)| number.to_le_bytes()).collect();
    let threads = std::thread::available_parallelism().map_or(1, |threads| threads.get().min(MOST_THREADS));
    let part = pages.len().div_ceil(threads).max(LEAST_PART);
    let mut body = zstd::Encoder::new(Vec::new(), LEVEL)?;
    body.write_all(&numbers)?;
    std::thread::scope(|scope| {
        let mut parts = pages.chunks(part);
        let first = parts.next().unwrap_or_default();
        let rest: Vec<_> = parts
            .map(|pages| scope.spawn(|| pack_part(zstd::Encoder::new(Vec::new(), LEVEL)?, pages)))
            .collect();
        let mut packed = pack_part(body, first)?;
        for part in rest {
            packed.extend(part.join().map_err(|_| io::Error::other("a thread failed"))??);
        }
        Ok(packed)
    })
}

fn pack_part(mut encoder: zstd::Encoder<Vec<u8>>, pages: &[Page]) -> io::Result<Vec<u8>> {
    for (_, content) in pages {
        encoder.write_all(content)?;
    }
    encoder.finish()
}

fn write(path: &Path, header: &[u8], body: &[u8]) -> io::Result<()> {
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut file = tempfile::Builder::new().prefix(".akimg-").tempfile_in(directory)?;
    file.write_all(MAGIC)?;
    file.write_all(&VERSION.to_le_bytes())?;
    file.write_all(&u32::try_from(header.len()).map_err(io::Error::other)?.to_le_bytes())?;
    file.write_all(&Sha256::digest(header))?;
    file.write_all(header)?;
    file.write_all(body)?;
    file.as_file().sync_data()?;
    file.persist(path)?;
    Ok(())
}

pub(super) fn load(kernel: &Inner, path: &Path) -> Result<Image> {
    if !kernel.engine.owns_memory() {
        return Err(no_memory(kernel));
    }
    let name = path.display();
    let damaged = |what: &str| {
        Error::new(ErrorKind::Image, format!("the image `{name}` {what}"))
            .hint("make it anew; it was damaged, or is no image")
    };
    let unreadable = |error: io::Error| match error.kind() {
        io::ErrorKind::UnexpectedEof => damaged("is cut short"),
        io::ErrorKind::NotFound => {
            Error::new(ErrorKind::Image, format!("there is no image `{name}`")).hint("check the path")
        }
        _ => Error::new(ErrorKind::Image, format!("cannot read the image `{name}`")).source(error),
    };
    let mut file = File::open(path).map_err(unreadable)?;
    let mut start = [0; 48];
    file.read_exact(&mut start).map_err(unreadable)?;
    let (magic, rest) = start.split_at(8);
    let (version, rest) = rest.split_at(4);
    let (length, sha256) = rest.split_at(4);
    let number = |bytes: &[u8]| u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
    if magic != MAGIC {
        return Err(damaged("is not an image"));
    }
    if number(version) != VERSION {
        let message =
            format!("the image `{name}` has format {}, and this version reads {VERSION}", number(version));
        return Err(Error::new(ErrorKind::Image, message).hint("use the version of AgentKernel that made it"));
    }
    if number(length) > HEADER_BYTES {
        return Err(damaged("has a header that is too long"));
    }
    let mut header = vec![0; number(length) as usize];
    file.read_exact(&mut header).map_err(unreadable)?;
    if Sha256::digest(&header)[..] != *sha256 {
        return Err(damaged("has another header than was written"));
    }
    let header: Header =
        serde_json::from_slice(&header).map_err(|_| damaged("has a header that cannot be read"))?;
    check_guest(kernel, &header.guest)?;
    check_tools(kernel, &header.tools)?;
    if header.memory_bytes > 1 << 32 || header.pages > header.memory_bytes / 4096 {
        return Err(damaged("has more pages than memory"));
    }
    if header.body_bytes > most_packed(header.pages) {
        return Err(damaged("is longer than its pages can be"));
    }
    // The body is never held as a whole: it may be a hole of any length.
    let mut body = Hashed { rest: file.take(header.body_bytes), sha256: Sha256::new() };
    let unpacked = unpack(&mut body, header.pages);
    io::copy(&mut body, &mut io::sink()).map_err(unreadable)?;
    let Hashed { mut rest, sha256 } = body;
    if rest.limit() > 0 {
        return Err(damaged("is cut short"));
    }
    if rest.get_mut().read(&mut [0]).map_err(unreadable)? != 0 {
        return Err(damaged("is longer than was written"));
    }
    if hex(&sha256.finalize()) != header.body_sha256 {
        return Err(damaged("does not hold what was written"));
    }
    let pages = unpacked.ok_or_else(|| damaged("cannot be decompressed"))?;
    let memory = kernel.engine.thaw(header.memory_bytes as usize, pages);
    let memory = Arc::new(memory.ok_or_else(|| damaged("does not fit the interpreter's memory"))?);
    let clock = Duration::from_nanos(header.clock_ns);
    let Header { guest, tools, contexts, .. } = header;
    Ok(Image::of(Content {
        memory,
        clock,
        guest,
        tools: tools.into(),
        contexts,
        elsewhere: Mutex::default(),
    }))
}

/// What so many pages have compressed at most: zstd adds less than a hundredth.
fn most_packed(pages: u64) -> u64 {
    let bytes = pages * PAGE;
    bytes + bytes / 100 + 4096
}

/// What is read of a file, and its hash.
struct Hashed {
    rest: io::Take<File>,
    sha256: Sha256,
}

impl Read for Hashed {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = self.rest.read(buffer)?;
        self.sha256.update(&buffer[..length]);
        Ok(length)
    }
}

/// The pages, if there are as many as there should be.
fn unpack(body: impl Read, pages: u64) -> Option<Vec<Page>> {
    let mut decoder = zstd::Decoder::new(body).ok()?.take(pages * PAGE + 1);
    let mut numbers = vec![0; pages as usize * 4];
    decoder.read_exact(&mut numbers).ok()?;
    let numbers = numbers.chunks_exact(4).map(|one| u32::from_le_bytes([one[0], one[1], one[2], one[3]]));
    let mut content = [0; 4096];
    let mut unpacked: Vec<Page> = Vec::new();
    for number in numbers {
        decoder.read_exact(&mut content).ok()?;
        let page = match unpacked.last() {
            Some((before, _)) if *before >= number => return None,
            // What is the same over and over takes no memory.
            Some((_, same)) if **same == content => Arc::clone(same),
            _ => Arc::from(&content[..]),
        };
        unpacked.push((number, page));
    }
    (decoder.read(&mut [0]).ok()? == 0).then_some(unpacked)
}
