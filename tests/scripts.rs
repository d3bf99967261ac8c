//! Runs each `scripts/NAME.py` and compares what it wrote with `NAME.stdout` and `NAME.stderr`.
//!
//! A first line `# exit: N` names the exit code that is expected, 0 without one. A missing file is
//! empty output. `BLESS=1` writes the files anew.

use std::fs;
use std::path::{Path, PathBuf};

use agentkernel::{Ending, Turn};
use agentkernel_tests::{limits, session};
use libtest_mimic::{Arguments, Failed, Trial};

fn main() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts");
    let mut scripts: Vec<PathBuf> = fs::read_dir(directory)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "py"))
        .collect();
    scripts.sort();
    assert!(!scripts.is_empty());
    let trials = scripts
        .into_iter()
        .map(|path| {
            let name = path.file_stem().unwrap().to_string_lossy().into_owned();
            Trial::test(name, move || check(&path))
        })
        .collect();
    libtest_mimic::run(&Arguments::from_args(), trials).exit();
}

fn check(path: &Path) -> Result<(), Failed> {
    let code = fs::read_to_string(path)?;
    let expected_exit: i32 = match code.strip_prefix("# exit: ") {
        Some(rest) => rest.lines().next().unwrap_or_default().trim().parse()?,
        None => 0,
    };
    let file = format!("{}.py", path.file_stem().unwrap_or_default().to_string_lossy());
    let outcome =
        session(limits()).run_blocking(Turn::new(code).file(file.as_str()).arguments([file.as_str()]))?;
    let (mut stderr, exit) = (
        outcome.stderr,
        match &outcome.ending {
            Ending::Completed(_) => 0,
            Ending::Exited(code) => *code,
            Ending::Raised(_) => 1,
            other => return Err(format!("ended in {other:?}").into()),
        },
    );
    if let Ending::Raised(exception) = &outcome.ending {
        stderr.extend_from_slice(exception.traceback.as_bytes());
    }
    compare(&path.with_extension("stdout"), &outcome.stdout)?;
    compare(&path.with_extension("stderr"), &stderr)?;
    if exit != expected_exit {
        return Err(format!("exit code {exit}, expected {expected_exit}").into());
    }
    Ok(())
}

fn compare(path: &Path, actual: &[u8]) -> Result<(), Failed> {
    if std::env::var_os("BLESS").is_some() {
        if actual.is_empty() {
            let _ = fs::remove_file(path);
        } else {
            fs::write(path, actual)?;
        }
        return Ok(());
    }
    let expected = fs::read(path).unwrap_or_default();
    if expected != actual {
        return Err(format!(
            "{} differs\n--- expected\n{}\n--- actual\n{}",
            path.display(),
            String::from_utf8_lossy(&expected),
            String::from_utf8_lossy(actual)
        )
        .into());
    }
    Ok(())
}
