//! What programs of these tests begin with, and how their values are asked for.

use agentkernel::{Grants, Session};
use agentkernel_tests::{kernel, value};
use serde_json::Value;

pub const SECRET: &str = "nobody may read this";

pub const PRELUDE: &str = "
import errno, os, shutil, stat, time

def error_of(act, *arguments, **options):
    try:
        act(*arguments, **options)
    except OSError as error:
        return errno.errorcode.get(error.errno, str(error))

def read(path):
    with open(path) as file:
        return file.read()

def write(path, text, mode='w'):
    with open(path, mode) as file:
        file.write(text)
";

pub fn start_with(grants: Grants) -> Session {
    kernel().session().grants(grants).start().expect("the session starts")
}

/// Runs the prelude and `code` and returns the value of its last expression.
#[track_caller]
pub fn answer(session: &mut Session, code: &str) -> Value {
    let outcome = session.run_blocking(format!("{PRELUDE}\n{code}")).unwrap();
    value(&outcome).json.clone().expect("a plain value")
}
