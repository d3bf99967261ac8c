//! Files that say they are images: each is an error in words or a session in the sandbox, never a
//! panic, and never more memory than what they hold.

use std::io::Write;
use std::path::Path;
use std::time::Duration;

use agentkernel::{Image, Result};
use agentkernel_tests::{kernel, limits, session, skip_unless_owned};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

const MAGIC: &[u8] = b"\x89AKIMG\r\n";

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Blocks of a zstd frame.
enum Block<'a> {
    Raw(&'a [u8]),
    /// One byte, so often.
    Run(u8, u64),
}

/// A zstd frame of such blocks (RFC 8878).
fn zstd(blocks: &[Block<'_>]) -> Vec<u8> {
    const MOST: usize = 1 << 17;
    let mut frame = vec![0x28, 0xb5, 0x2f, 0xfd, 0x00, 0x38];
    let mut block = |kind: u32, size: usize, content: &[u8]| {
        frame.extend_from_slice(&((size as u32) << 3 | kind << 1).to_le_bytes()[..3]);
        frame.extend_from_slice(content);
    };
    for one in blocks {
        match one {
            Block::Raw(bytes) => bytes.chunks(MOST).for_each(|part| block(0, part.len(), part)),
            Block::Run(byte, count) => {
                let mut left = *count;
                while left > 0 {
                    let size = left.min(MOST as u64);
                    block(1, size as usize, &[*byte]);
                    left -= size;
                }
            }
        }
    }
    frame.extend_from_slice(&[1, 0, 0]);
    frame
}

/// A file with this header and body, with the right hashes.
fn file(header: &Value, body: &[u8]) -> Vec<u8> {
    whole(header.to_string().as_bytes(), body)
}

fn whole(header: &[u8], body: &[u8]) -> Vec<u8> {
    let length = (header.len() as u32).to_le_bytes();
    [MAGIC, &1u32.to_le_bytes(), &length, &Sha256::digest(header), header, body].concat()
}

struct Forge {
    directory: tempfile::TempDir,
    /// The header of an image that is one.
    header: Value,
    body: Vec<u8>,
}

impl Forge {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("whole.akimg");
        let mut session = session(limits());
        session.run_blocking("x = 1").unwrap();
        session.snapshot().unwrap().save(&path).unwrap();
        let bytes = std::fs::read(path).unwrap();
        let length = u32::from_le_bytes(bytes[12..16].try_into().unwrap()) as usize;
        let header = serde_json::from_slice(&bytes[48..48 + length]).unwrap();
        Forge { directory, header, body: bytes[48 + length..].to_vec() }
    }

    fn load(&self, bytes: &[u8]) -> Result<Image> {
        let path = self.directory.path().join("forged.akimg");
        std::fs::write(&path, bytes).unwrap();
        kernel().load_image(path)
    }

    #[track_caller]
    fn refused(&self, bytes: &[u8]) -> String {
        let error = self.load(bytes).err().expect("it is refused");
        assert_eq!(error.kind(), agentkernel::ErrorKind::Image, "{error}");
        error.to_string()
    }

    /// A header with other values, that fits `body`.
    fn with(&self, changes: &[(&str, Value)], body: &[u8]) -> Value {
        let mut header = self.header.clone();
        header["body_bytes"] = json!(body.len());
        header["body_sha256"] = json!(hex(&Sha256::digest(body)));
        for (key, value) in changes {
            header[*key] = value.clone();
        }
        header
    }

    /// With these pages, each of which has `fill` as its content.
    fn of_pages(&self, pages: &[u32], fill: u8, changes: &[(&str, Value)]) -> Vec<u8> {
        let numbers: Vec<u8> = pages.iter().flat_map(|page| page.to_le_bytes()).collect();
        let body = zstd(&[Block::Raw(&numbers), Block::Run(fill, pages.len() as u64 * 4096)]);
        let mut all = vec![("pages", json!(pages.len()))];
        all.extend_from_slice(changes);
        file(&self.with(&all, &body), &body)
    }

    fn memory_bytes(&self) -> u64 {
        self.header["memory_bytes"].as_u64().unwrap()
    }
}

#[test]
fn the_forge_makes_images() {
    skip_unless_owned!();
    let forge = Forge::new();
    assert!(forge.load(&file(&forge.header, &forge.body)).is_ok());
    let last = (forge.memory_bytes() / 4096 - 1) as u32;
    assert!(forge.load(&forge.of_pages(&[3, 4, last], 7, &[])).is_ok());
}

#[test]
fn pages_that_are_none_are_refused() {
    skip_unless_owned!();
    let forge = Forge::new();
    let end = (forge.memory_bytes() / 4096) as u32;
    for pages in [
        &[4u32, 3][..],
        &[3, 3],
        &[end],
        &[0, u32::MAX],
        &[u32::MAX],
        &[1 << 20],
        &[(1 << 20) - 1],
        &[0x8000_0000],
    ] {
        forge.refused(&forge.of_pages(pages, 1, &[]));
    }
    for count in
        [json!(2), json!(4), json!(0), json!(end), json!(u64::MAX), json!(-1), json!(1.5), json!("3")]
    {
        forge.refused(&forge.of_pages(&[1, 2, 3], 1, &[("pages", count)]));
    }
}

