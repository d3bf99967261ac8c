//! Where the host does not own memory, none can be kept.

use std::io;

use super::pages::Page;

/// A kept memory, of which there is none.
pub(crate) enum Frozen {}

impl Frozen {
    pub fn size(&self) -> usize {
        match *self {}
    }

    pub fn changed(&self) -> usize {
        match *self {}
    }

    pub fn map(&self) -> io::Result<()> {
        match *self {}
    }

    pub fn whole(&self) -> (Vec<u8>, Vec<(u64, u64)>) {
        match *self {}
    }

    pub fn flat(&self) -> Vec<Page> {
        match *self {}
    }
}
