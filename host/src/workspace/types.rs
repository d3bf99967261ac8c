//! The functions of `wasi:filesystem/types` and `preopens`.

use std::path::{Component, Path};
use std::sync::Arc;

use wasmtime::component::Resource;
use wasmtime_wasi::p2::{DynInputStream, DynOutputStream, IoError};

use super::bindings::wasi::filesystem::preopens;
use super::bindings::wasi::filesystem::types::{
    Advice, DescriptorFlags, DescriptorStat, DescriptorType, DirectoryEntry, Host, HostDescriptor,
    HostDirectoryEntryStream, MetadataHashValue, NewTimestamp, OpenFlags, PathFlags,
};
use super::descriptor::{Descriptor, Node, timestamp};
use super::error::{ErrorCode, Result, StreamFault, settle};
use super::listing::Listing;
use super::node::{DirectoryNode, How, Times, asks_for_directory};
use super::stream::{Reader, Writer};
use super::{Access, FilesystemCtxView, Missed, Opened, files};

type Settled<T> = wasmtime::Result<Result<T, ErrorCode>>;
type Handle = Resource<Descriptor>;

fn follows(flags: PathFlags) -> bool {
    flags.contains(PathFlags::SYMLINK_FOLLOW)
}

impl FilesystemCtxView<'_> {
    fn get(&self, handle: &Handle) -> Result<&Descriptor> {
        Ok(self.table.get(handle)?)
    }

    /// A directory that the program may change.
    fn mutable(&self, handle: &Handle) -> Result<&DirectoryNode> {
        let descriptor = self.get(handle)?;
        if descriptor.access == Access::ReadOnly {
            self.ctx.missed.set(Some(Missed::Writing(descriptor.mount)));
        }
        descriptor.mutable_directory()
    }

    fn path<'a>(&self, path: &'a str) -> Result<&'a str> {
        if path.len() > self.ctx.path_bytes {
            return Err(ErrorCode::NameTooLong.into());
        }
        if path.is_empty() {
            return Err(ErrorCode::NoEntry.into());
        }
        Ok(path)
    }

    fn opened(&self) -> Result<Arc<Opened>> {
        Ok(self.ctx.budget.open().ok_or(ErrorCode::Quota)?)
    }

    fn open(
        &mut self,
        handle: &Handle,
        path_flags: PathFlags,
        path: &str,
        open_flags: OpenFlags,
        flags: DescriptorFlags,
    ) -> Result<Handle> {
        let path = self.path(path)?;
        let base = self.get(handle)?;
        let (directory, access, mount) = (base.directory()?.clone(), base.access, base.mount);
        let create = open_flags.contains(OpenFlags::CREATE);
        let truncate = open_flags.contains(OpenFlags::TRUNCATE);
        let write = flags.contains(DescriptorFlags::WRITE) || truncate;
        let mutate = write || create || flags.contains(DescriptorFlags::MUTATE_DIRECTORY);
        if mutate && access == Access::ReadOnly {
            self.ctx.missed.set(Some(Missed::Writing(mount)));
            return Err(ErrorCode::ReadOnly.into());
        }
        let opened = Some(self.opened()?);
        let how = How {
            read: flags.contains(DescriptorFlags::READ) || !write,
            write,
            create,
            exclusive: open_flags.contains(OpenFlags::EXCLUSIVE),
            truncate,
            follow: follows(path_flags),
            directory: open_flags.contains(OpenFlags::DIRECTORY),
            sync: flags.contains(DescriptorFlags::FILE_INTEGRITY_SYNC),
            dsync: flags.contains(DescriptorFlags::DATA_INTEGRITY_SYNC),
        };
        if how.directory && (create || truncate || how.exclusive) {
            return Err(ErrorCode::Invalid.into());
        }
        let node = directory.open(path, &how, &self.ctx.budget)?;
        Ok(self.table.push(Descriptor { node, flags, access, mount, opened })?)
    }

    fn link(&self, from: &Handle, old: &str, to: &Handle, new: &str, rename: bool) -> Result<()> {
        let (source, target) = (self.mutable(from)?, self.mutable(to)?);
        let (from, to) = (self.get(from)?, self.get(to)?);
        let (old, new) = (self.path(old)?, self.path(new)?);
        if from.mount != to.mount {
            // A link would join two grants for good.
            return Err(ErrorCode::CrossDevice.into());
        }
        if asks_for_directory(old) || asks_for_directory(new) {
            source.status_at(&format!("{}/", old.trim_end_matches('/')), false)?;
        }
        // A link that leads nowhere it should not from here may do so from there.
        if leads_up(source, old) {
            return Err(ErrorCode::NotPermitted.into());
        }
        match rename {
            true => Ok(source.rename(old, target, new)?),
            false => self.ctx.budget.entry(|| source.hard_link(old, target, new)),
        }
    }

    fn symlink(&self, handle: &Handle, target: &str, path: &str) -> Result<()> {
        let directory = self.mutable(handle)?;
        let (target, path) = (self.path(target)?, self.path(path)?);
        if may_lead_out(Path::new(target)) {
            return Err(ErrorCode::NotPermitted.into());
        }
        self.ctx.budget.entry(|| directory.symlink(target, path))
    }
}

