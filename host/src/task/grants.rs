//! Grants as they are kept with a task, and whether some are narrower than others.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::{Access, Error, ErrorKind, Grants, Limits, Mount, Result, Workspace};

/// [`Grants`] as JSON has them.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Kept {
    #[serde(skip_serializing_if = "Option::is_none", default)]
    workspace: Option<PathBuf>,
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    mounts: Vec<KeptMount>,
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    import_paths: Vec<String>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty", default)]
    environment: BTreeMap<String, String>,
    timeout: Option<Duration>,
    memory_bytes: u64,
    output_bytes: u64,
    fuel: Option<u64>,
    open_files: u32,
    write_bytes: u64,
    new_entries: u32,
    path_bytes: u32,
    operations: u32,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct KeptMount {
    host: PathBuf,
    guest: String,
    writable: bool,
}

pub(super) fn serialize<S: Serializer>(grants: &Grants, serializer: S) -> Result<S::Ok, S::Error> {
    let Grants { workspace, mounts, import_paths, environment, limits } = grants.clone();
    let mounts = mounts.into_iter().map(|Mount { host, guest, access }| KeptMount {
        host,
        guest,
        writable: access == Access::ReadWrite,
    });
    let kept = Kept {
        workspace: match workspace {
            // (An overlay was refused before.)
            Workspace::Temporary | Workspace::Overlay(_) => None,
            Workspace::Directory(directory) => Some(directory),
        },
        mounts: mounts.collect(),
        import_paths,
        environment,
        timeout: limits.timeout,
        memory_bytes: limits.memory_bytes,
        output_bytes: limits.output_bytes,
        fuel: limits.fuel,
        open_files: limits.open_files,
        write_bytes: limits.write_bytes,
        new_entries: limits.new_entries,
        path_bytes: limits.path_bytes,
        operations: limits.operations,
    };
    kept.serialize(serializer)
}

pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Grants, D::Error> {
    let kept = Kept::deserialize(deserializer)?;
    let access = |writable| if writable { Access::ReadWrite } else { Access::ReadOnly };
    let mounts = kept.mounts.into_iter().map(|KeptMount { host, guest, writable }| Mount {
        host,
        guest,
        access: access(writable),
    });
    Ok(Grants {
        workspace: kept.workspace.map_or(Workspace::Temporary, Workspace::Directory),
        mounts: mounts.collect(),
        import_paths: kept.import_paths,
        environment: kept.environment,
        limits: Limits {
            timeout: kept.timeout,
            memory_bytes: kept.memory_bytes,
            output_bytes: kept.output_bytes,
            fuel: kept.fuel,
            open_files: kept.open_files,
            write_bytes: kept.write_bytes,
            new_entries: kept.new_entries,
            path_bytes: kept.path_bytes,
            operations: kept.operations,
        },
    })
}

/// The same grants for a process that may run elsewhere: its directories by their whole paths.
pub(super) fn settled(mut grants: Grants) -> Result<Grants> {
    match &mut grants.workspace {
        Workspace::Temporary => {}
        Workspace::Directory(directory) => *directory = whole(directory)?,
        Workspace::Overlay(_) => {
            let message = "an overlay belongs to its process, so a task cannot have it as its workspace";
            return Err(Error::new(ErrorKind::Grant, message).hint("grant the directory itself, or none"));
        }
    }
    for mount in &mut grants.mounts {
        mount.host = whole(&mount.host)?;
    }
    Ok(grants)
}

fn whole(directory: &Path) -> Result<PathBuf> {
    let shown = directory.display();
    let found = directory.canonicalize().map_err(|error| {
        Error::new(ErrorKind::Grant, format!("the directory `{shown}` cannot be granted to a task"))
            .source(error)
    })?;
    match found.to_str() {
        Some(_) => Ok(found),
        None => Err(Error::new(
            ErrorKind::Grant,
            format!("the path of `{shown}` is not UTF-8, so it cannot be kept with a task"),
        )
        .hint("rename the directory")),
    }
}

/// Refuses grants with which a program could change `store`, which says what others may do.
pub(super) fn check_store(grants: &Grants, store: Option<&Path>) -> Result<()> {
    store.map_or(Ok(()), |store| grants.check_outside("store of tasks", store))
}

