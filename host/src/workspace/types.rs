//! The functions of `wasi:filesystem/types` and `preopens`.

use std::fmt;
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
use super::error::{ErrorCode, Fault, Result, Settled, StreamFault, settle};
use super::listing::{Entries, Listing};
use super::node::{DirectoryNode, How, Times, asks_for_directory};
use super::stream::{Reader, Writer};
use super::taped::{Opening, TapedReader, TapedWriter, through};
use super::{Access, FilesystemCtxView, Missed, Opened, files};
use crate::replay::{Content, FileTape, written};

type Handle = Resource<Descriptor>;

fn follows(flags: PathFlags) -> bool {
    flags.contains(PathFlags::SYMLINK_FOLLOW)
}

/// As the tape says it.
fn followed(flags: PathFlags) -> &'static str {
    if follows(flags) { "followed" } else { "" }
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
    ) -> Result<Descriptor> {
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
        Ok(Descriptor { node, flags, access, mount, opened, taped: None })
    }

    fn link(&self, from: &Handle, old: &str, to: &Handle, new: &str, rename: bool) -> Result<()> {
        let (source, target) = (self.mutable(from)?, self.mutable(to)?);
        let (from, to) = (self.get(from)?, self.get(to)?);
        let (old, new) = (self.path(old)?, self.path(new)?);
        if from.mount != to.mount {
            // A link would join two grants for good.
            return Err(ErrorCode::CrossDevice.into());
        }
        if asks_for_directory(old) {
            source.status_at(&format!("{}/", old.trim_end_matches('/')), false)?;
        } else if asks_for_directory(new)
            && source.status_at(old, false)?.stat.type_ != DescriptorType::Directory
        {
            // A link to one is none.
            return Err(ErrorCode::NotDirectory.into());
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

fn directory_flags(may_change: bool) -> DescriptorFlags {
    match may_change {
        true => DescriptorFlags::READ | DescriptorFlags::MUTATE_DIRECTORY,
        false => DescriptorFlags::READ,
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

impl FilesystemCtxView<'_> {
    /// The granted directories, and where the program sees them.
    fn granted(&self) -> wasmtime::Result<Vec<(Descriptor, String)>> {
        if self.ctx.preopens.is_empty() {
            self.ctx.missed.set(Some(Missed::Directories));
        }
        let granted = self.ctx.preopens.iter().enumerate().map(|(mount, preopen)| {
            let flags = directory_flags(preopen.access == Access::ReadWrite);
            let (node, access) = (Node::Directory(preopen.directory()?), preopen.access);
            let descriptor = Descriptor { node, flags, access, mount, opened: None, taped: None };
            Ok((descriptor, preopen.guest_path.clone()))
        });
        granted.collect()
    }

    /// As [`Self::granted`], as the tape has them.
    fn granted_on_tape(&self, tape: &FileTape) -> wasmtime::Result<Vec<(Descriptor, String)>> {
        let root = tape.root();
        let mut granted = Vec::new();
        let listed: Result<Vec<(String, bool)>, ErrorCode> =
            through(&root, &root.asked("get-directories", "", ""), || {
                granted = self.granted()?;
                let listed = granted.iter();
                let may_change = |descriptor: &Descriptor| descriptor.access == Access::ReadWrite;
                Ok(Ok(listed.map(|(descriptor, path)| (path.clone(), may_change(descriptor))).collect()))
            })?;
        if tape.is_replay() {
            for (path, may_change) in listed? {
                let flags = directory_flags(may_change);
                granted.push((Descriptor::recorded(flags, None), path));
            }
        }
        for (descriptor, path) in &mut granted {
            descriptor.taped = Some(root.open(path));
        }
        Ok(granted)
    }
}

impl preopens::Host for FilesystemCtxView<'_> {
    fn get_directories(&mut self) -> wasmtime::Result<Vec<(Handle, String)>> {
        let granted = match &self.ctx.tape {
            None => self.granted()?,
            Some(tape) => self.granted_on_tape(tape)?,
        };
        let push = |(descriptor, path)| Ok((self.table.push(descriptor)?, path));
        granted.into_iter().map(push).collect()
    }
}

impl Host for FilesystemCtxView<'_> {
    fn filesystem_error_code(&mut self, error: Resource<IoError>) -> wasmtime::Result<Option<ErrorCode>> {
        Ok(self.table.get(&error)?.downcast_ref::<StreamFault>().map(|fault| fault.0))
    }
}

impl HostDirectoryEntryStream for FilesystemCtxView<'_> {
    fn read_directory_entry(&mut self, stream: Resource<Listing>) -> Settled<Option<DirectoryEntry>> {
        settle((|| {
            let listing = self.table.get_mut(&stream)?;
            let Some(taped) = listing.taped.clone() else { return listing.next() };
            let asked = taped.asked("read-directory-entry", "", "");
            through(&taped, &asked, || settle(listing.next())).map_err(Fault::Trap)?.map_err(Fault::Code)
        })())
    }

    fn drop(&mut self, stream: Resource<Listing>) -> wasmtime::Result<()> {
        self.table.delete(stream)?;
        Ok(())
    }
}