/// Whether a link to `target` could come to lead out of the granted directory, now or when it has been
/// moved. The sandbox would not follow it, but a program of the host that later walks the directory
/// might. A path that only goes down never leads out.
fn may_lead_out(target: &Path) -> bool {
    !target.components().all(|part| matches!(part, Component::Normal(_) | Component::CurDir))
}

fn leads_up(directory: &DirectoryNode, path: &str) -> bool {
    directory.link_target(path).is_some_and(|target| may_lead_out(&target))
}

impl preopens::Host for FilesystemCtxView<'_> {
    fn get_directories(&mut self) -> wasmtime::Result<Vec<(Handle, String)>> {
        let mut handles = Vec::with_capacity(self.ctx.preopens.len());
        if self.ctx.preopens.is_empty() {
            self.ctx.missed.set(Some(Missed::Directories));
        }
        for (mount, preopen) in self.ctx.preopens.iter().enumerate() {
            let mut flags = DescriptorFlags::READ;
            if preopen.access == Access::ReadWrite {
                flags |= DescriptorFlags::MUTATE_DIRECTORY;
            }
            let node = Node::Directory(preopen.directory()?);
            let descriptor = Descriptor { node, flags, access: preopen.access, mount, opened: None };
            handles.push((self.table.push(descriptor)?, preopen.guest_path.clone()));
        }
        Ok(handles)
    }
}

impl Host for FilesystemCtxView<'_> {
    fn filesystem_error_code(&mut self, error: Resource<IoError>) -> wasmtime::Result<Option<ErrorCode>> {
        Ok(self.table.get(&error)?.downcast_ref::<StreamFault>().map(|fault| fault.0))
    }
}

impl HostDirectoryEntryStream for FilesystemCtxView<'_> {
    fn read_directory_entry(&mut self, stream: Resource<Listing>) -> Settled<Option<DirectoryEntry>> {
        settle(self.table.get_mut(&stream).map_err(Into::into).and_then(Listing::next))
    }

    fn drop(&mut self, stream: Resource<Listing>) -> wasmtime::Result<()> {
        self.table.delete(stream)?;
        Ok(())
    }
}

