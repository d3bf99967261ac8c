//! Compression of streams.

use std::io::{self, BufRead, BufReader, Read, Write};

use lzma_rust2::{XzOptions, XzReader, XzWriter};
use ruzstd::decoding::StreamingDecoder;
use ruzstd::encoding::CompressionLevel;

use crate::exports::agentkernel::archive::archive::Codec;

/// Memory that an xz stream may ask for: its dictionary is part of it.
const XZ_MEMORY_KIB: u32 = 100 << 10;

pub const NO_MEMORY: &str = "it needs more memory than the tool was given (`memory` under [tool.NAME])";

/// What `source` gives, up to one byte more than `limit`. Room for more than that is never made, which
/// doubling would.
pub fn read_all(source: &mut dyn Read, limit: u64) -> io::Result<Vec<u8>> {
    let most = usize::try_from(limit).unwrap_or(usize::MAX).saturating_add(1);
    let mut output = Vec::new();
    let mut filled = 0;
    loop {
        if filled == output.len() {
            let more = output.len().max(32 << 10).min(most - filled);
            if more == 0 {
                return Ok(output);
            }
            output.try_reserve_exact(more).map_err(|_| io::ErrorKind::OutOfMemory)?;
            output.resize(filled + more, 0);
        }
        let count = source.read(&mut output[filled..])?;
        if count == 0 {
            output.truncate(filled);
            return Ok(output);
        }
        filled += count;
    }
}

/// How far an xz encoder looks back at most, as at level 6.
const XZ_DICTIONARY: u32 = 8 << 20;

/// What the first bytes of compressed data say.
pub fn detect(start: &[u8]) -> Option<Codec> {
    match start {
        [0x1f, 0x8b, ..] => Some(Codec::Gzip),
        [b'B', b'Z', b'h', b'1'..=b'9', ..] => Some(Codec::Bzip2),
        [0xfd, b'7', b'z', b'X', b'Z', 0, ..] => Some(Codec::Xz),
        [0x28, 0xb5, 0x2f, 0xfd, ..] => Some(Codec::Zstd),
        _ => None,
    }
}

pub fn name(codec: Codec) -> &'static str {
    match codec {
        Codec::Gzip => "gzip",
        Codec::Bzip2 => "bzip2",
        Codec::Xz => "xz",
        Codec::Zstd => "zstd",
    }
}

/// The decompressed form of `source`.
pub fn reader<'a>(codec: Codec, source: impl BufRead + 'a) -> Box<dyn Read + 'a> {
    match codec {
        Codec::Gzip => Box::new(flate2::bufread::MultiGzDecoder::new(source)),
        Codec::Bzip2 => Box::new(bzip2::bufread::MultiBzDecoder::new(source)),
        Codec::Xz => Box::new(XzReader::new_mem_limit(source, true, XZ_MEMORY_KIB)),
        Codec::Zstd => Box::new(Frames { source: Some(source), frame: None }),
    }
}

/// The frames of a zstd file after each other; ruzstd knows one.
struct Frames<S: BufRead> {
    source: Option<S>,
    frame: Option<StreamingDecoder<S, ruzstd::decoding::FrameDecoder>>,
}

impl<S: BufRead> Read for Frames<S> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            if let Some(frame) = &mut self.frame {
                let count = frame.read(buffer)?;
                if count > 0 || buffer.is_empty() {
                    return Ok(count);
                }
                self.source = self.frame.take().map(StreamingDecoder::into_inner);
            }
            let Some(mut source) = self.source.take() else { return Ok(0) };
            if source.fill_buf()?.is_empty() {
                self.source = Some(source);
                return Ok(0);
            }
            // Frames that hold something else than data are 0x184D2A5?, and a length.
            if let [kind, 0x2a, 0x4d, 0x18, ..] = source.fill_buf()? {
                if kind & 0xf0 == 0x50 {
                    let mut head = [0; 8];
                    source.read_exact(&mut head)?;
                    let length = u32::from_le_bytes([head[4], head[5], head[6], head[7]]);
                    io::copy(&mut source.by_ref().take(u64::from(length)), &mut io::sink())?;
                    self.source = Some(source);
                    continue;
                }
            }
            self.frame = Some(StreamingDecoder::new(source).map_err(io::Error::other)?);
        }
    }
}

/// A stream that compresses what is written to it.
pub enum Encoder<W: Write> {
    Gzip(flate2::write::GzEncoder<W>),
    Bzip2(bzip2::write::BzEncoder<W>),
    Xz(Box<XzWriter<W>>),
}