impl HostDescriptor for FilesystemCtxView<'_> {
    fn read_via_stream(&mut self, handle: Handle, offset: u64) -> Settled<Resource<DynInputStream>> {
        settle((|| {
            let with = format_args!("at {offset}");
            let reader = self.taped_open("read-via-stream", &handle, "", with, |files| {
                let descriptor = files.get(&handle)?;
                let (file, _opened) = (descriptor.readable()?.clone(), descriptor.opened.clone());
                Ok(Reader { file, position: offset, _opened })
            })?;
            let stream: DynInputStream = match reader {
                Opening::Plain(reader) => Box::new(reader),
                Opening::Taped(reader, taped) => Box::new(TapedReader { reader, taped }),
            };
            Ok(self.table.push(stream)?)
        })())
    }

    fn write_via_stream(&mut self, handle: Handle, offset: u64) -> Settled<Resource<DynOutputStream>> {
        settle(self.writer("write-via-stream", &handle, Some(offset)))
    }

    fn append_via_stream(&mut self, handle: Handle) -> Settled<Resource<DynOutputStream>> {
        settle(self.writer("append-via-stream", &handle, None))
    }

    fn advise(&mut self, handle: Handle, _offset: u64, _length: u64, _advice: Advice) -> Settled<()> {
        // Advice that is not taken is still well received.
        self.taped("advise", &handle, "", "", |files| files.get(&handle)?.file().map(drop))
    }

    fn sync_data(&mut self, handle: Handle) -> Settled<()> {
        self.taped("sync-data", &handle, "", "", |files| files.get(&handle)?.sync(true))
    }

    fn get_flags(&mut self, handle: Handle) -> Settled<DescriptorFlags> {
        settle(self.get(&handle).map(|descriptor| descriptor.flags))
    }

    fn get_type(&mut self, handle: Handle) -> Settled<DescriptorType> {
        self.taped("get-type", &handle, "", "", |files| files.get(&handle)?.kind())
    }

    fn set_size(&mut self, handle: Handle, size: u64) -> Settled<()> {
        self.taped("set-size", &handle, "", format_args!("{size}"), |files| {
            files::resize(files.get(&handle)?.writable()?, &files.ctx.budget, size)
        })
    }

    fn set_times(&mut self, handle: Handle, access: NewTimestamp, modification: NewTimestamp) -> Settled<()> {
        let with = format_args!("{access:?} {modification:?}");
        self.taped("set-times", &handle, "", with, |files| {
            files.get(&handle)?.set_times(access, modification)
        })
    }

    fn read(&mut self, handle: Handle, length: u64, offset: u64) -> Settled<(Vec<u8>, bool)> {
        let with = format_args!("{length} at {offset}");
        let read = self.taped("read", &handle, "", with, |files| {
            files::read_at(files.get(&handle)?.readable()?, length, offset).map(Content)
        })?;
        if let Ok(Content(bytes)) = &read
            && bytes.len() as u64 > length
            && let Ok(Some(taped)) = self.taped_handle(&handle)
        {
            return Err(taped.damaged());
        }
        Ok(read.map(|Content(bytes)| {
            let end = bytes.is_empty() && length > 0;
            (bytes, end)
        }))
    }

    fn write(&mut self, handle: Handle, bytes: Vec<u8>, offset: u64) -> Settled<u64> {
        let with = fmt::from_fn(|to| write!(to, "{} at {offset}", written(&bytes)));
        self.taped("write", &handle, "", with, |files| {
            let file = files.get(&handle)?.writable()?;
            files::write_at(file, &files.ctx.budget, &bytes, Some(offset))
        })
    }

    fn read_directory(&mut self, handle: Handle) -> Settled<Resource<Listing>> {
        settle((|| {
            let entries = self.taped_open("read-directory", &handle, "", "", |files| {
                Ok(files.get(&handle)?.directory()?.entries()?)
            })?;
            let (entries, taped) = match entries {
                Opening::Plain(entries) => (entries, None),
                Opening::Taped(entries, taped) => (entries.unwrap_or(Entries::Recorded), Some(taped)),
            };
            let listing = Listing { entries, _opened: self.opened()?, taped };
            Ok(self.table.push(listing)?)
        })())
    }

    fn sync(&mut self, handle: Handle) -> Settled<()> {
        self.taped("sync", &handle, "", "", |files| files.get(&handle)?.sync(false))
    }

    fn create_directory_at(&mut self, handle: Handle, path: String) -> Settled<()> {
        self.taped("create-directory-at", &handle, &path, "", |files| {
            let (directory, path) = (files.mutable(&handle)?, files.path(&path)?);
            files.ctx.budget.entry(|| directory.create_directory(path))
        })
    }

    fn stat(&mut self, handle: Handle) -> Settled<DescriptorStat> {
        self.taped("stat", &handle, "", "", |files| Ok(files.get(&handle)?.status()?.stat))
    }

    fn stat_at(&mut self, handle: Handle, flags: PathFlags, path: String) -> Settled<DescriptorStat> {
        self.taped("stat-at", &handle, &path, followed(flags), |files| {
            let directory = files.get(&handle)?.directory()?;
            Ok(directory.status_at(files.path(&path)?, follows(flags))?.stat)
        })
    }

    fn set_times_at(
        &mut self,
        handle: Handle,
        flags: PathFlags,
        path: String,
        access: NewTimestamp,
        modification: NewTimestamp,
    ) -> Settled<()> {
        let with = format_args!("{access:?} {modification:?} {}", followed(flags));
        self.taped("set-times-at", &handle, &path, with, |files| {
            let directory = files.mutable(&handle)?;
            let path = files.path(&path)?;
            let times = Times { access: timestamp(access)?, modification: timestamp(modification)? };
            directory.set_times_at(path, follows(flags), times)
        })
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
        let with = self.place(&new_handle, &new);
        self.taped("link-at", &handle, &old, with, |files| {
            files.link(&handle, &old, &new_handle, &new, false)
        })
    }

    fn open_at(
        &mut self,
        handle: Handle,
        path_flags: PathFlags,
        path: String,
        open_flags: OpenFlags,
        flags: DescriptorFlags,
    ) -> Settled<Handle> {
        settle((|| {
            let with = format_args!("{open_flags:?} {flags:?} {}", followed(path_flags));
            let opened = self.taped_open("open-at", &handle, &path, with, |files| {
                files.open(&handle, path_flags, &path, open_flags, flags)
            })?;
            let descriptor = match opened {
                Opening::Plain(descriptor) => descriptor,
                Opening::Taped(Some(descriptor), taped) => Descriptor { taped: Some(taped), ..descriptor },
                Opening::Taped(None, taped) => {
                    Descriptor { taped: Some(taped), ..Descriptor::recorded(flags, Some(self.opened()?)) }
                }
            };
            Ok(self.table.push(descriptor)?)
        })())
    }

    fn readlink_at(&mut self, handle: Handle, path: String) -> Settled<String> {
        self.taped("readlink-at", &handle, &path, "", |files| {
            files.get(&handle)?.directory()?.read_link(files.path(&path)?)
        })
    }

    fn remove_directory_at(&mut self, handle: Handle, path: String) -> Settled<()> {
        self.taped("remove-directory-at", &handle, &path, "", |files| {
            let (directory, path) = (files.mutable(&handle)?, files.path(&path)?);
            directory.remove_directory(path.trim_end_matches('/'))?;
            files.ctx.budget.entry_gone();
            Ok(())
        })
    }

    fn rename_at(&mut self, handle: Handle, old: String, new_handle: Handle, new: String) -> Settled<()> {
        let with = self.place(&new_handle, &new);
        self.taped("rename-at", &handle, &old, with, |files| {
            files.link(&handle, &old, &new_handle, &new, true)
        })
    }

    fn symlink_at(&mut self, handle: Handle, target: String, path: String) -> Settled<()> {
        let with = format_args!("to {target}");
        self.taped("symlink-at", &handle, &path, with, |files| files.symlink(&handle, &target, &path))
    }

    fn unlink_file_at(&mut self, handle: Handle, path: String) -> Settled<()> {
        self.taped("unlink-file-at", &handle, &path, "", |files| {
            let directory = files.mutable(&handle)?;
            directory.remove_file(files.path(&path)?)?;
            files.ctx.budget.entry_gone();
            Ok(())
        })
    }

    fn is_same_object(&mut self, one: Handle, other: Handle) -> wasmtime::Result<bool> {
        let with = self.place(&other, "");
        let same = self.taped("is-same-object", &one, "", with, |files| {
            let (one, other) = (files.get(&one)?.status()?.identity, files.get(&other)?.status()?.identity);
            Ok((one.lower, one.upper) == (other.lower, other.upper))
        })?;
        Ok(same.unwrap_or(false))
    }

    fn metadata_hash(&mut self, handle: Handle) -> Settled<MetadataHashValue> {
        self.taped("metadata-hash", &handle, "", "", |files| Ok(files.get(&handle)?.status()?.identity))
    }

    fn metadata_hash_at(
        &mut self,
        handle: Handle,
        flags: PathFlags,
        path: String,
    ) -> Settled<MetadataHashValue> {
        self.taped("metadata-hash-at", &handle, &path, followed(flags), |files| {
            let directory = files.get(&handle)?.directory()?;
            Ok(directory.status_at(files.path(&path)?, follows(flags))?.identity)
        })
    }

    fn drop(&mut self, handle: Handle) -> wasmtime::Result<()> {
        self.table.delete(handle)?;
        Ok(())
    }
}

impl FilesystemCtxView<'_> {
    fn writer(
        &mut self,
        does: &str,
        handle: &Handle,
        position: Option<u64>,
    ) -> Result<Resource<DynOutputStream>> {
        let with = position.map(|position| format!("at {position}")).unwrap_or_default();
        let writer = self.taped_open(does, handle, "", with, |files| {
            let descriptor = files.get(handle)?;
            let (file, _opened) = (descriptor.writable()?.clone(), descriptor.opened.clone());
            Ok(Writer { file, position, budget: files.ctx.budget.clone(), _opened })
        })?;
        let stream: DynOutputStream = match writer {
            Opening::Plain(writer) => Box::new(writer),
            Opening::Taped(writer, taped) => Box::new(TapedWriter { writer, taped }),
        };
        Ok(self.table.push(stream)?)
    }
}
