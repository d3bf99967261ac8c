//! Standard input that waits in a way of its own: it can be told to stop, so that what is typed after
//! an interrupt is not swallowed by the read that was interrupted, and it may be non-blocking.

use std::io::{self, Read};
use std::sync::Arc;

/// Wakes the reader that it was made with.
#[derive(Clone)]
pub struct Wake(#[cfg(unix)] Arc<std::os::fd::OwnedFd>, #[cfg(not(unix))] Arc<()>);

/// Standard input.
#[derive(Default)]
pub struct Input {
    #[cfg(unix)]
    woken: Option<std::os::fd::OwnedFd>,
}

/// Standard input, and what wakes it.
#[cfg(unix)]
pub fn input() -> io::Result<(Input, Wake)> {
    use rustix::pipe::{PipeFlags, pipe_with};
    let (woken, wake) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK)?;
    Ok((Input { woken: Some(woken) }, Wake(Arc::new(wake))))
}

/// Standard input, and what cannot wake it here.
#[cfg(not(unix))]
pub fn input() -> io::Result<(Input, Wake)> {
    Ok((Input {}, Wake(Arc::new(()))))
}

impl Wake {
    /// Makes a read that waits give up.
    pub fn wake(&self) {
        // A pipe that is full wakes as well.
        #[cfg(unix)]
        let _ = rustix::io::write(&*self.0, &[1]);
    }
}

#[cfg(unix)]
impl Input {
    /// Waits until there is something to read; whether that is so, or the wait was given up.
    fn wait(&self) -> io::Result<bool> {
        use rustix::event::{PollFd, PollFlags, poll};
        let stdin = io::stdin();
        let mut fds = vec![PollFd::new(&stdin, PollFlags::IN)];
        fds.extend(self.woken.as_ref().map(|woken| PollFd::new(woken, PollFlags::IN)));
        rustix::io::retry_on_intr(|| poll(&mut fds, None))?;
        let Some(woken) = self.woken.as_ref().filter(|_| !fds[1].revents().is_empty()) else {
            return Ok(true);
        };
        let mut dropped = [0; 64];
        while rustix::io::read(woken, &mut dropped).is_ok_and(|read| read == dropped.len()) {}
        Ok(false)
    }
}

impl Read for Input {
    #[cfg(unix)]
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        use rustix::io::Errno;
        while self.wait()? {
            // Unbuffered: what is not asked for now is the prompt's.
            match rustix::io::read(io::stdin(), &mut *buffer) {
                // Somebody else was faster.
                Err(Errno::AGAIN | Errno::INTR) => {}
                read => return Ok(read?),
            }
        }
        Err(io::ErrorKind::Interrupted.into())
    }

    #[cfg(not(unix))]
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        io::stdin().read(buffer)
    }
}