impl<W: Write> Encoder<W> {
    /// For content of `size` bytes at most. `None` for zstd, whose encoder reads.
    pub fn new(codec: Codec, target: W, level: u32, size: u64) -> io::Result<Option<Self>> {
        Ok(match codec {
            Codec::Gzip => {
                Some(Encoder::Gzip(flate2::write::GzEncoder::new(target, flate2::Compression::new(level))))
            }
            Codec::Bzip2 => {
                Some(Encoder::Bzip2(bzip2::write::BzEncoder::new(target, bzip2::Compression::new(level))))
            }
            Codec::Xz => {
                let mut options = XzOptions::with_preset(level);
                // The encoder needs eleven times as much; what is no longer than it gains nothing by more.
                let dictionary = size.clamp(4096, u64::from(XZ_DICTIONARY)) as u32;
                options.lzma_options.dict_size = options.lzma_options.dict_size.min(dictionary);
                Some(Encoder::Xz(Box::new(XzWriter::new(target, options)?)))
            }
            Codec::Zstd => None,
        })
    }

    pub fn finish(self) -> io::Result<W> {
        match self {
            Encoder::Gzip(encoder) => encoder.finish(),
            Encoder::Bzip2(encoder) => encoder.finish(),
            Encoder::Xz(encoder) => encoder.finish(),
        }
    }
}

impl<W: Write> Write for Encoder<W> {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        match self {
            Encoder::Gzip(encoder) => encoder.write(buffer),
            Encoder::Bzip2(encoder) => encoder.write(buffer),
            Encoder::Xz(encoder) => encoder.write(buffer),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Encoder::Gzip(encoder) => encoder.flush(),
            Encoder::Bzip2(encoder) => encoder.flush(),
            Encoder::Xz(encoder) => encoder.flush(),
        }
    }
}

/// Compresses a stream with zstd.
pub fn zstd(source: impl Read, target: impl Write) -> io::Result<()> {
    // ruzstd panics when it cannot read or write.
    let mut error = None;
    let mut failed = None;
    ruzstd::encoding::compress(
        Patient { inner: source, error: &mut error },
        Patient { inner: target, error: &mut failed },
        CompressionLevel::Fastest,
    );
    match error.or(failed) {
        Some(error) => Err(error),
        None => Ok(()),
    }
}

/// Keeps an error and goes on as if nothing were: at the end of the source, or writing to nowhere.
struct Patient<'a, T> {
    inner: T,
    error: &'a mut Option<io::Error>,
}

impl<T: Read> Read for Patient<'_, T> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.error.is_some() {
            return Ok(0);
        }
        Ok(self.inner.read(buffer).unwrap_or_else(|error| {
            *self.error = Some(error);
            0
        }))
    }
}

impl<T: Write> Write for Patient<'_, T> {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        if self.error.is_none() {
            *self.error = self.inner.write_all(buffer).err();
        }
        Ok(buffer.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// For xz, 3 is four times as fast as 6, and makes a sixth more of it.
pub fn default_level(codec: Codec) -> u32 {
    if codec == Codec::Xz { 3 } else { 6 }
}

pub fn compress(data: &[u8], codec: Codec, level: Option<u32>) -> Result<Vec<u8>, String> {
    let level = level.unwrap_or_else(|| default_level(codec));
    if !(1..=9).contains(&level) {
        return Err(format!("`level` is {level}: give one from 1 (fast) to 9 (small)"));
    }
    let mut output = Vec::new();
    let wrong = |error: io::Error| format!("cannot compress: {error}");
    if codec == Codec::Zstd {
        zstd(data, &mut output).map_err(wrong)?;
    } else if let Some(mut encoder) =
        Encoder::new(codec, &mut output, level, data.len() as u64).map_err(wrong)?
    {
        encoder.write_all(data).and_then(|()| encoder.finish().map(drop)).map_err(wrong)?;
    }
    Ok(output)
}

pub fn decompress(data: &[u8], codec: Option<Codec>, limit: u64) -> Result<Vec<u8>, String> {
    let codec = codec
        .or_else(|| detect(data))
        .ok_or("this is neither gzip, bzip2, xz nor zstd: the first bytes are those of none")?;
    let output =
        read_all(&mut reader(codec, BufReader::new(data)), limit).map_err(|error| match error.kind() {
            io::ErrorKind::OutOfMemory => NO_MEMORY.to_owned(),
            _ => format!("cannot decompress: this is no {}, or it is damaged: {error}", name(codec)),
        })?;
    if output.len() as u64 > limit {
        return Err(format!("it makes more than {limit} bytes: give a larger `max_bytes` if you trust it"));
    }
    Ok(output)
}