/// Says what `child` would have that `parent` has not, if there is something.
pub(super) fn excess(child: &Grants, parent: &Grants) -> Option<String> {
    match (&child.workspace, &parent.workspace) {
        (Workspace::Temporary, _) => {}
        (one, other) if one == other => {}
        _ => return Some("its workspace is another directory".into()),
    }
    for mount in &child.mounts {
        let covers = |other: &&Mount| {
            other.host == mount.host
                && other.guest == mount.guest
                && (other.access == mount.access || mount.access == Access::ReadOnly)
        };
        if parent.mounts.iter().find(covers).is_none() {
            return Some(format!("`{}` is not granted in that way", mount.guest.escape_debug()));
        }
    }
    for (name, value) in &child.environment {
        if parent.environment.get(name) != Some(value) {
            return Some(format!("the variable `{}` is another", name.escape_debug()));
        }
    }
    let (own, most) = (&child.limits, &parent.limits);
    let optional = |own: Option<Duration>, most: Option<Duration>| match (own, most) {
        (_, None) => true,
        (Some(own), Some(most)) => own <= most,
        (None, Some(_)) => false,
    };
    // Fuel is metered by the kernel: there is a limit in both, or in none.
    let fuel = match (own.fuel, most.fuel) {
        (Some(own), Some(most)) => own <= most,
        (own, most) => own == most,
    };
    let limits = [
        ("time", optional(own.timeout, most.timeout)),
        ("fuel", fuel),
        ("memory", own.memory_bytes <= most.memory_bytes),
        ("output", own.output_bytes <= most.output_bytes),
        ("open files", own.open_files <= most.open_files),
        ("written bytes", own.write_bytes <= most.write_bytes),
        ("new entries", own.new_entries <= most.new_entries),
        ("length of paths", own.path_bytes <= most.path_bytes),
        ("operations", own.operations <= most.operations),
    ];
    let wider = limits.into_iter().find(|(_, narrower)| !narrower);
    wider.map(|(what, _)| format!("its limit of {what} is wider"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn grants() -> impl Strategy<Value = Grants> {
        let mount = (0..3u8, 0..3u8, any::<bool>()).prop_map(|(host, guest, writable)| Mount {
            host: format!("/h{host}").into(),
            guest: format!("/g{guest}"),
            access: if writable { Access::ReadWrite } else { Access::ReadOnly },
        });
        let variables = proptest::collection::btree_map("[A-C]", "[xy]", 0..3);
        let numbers = proptest::array::uniform8(0..3u32);
        let options = (proptest::option::of(0..3u64), proptest::option::of(0..3u64));
        (0..3u8, proptest::collection::vec(mount, 0..3), variables, numbers, options).prop_map(
            |(workspace, mounts, environment, [a, b, c, d, e, f, g, _], (timeout, fuel))| Grants {
                workspace: match workspace {
                    0 => Workspace::Temporary,
                    number => Workspace::Directory(format!("/w{number}").into()),
                },
                mounts,
                import_paths: Vec::new(),
                environment,
                limits: Limits {
                    timeout: timeout.map(Duration::from_secs),
                    memory_bytes: a.into(),
                    output_bytes: b.into(),
                    fuel,
                    open_files: c,
                    write_bytes: d.into(),
                    new_entries: e,
                    path_bytes: f,
                    operations: g,
                },
            },
        )
    }

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Holder(#[serde(with = "super")] Grants);

    proptest! {
        #[test]
        fn grants_are_kept_as_they_are(grants in grants()) {
            let held = Holder(grants);
            let text = serde_json::to_string(&held).unwrap();
            prop_assert_eq!(serde_json::from_str::<Holder>(&text).unwrap(), held);
        }

        #[test]
        fn being_narrower_is_an_order(a in grants(), b in grants(), c in grants()) {
            prop_assert_eq!(excess(&a, &a), None);
            if excess(&a, &b).is_none() && excess(&b, &c).is_none() {
                prop_assert_eq!(excess(&a, &c), None);
            }
        }
    }

    #[test]
    fn each_way_to_have_more_is_found() {
        let parent = Grants::default();
        let more = |change: &dyn Fn(&mut Grants)| {
            let mut child = parent.clone();
            change(&mut child);
            excess(&child, &parent).unwrap_or_default()
        };
        assert!(more(&|child| child.workspace = Workspace::Directory("/".into())).contains("workspace"));
        assert!(more(&|child| child.limits.timeout = None).contains("time"));
        assert!(more(&|child| child.limits.fuel = Some(1)).contains("fuel"));
        assert!(more(&|child| child.limits.memory_bytes += 1).contains("memory"));
        assert!(more(&|child| drop(child.environment.insert("A".into(), "b".into()))).contains("`A`"));
        let mount = Mount { host: "/".into(), guest: "/all".into(), access: Access::ReadOnly };
        assert!(more(&|child| child.mounts.push(mount.clone())).contains("/all"));
    }
}
