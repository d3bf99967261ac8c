//! The standard streams of the program over those of WASI.

use std::cell::OnceCell;

use crate::exports::agentkernel::kernel::console::{Guest, Output};
use crate::wasi::cli::{stderr, stdin, stdout};
use crate::wasi::io::streams::{InputStream, OutputStream};
use crate::Bridge;

/// What WASI allows in one write.
const WRITE_BYTES: usize = 4096;

thread_local! {
    static STDIN: OnceCell<InputStream> = const { OnceCell::new() };
    static STDOUT: OnceCell<OutputStream> = const { OnceCell::new() };
    static STDERR: OnceCell<OutputStream> = const { OnceCell::new() };
}

impl Guest for Bridge {
    fn write(to: Output, bytes: Vec<u8>) {
        let (stream, open): (_, fn() -> _) = match to {
            Output::Stdout => (&STDOUT, stdout::get_stdout),
            Output::Stderr => (&STDERR, stderr::get_stderr),
        };
        stream.with(|stream| {
            let stream = stream.get_or_init(open);
            for part in bytes.chunks(WRITE_BYTES) {
                // Nobody reads it any more: what the program prints has nowhere to go.
                if stream.blocking_write_and_flush(part).is_err() {
                    break;
                }
            }
        });
    }

    fn read(max: u32) -> Option<Vec<u8>> {
        // An error is an end as well; there are no signals.
        Some(STDIN.with(|stream| {
            stream.get_or_init(stdin::get_stdin).blocking_read(max.into()).unwrap_or_default()
        }))
    }
}