impl HostDescriptor for FilesystemCtxView<'_> {
    fn read_via_stream(&mut self, handle: Handle, offset: u64) -> Settled<Resource<DynInputStream>> {
        settle((|| {
            let descriptor = self.get(&handle)?;
            let reader = Reader {
                file: descriptor.readable()?.clone(),
                position: offset,
                _opened: descriptor.opened.clone(),
            };
            Ok(self.table.push(Box::new(reader) as DynInputStream)?)
        })())
    }

    fn write_via_stream(&mut self, handle: Handle, offset: u64) -> Settled<Resource<DynOutputStream>> {
        settle(self.writer(&handle, Some(offset)))
    }

    fn append_via_stream(&mut self, handle: Handle) -> Settled<Resource<DynOutputStream>> {
        settle(self.writer(&handle, None))
    }

    fn advise(&mut self, handle: Handle, _offset: u64, _length: u64, _advice: Advice) -> Settled<()> {
        // Advice that is not taken is still well received.
        settle(self.get(&handle).and_then(Descriptor::file).map(drop))
    }

    fn sync_data(&mut self, handle: Handle) -> Settled<()> {
        settle((|| match &self.get(&handle)?.node {
            Node::File(file) => Ok(file.sync(true)?),
            Node::Directory(directory) => Ok(directory.sync(true)?),
        })())
    }

    fn get_flags(&mut self, handle: Handle) -> Settled<DescriptorFlags> {
        settle(self.get(&handle).map(|descriptor| descriptor.flags))
    }

    fn get_type(&mut self, handle: Handle) -> Settled<DescriptorType> {
        settle(self.get(&handle).map(|descriptor| match descriptor.node {
            Node::File(_) => DescriptorType::RegularFile,
            Node::Directory(_) => DescriptorType::Directory,
        }))
    }

    fn set_size(&mut self, handle: Handle, size: u64) -> Settled<()> {
        settle((|| files::resize(self.get(&handle)?.writable()?, &self.ctx.budget, size))())
    }

    fn set_times(&mut self, handle: Handle, access: NewTimestamp, modification: NewTimestamp) -> Settled<()> {
        settle((|| {
            let descriptor = self.get(&handle)?;
            if descriptor.access == Access::ReadOnly {
                return Err(ErrorCode::ReadOnly.into());
            }
            let times = Times { access: timestamp(access)?, modification: timestamp(modification)? };
            match &descriptor.node {
                Node::File(file) => Ok(file.set_times(times)?),
                Node::Directory(directory) => Ok(directory.set_times(times)?),
            }
        })())
    }

    fn read(&mut self, handle: Handle, length: u64, offset: u64) -> Settled<(Vec<u8>, bool)> {
        settle((|| {
            let bytes = files::read_at(self.get(&handle)?.readable()?, length, offset)?;
            let end = bytes.is_empty() && length > 0;
            Ok((bytes, end))
        })())
    }

    fn write(&mut self, handle: Handle, bytes: Vec<u8>, offset: u64) -> Settled<u64> {
        settle((|| {
            let file = self.get(&handle)?.writable()?;
            files::write_at(file, &self.ctx.budget, &bytes, Some(offset))
        })())
    }

    fn read_directory(&mut self, handle: Handle) -> Settled<Resource<Listing>> {
        settle((|| {
            let entries = self.get(&handle)?.directory()?.entries()?;
            let listing = Listing { entries, _opened: self.opened()? };
            Ok(self.table.push(listing)?)
        })())
    }

    fn sync(&mut self, handle: Handle) -> Settled<()> {
        settle((|| match &self.get(&handle)?.node {
            Node::File(file) => Ok(file.sync(false)?),
            Node::Directory(directory) => Ok(directory.sync(false)?),
        })())
    }

    fn create_directory_at(&mut self, handle: Handle, path: String) -> Settled<()> {
        settle((|| {
            let (directory, path) = (self.mutable(&handle)?, self.path(&path)?);
            self.ctx.budget.entry(|| directory.create_directory(path))
        })())
    }

    fn stat(&mut self, handle: Handle) -> Settled<DescriptorStat> {
        settle((|| Ok(self.get(&handle)?.status()?.stat))())
    }

    fn stat_at(&mut self, handle: Handle, flags: PathFlags, path: String) -> Settled<DescriptorStat> {
        settle((|| {
            let directory = self.get(&handle)?.directory()?;
            Ok(directory.status_at(self.path(&path)?, follows(flags))?.stat)
        })())
    }

    fn set_times_at(
        &mut self,
        handle: Handle,
        flags: PathFlags,
        path: String,
        access: NewTimestamp,
        modification: NewTimestamp,
    ) -> Settled<()> {
        settle((|| {
            let directory = self.mutable(&handle)?;
            let path = self.path(&path)?;
            let times = Times { access: timestamp(access)?, modification: timestamp(modification)? };
            directory.set_times_at(path, follows(flags), times)
        })())
    }

    fn link_at(
        &mut self,
        handle: Handle,
        old_flags: PathFlags,
        old: String,
        new_handle: Handle,
        new: String,
    ) -> Settled<()> {
        if follows(old_flags) {
            return Ok(Err(ErrorCode::Invalid));
        }
        settle(self.link(&handle, &old, &new_handle, &new, false))
    }

    fn open_at(
        &mut self,
        handle: Handle,
        path_flags: PathFlags,
        path: String,
        open_flags: OpenFlags,
        flags: DescriptorFlags,
    ) -> Settled<Handle> {
        settle(self.open(&handle, path_flags, &path, open_flags, flags))
    }

    fn readlink_at(&mut self, handle: Handle, path: String) -> Settled<String> {
        settle((|| self.get(&handle)?.directory()?.read_link(self.path(&path)?))())
    }

    fn remove_directory_at(&mut self, handle: Handle, path: String) -> Settled<()> {
        settle((|| {
            let (directory, path) = (self.mutable(&handle)?, self.path(&path)?);
            directory.remove_directory(path.trim_end_matches('/'))?;
            self.ctx.budget.entry_gone();
            Ok(())
        })())
    }

    fn rename_at(&mut self, handle: Handle, old: String, new_handle: Handle, new: String) -> Settled<()> {
        settle(self.link(&handle, &old, &new_handle, &new, true))
    }

    fn symlink_at(&mut self, handle: Handle, target: String, path: String) -> Settled<()> {
        settle(self.symlink(&handle, &target, &path))
    }

    fn unlink_file_at(&mut self, handle: Handle, path: String) -> Settled<()> {
        settle((|| {
            let directory = self.mutable(&handle)?;
            directory.remove_file(self.path(&path)?)?;
            self.ctx.budget.entry_gone();
            Ok(())
        })())
    }

    fn is_same_object(&mut self, one: Handle, other: Handle) -> wasmtime::Result<bool> {
        let same = (|| {
            let (one, other) = (self.get(&one)?.status()?.identity, self.get(&other)?.status()?.identity);
            Ok((one.lower, one.upper) == (other.lower, other.upper))
        })();
        Ok(settle(same)?.unwrap_or(false))
    }

    fn metadata_hash(&mut self, handle: Handle) -> Settled<MetadataHashValue> {
        settle((|| Ok(self.get(&handle)?.status()?.identity))())
    }

    fn metadata_hash_at(
        &mut self,
        handle: Handle,
        flags: PathFlags,
        path: String,
    ) -> Settled<MetadataHashValue> {
        settle((|| {
            let directory = self.get(&handle)?.directory()?;
            Ok(directory.status_at(self.path(&path)?, follows(flags))?.identity)
        })())
    }

    fn drop(&mut self, handle: Handle) -> wasmtime::Result<()> {
        self.table.delete(handle)?;
        Ok(())
    }
}

impl FilesystemCtxView<'_> {
    fn writer(&mut self, handle: &Handle, position: Option<u64>) -> Result<Resource<DynOutputStream>> {
        let descriptor = self.get(handle)?;
        let writer = Writer {
            file: descriptor.writable()?.clone(),
            position,
            budget: self.ctx.budget.clone(),
            _opened: descriptor.opened.clone(),
        };
        Ok(self.table.push(Box::new(writer) as DynOutputStream)?)
    }
}