#[test]
fn sizes_that_cannot_be_are_refused() {
    skip_unless_owned!();
    let forge = Forge::new();
    let base = forge.memory_bytes();
    for size in [
        0,
        1,
        4096,
        65536,
        base + 1,
        base + 4096,
        (1 << 32) - 1,
        (1 << 32) + 65536,
        1 << 33,
        1 << 62,
        u64::MAX,
        u64::MAX - 65535,
    ] {
        forge.refused(&forge.of_pages(&[1], 1, &[("memory_bytes", json!(size))]));
    }
    // What could be is an image, and no session is granted so much by chance.
    for size in [1u64 << 32, (1 << 32) - 65536, 3 << 30] {
        let last = (size / 4096 - 1) as u32;
        let image = forge.load(&forge.of_pages(&[last], 1, &[("memory_bytes", json!(size))])).unwrap();
        assert_eq!(image.memory_bytes(), size);
        let error = kernel().session().limits(limits()).image(&image).start().err().unwrap();
        assert_eq!(error.kind(), agentkernel::ErrorKind::Grant, "{error}");
        let mut all = limits();
        all.memory_bytes = 1 << 32;
        if let Ok(mut session) = kernel().session().limits(all).image(&image).start() {
            let _ = session.run_blocking("x = bytearray(1 << 20)");
            let _ = session.fork().map(|mut fork| fork.run_blocking("x = bytearray(1 << 20)"));
        }
        kernel().keep_ready(Some(&image), 1).unwrap();
        std::thread::sleep(Duration::from_millis(20));
        kernel().keep_ready(Some(&image), 0).unwrap();
    }
}

#[test]
fn headers_that_say_too_much_are_refused() {
    skip_unless_owned!();
    let forge = Forge::new();
    let refused =
        |change: (&str, Value)| forge.refused(&file(&forge.with(&[change], &forge.body), &forge.body));
    refused(("more", json!(1)));
    refused(("guest", json!("0".repeat(64))));
    refused(("guest", json!(null)));
    refused(("tools", json!([{"name": "x"}])));
    refused(("tools", json!({})));
    refused(("body_sha256", json!("")));
    for bytes in [0, 1, forge.body.len() as u64 - 1, forge.body.len() as u64 + 1, 1 << 40, u64::MAX] {
        refused(("body_bytes", json!(bytes)));
    }
    for header in [
        &b""[..],
        b"{",
        b"null",
        b"[]",
        b"{}",
        b"\xff\xfe",
        &[b'['; 100_000],
        &b"{\"guest\":\"a\",\"guest\":\"b\"}"[..],
    ] {
        forge.refused(&whole(header, &forge.body));
    }
    let mut long = whole(b"{}", &forge.body);
    long[12..16].copy_from_slice(&u32::MAX.to_le_bytes());
    assert!(forge.refused(&long).contains("too long"));
    // Clocks at the end of time.
    for clock in [u64::MAX, u64::MAX - 1, 1 << 63, (1 << 63) - 1] {
        let image = forge.load(&file(&forge.with(&[("clock_ns", json!(clock))], &forge.body), &forge.body));
        let mut short = limits();
        short.timeout = Some(Duration::from_secs(1));
        let mut session = kernel().session().limits(short).image(&image.unwrap()).start().unwrap();
        for code in [
            "x",
            "import time; time.monotonic_ns()",
            "time.sleep(0.001)",
            "import asyncio; await asyncio.sleep(0.001)",
        ] {
            let _ = session.run_blocking(code);
        }
        let _ = session.fork().map(|mut fork| fork.run_blocking("x"));
        let path = forge.directory.path().join("late.akimg");
        if let Ok(image) = session.snapshot() {
            image.save(&path).unwrap();
            kernel().load_image(&path).unwrap();
        }
    }
}

/// Bytes of memory of this process that are there, and the most there ever were.
fn resident() -> (u64, u64) {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let of = |key: &str| {
        let line = status.lines().find(|line| line.starts_with(key)).unwrap();
        line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() * 1024
    };
    (of("VmRSS"), of("VmHWM"))
}

