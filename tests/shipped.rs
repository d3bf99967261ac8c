//! Runs each `shipped/NAME.py`, a program of asserts, with the shipped tools and a workspace of its own
//! that holds a copy of `shipped/data`.
//!
//! The tools are those in `tools/prebuilt`, or in the directory that `AGENTKERNEL_TEST_TOOLS` names. Each
//! is granted the workspace, for reading and writing. A call of `sql` has a few seconds, and `http` is granted
//! all requests to a server on loopback, which programs find in their environment.

#[path = "shipped/server.rs"]
mod server;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::Duration;

use agentkernel::{Access, Ending, Grants, Kernel, Tool, ToolGrants, ToolResources, Turn, Workspace};
use agentkernel_tests::{builder, limits};
use libtest_mimic::{Arguments, Failed, Trial};

fn main() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("shipped");
    let mut programs: Vec<PathBuf> = fs::read_dir(directory)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "py"))
        .collect();
    programs.sort();
    assert!(!programs.is_empty());
    let trials = programs
        .into_iter()
        .map(|path| {
            let name = path.file_stem().unwrap().to_string_lossy().into_owned();
            Trial::test(name, move || check(&path))
        })
        .collect();
    libtest_mimic::run(&Arguments::from_args(), trials).exit();
}

fn kernel() -> &'static Kernel {
    static KERNEL: OnceLock<Kernel> = OnceLock::new();
    KERNEL.get_or_init(|| {
        let prebuilt = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tools/prebuilt");
        let directory = std::env::var_os("AGENTKERNEL_TEST_TOOLS").map_or(prebuilt, PathBuf::from);
        let mut builder = builder();
        for tool in Tool::discover(&directory).expect("the shipped tools are there") {
            let mut grants = ToolGrants::workspace(Access::ReadWrite);
            // Its program waits until it is over; the others must not run into it on a busy machine.
            if tool.name() == "sql" {
                grants.limits.timeout = Some(Duration::from_secs(4));
            }
            // As `tools.toml` has it.
            if tool.name() == "data_analysis" {
                grants.resources = ToolResources::Recreated;
            }
            if tool.name() == "http" {
                grants.http = vec![format!("* {}", server()).parse().unwrap()];
            }
            builder = builder.tool(tool.grants(grants));
        }
        builder.build().expect("the kernel builds")
    })
}

/// The address of the process's one server.
fn server() -> &'static str {
    static ADDRESS: OnceLock<String> = OnceLock::new();
    ADDRESS.get_or_init(server::start)
}

fn check(path: &Path) -> Result<(), Failed> {
    let workspace = tempfile::tempdir()?;
    copy(&path.with_file_name("data"), workspace.path())?;
    let mut limits = limits();
    limits.timeout = Some(Duration::from_secs(120));
    let grants = Grants {
        workspace: Workspace::Directory(workspace.path().to_path_buf()),
        environment: [("AGENTKERNEL_TEST_SERVER".into(), server().into())].into(),
        limits,
        ..Grants::default()
    };
    let mut session = kernel().session().grants(grants).start()?;
    let file = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let outcome = session.run_blocking(Turn::new(fs::read_to_string(path)?).file(file))?;
    let printed = String::from_utf8_lossy(&outcome.stderr);
    match &outcome.ending {
        Ending::Completed(_) => Ok(()),
        Ending::Raised(exception) => Err(format!("{}{printed}", exception.traceback).into()),
        other => Err(format!("ended in {other:?}\n{printed}").into()),
    }
}

fn copy(from: &Path, to: &Path) -> std::io::Result<()> {
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            fs::create_dir(&target)?;
            copy(&entry.path(), &target)?;
        } else {
            fs::copy(entry.path(), target)?;
        }
    }
    Ok(())
}
