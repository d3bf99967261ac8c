//! What a program is told about an object of an overlay.

use super::super::bindings::wasi::clocks::wall_clock::Datetime;
use super::super::bindings::wasi::filesystem::types::{DescriptorStat, DescriptorType};
use super::super::descriptor;
use super::super::node;
use super::acts::{Status, known};
use super::state::Time;

/// What a directory without one below seems to take.
const DIRECTORY_BYTES: u64 = 4096;

fn datetime(Time(seconds, nanoseconds): Time) -> Option<Datetime> {
    Some(Datetime { seconds, nanoseconds })
}

impl From<Status> for node::Status {
    fn from(status: Status) -> Self {
        match status {
            Status::Of(metadata, links, of) => {
                let mut stat = descriptor::stat(&metadata);
                if let Some(links) = links {
                    stat.link_count = links;
                }
                node::Status { stat, identity: descriptor::identity(of.device, of.inode) }
            }
            Status::Directory(base, accessed, modified, of) => {
                let base = base.as_deref();
                let modified = known(modified, base, true);
                let stat = DescriptorStat {
                    type_: DescriptorType::Directory,
                    link_count: base.map_or(2, cap_fs_ext::MetadataExt::nlink),
                    size: base.map_or(DIRECTORY_BYTES, |base| base.len()),
                    data_access_timestamp: datetime(known(accessed, base, false)),
                    data_modification_timestamp: datetime(modified),
                    status_change_timestamp: datetime(modified),
                };
                node::Status { stat, identity: descriptor::identity(of.device, of.inode) }
            }
            Status::Link(link) => {
                let stat = DescriptorStat {
                    type_: DescriptorType::SymbolicLink,
                    link_count: link.links.into(),
                    size: link.target.len() as u64,
                    data_access_timestamp: datetime(link.accessed),
                    data_modification_timestamp: datetime(link.modified),
                    status_change_timestamp: datetime(link.modified),
                };
                let of = link.identity;
                node::Status { stat, identity: descriptor::identity(of.device, of.inode) }
            }
        }
    }
}