#[test]
fn what_unpacks_to_more_than_was_said_takes_no_memory() {
    skip_unless_owned!();
    let forge = Forge::new();
    // 64 GiB of zeros, in 1.5 MB.
    let body = zstd(&[Block::Run(0, 1 << 36)]);
    for pages in [0u64, 1, 16] {
        forge.refused(&file(&forge.with(&[("pages", json!(pages))], &body), &body));
    }
    let numbers: Vec<u8> = (0..16u32).flat_map(|page| page.to_le_bytes()).collect();
    let body = zstd(&[Block::Raw(&numbers), Block::Run(1, 1 << 36)]);
    forge.refused(&file(&forge.with(&[("pages", json!(16))], &body), &body));
    // More pages are said than are there.
    let body = zstd(&[Block::Raw(&numbers), Block::Run(1, 4096)]);
    let most = [("pages", json!(1u64 << 20)), ("memory_bytes", json!(1u64 << 32))];
    forge.refused(&file(&forge.with(&most, &body), &body));
    // Nonsense, and frames that end early or want a window of gigabytes.
    for body in [
        &b""[..],
        b"\x28\xb5\x2f\xfd",
        b"\x28\xb5\x2f\xfd\x00\xff\x01\x00\x00",
        b"\x28\xb5\x2f\xfd\x00\xa8\x02\x00\x10\x00",
        b"\x50\x2a\x4d\x18\xff\xff\xff\xff",
        &[0; 100],
    ] {
        forge.refused(&file(&forge.with(&[("pages", json!(4))], body), body));
    }
    let (_, most) = resident();
    assert!(most < 1200 << 20, "{most} bytes");
}

#[test]
#[ignore = "an image may hold 4 GiB of pages, and a file of them may be small"]
fn a_small_file_takes_little_memory() {
    skip_unless_owned!();
    let forge = Forge::new();
    let pages: Vec<u32> = (0..1 << 19).collect();
    let (before, _) = resident();
    let image = forge.load(&forge.of_pages(&pages, 1, &[("memory_bytes", json!(1u64 << 31))]));
    let (after, most) = resident();
    assert!(after.max(most) - before < 256 << 20, "{} bytes; loaded: {}", after - before, image.is_ok());
}

/// A hole in a file costs nothing, and is read as zeros.
#[test]
fn a_file_with_a_hole_takes_no_memory() {
    skip_unless_owned!();
    let forge = Forge::new();
    for size in [1u64 << 32, 1 << 40, 1 << 43] {
        let header = forge.with(&[("body_bytes", json!(size))], b"");
        let path = forge.directory.path().join("hole.akimg");
        let start = file(&header, b"");
        std::fs::write(&path, &start).unwrap();
        let hole = std::fs::OpenOptions::new().write(true).open(&path).unwrap();
        if hole.set_len(start.len() as u64 + size).is_err() {
            eprintln!("skipped: no file of {size} bytes here");
            continue;
        }
        let error = kernel().load_image(&path).err().expect("it is refused");
        assert_eq!(error.kind(), agentkernel::ErrorKind::Image, "{error}");
        let (_, most) = resident();
        assert!(most < 1200 << 20, "{most} bytes");
    }
}

#[test]
fn a_file_that_changes_while_it_is_read_is_whole_or_refused() {
    skip_unless_owned!();
    let forge = Forge::new();
    let path = forge.directory.path().join("changing.akimg");
    let bytes = file(&forge.header, &forge.body);
    std::fs::write(&path, &bytes).unwrap();
    let stop = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut round = 0u64;
            while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                let mut open = std::fs::OpenOptions::new().write(true).open(&path).unwrap();
                let _ = match round % 3 {
                    0 => open.set_len(round * 7919 % bytes.len() as u64),
                    1 => open.write_all(&bytes),
                    _ => open.set_len(bytes.len() as u64 + 10),
                };
                round += 1;
            }
        });
        let mut loaded = 0;
        for _ in 0..300 {
            match kernel().load_image(&path) {
                Ok(image) => {
                    loaded += 1;
                    assert_eq!(image.memory_bytes(), forge.memory_bytes());
                }
                Err(error) => assert_eq!(error.kind(), agentkernel::ErrorKind::Image, "{error}"),
            }
        }
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
        eprintln!("{loaded} of 300 loads found it whole");
    });
}

#[test]
fn what_is_no_file_is_refused() {
    skip_unless_owned!();
    for path in ["/dev/null", "/dev/zero", "/proc/self/mem", "/", "/proc/self/status"] {
        let error = kernel().load_image(Path::new(path)).err().unwrap();
        assert_eq!(error.kind(), agentkernel::ErrorKind::Image, "{path}: {error}");
    }
}

/// Memory that somebody made up is a program in the sandbox: it may trap, run on or say nonsense.
#[test]
fn made_up_memory_is_stopped_as_any_program_is() {
    skip_unless_owned!();
    let forge = Forge::new();
    let pages = (forge.memory_bytes() / 4096) as u32;
    let mut short = limits();
    short.timeout = Some(Duration::from_millis(300));
    for (fill, step) in [(0u8, 1), (0xff, 1), (1, 1), (0x41, 2), (0x80, 7), (0xff, 31), (0, 64)] {
        let numbers: Vec<u32> = (0..pages).step_by(step).collect();
        let image = forge.load(&forge.of_pages(&numbers, fill, &[])).unwrap();
        let start = || kernel().session().limits(short.clone()).image(&image).start().unwrap();
        let _ = start().run_blocking("1 + 1");
        let _ = start().fork().map(|mut fork| fork.run_blocking("1 + 1"));
        let _ = start().complete("pri");
        let mut one = start();
        let _ = one.run_blocking("1 + 1");
        let _ = one.run_blocking("while True: pass");
        let _ = one.rollback();
        let _ = one.snapshot();
    }
}
