//! Real MCP servers, from npm and PyPI, as `.ci/mcp-servers` installs them in the directory that `AGENTKERNEL_MCP_SERVERS` names.
//! Without it all of them are skipped, and this says why.

use std::path::{Path, PathBuf};

use agentkernel::{Ending, McpServer, Tool, ToolGrants};
use agentkernel_tests::{builder, limits};
use libtest_mimic::{Arguments, Failed, Trial};

fn main() {
    let servers = std::env::var_os("AGENTKERNEL_MCP_SERVERS").map(PathBuf::from);
    if servers.is_none() {
        println!(
            "skipped: AGENTKERNEL_MCP_SERVERS names no directory with servers (`.ci/mcp-servers` makes one, with npm and pip)"
        );
    }
    let skipped = servers.is_none();
    // Where nothing is installed, nothing looks there.
    let servers = servers.map_or_else(PathBuf::new, |path| std::path::absolute(path).unwrap_or_default());
    let trials = CASES.iter().map(|case| {
        let servers = servers.clone();
        Trial::test(case.name, move || check(&servers, case)).with_ignored_flag(skipped)
    });
    let trials = trials.collect();
    libtest_mimic::run(&Arguments::from_args(), trials).exit();
}

/// A server, and a program that uses it as `tools.x`.
struct Case {
    name: &'static str,
    /// Its program below the directory.
    program: &'static str,
    /// `{}` is the directory that it works in.
    arguments: &'static [&'static str],
    environment: &'static [(&'static str, &'static str)],
    code: &'static str,
}

const CASES: &[Case] = &[
    Case {
        name: "everything",
        program: "node_modules/.bin/mcp-server-everything",
        arguments: &["stdio"],
        environment: &[("OWN", "1")],
        code: r#"
import asyncio, inspect, json, tools
from tools import x
from tools.x import aio
assert x.echo("é") == "Echo: é"
assert "3" in x.get_sum(1, 2)
assert set(x.get_structured_content("Chicago")) == {"temperature", "conditions", "humidity"}
assert x.get_structured_content.__annotations__["return"] == "GetStructuredContentResult"
image = next(part for part in x.get_tiny_image() if isinstance(part, dict))
assert image["mime_type"] == "image/png" and image["data"][:4] == b"\x89PNG", image
assert {part["type"] for part in x.get_resource_links(count=2)[1:]} == {"resource_link"}
assert any(isinstance(part, dict) and part["type"] == "resource" for part in x.get_resource_reference(resourceType="Text", resourceId=1))
assert set(json.loads(x.get_env())) == {"PATH", "OWN"}, x.get_env()
try: x.get_structured_content("Paris")
except TypeError as error: assert "Literal" in str(error), error
else: assert False
async def overlap():
    return await asyncio.gather(*(aio.trigger_long_running_operation(duration=1, steps=2) for _ in range(5)))
assert len(asyncio.run(overlap())) == 5
assert tools.search("echoes the input")[0].name == "x.echo"
"#,
    },
    Case {
        name: "filesystem",
        program: "node_modules/.bin/mcp-server-filesystem",
        arguments: &["{}"],
        environment: &[],
        code: r#"
import base64
from tools import x
root = x.list_allowed_directories()["content"].split()[-1]
x.write_file(root + "/a.txt", "one\ntwo\n")
assert x.read_text_file(root + "/a.txt", head=1)["content"] == "one"
assert "+ three" in x.edit_file(root + "/a.txt", [{"oldText": "two", "newText": "three"}])["content"].replace("+three", "+ three")
assert "[FILE] a.txt" in x.list_directory(root)["content"]
try: x.read_text_file("/etc/passwd")
except x.Error as error: assert "denied" in str(error).lower(), error
else: assert False
try: x.edit_file(root + "/a.txt", [{"old": "x"}])
except TypeError as error: assert "`edits[0].oldText` is missing" in str(error), error
else: assert False
"#,
    },
    Case {
        name: "memory",
        program: "node_modules/.bin/mcp-server-memory",
        arguments: &[],
        environment: &[("MEMORY_FILE_PATH", "{}/memory.jsonl")],
        code: r#"
from tools import x
ada = {"name": "Ada", "entityType": "person", "observations": ["wrote programs"]}
assert x.create_entities([ada]) == {"entities": [ada]}
x.add_observations([{"entityName": "Ada", "contents": ["liked numbers"]}])
assert x.search_nodes("numbers")["entities"][0]["observations"] == ["wrote programs", "liked numbers"]
assert x.read_graph()["relations"] == []
"#,
    },
    Case {
        name: "time",
        program: "mcp-server-time/bin/mcp-server-time",
        arguments: &["--local-timezone", "UTC"],
        environment: &[],
        code: r#"
import json
from tools import x
def value(given): return json.loads(given) if isinstance(given, str) else given
assert value(x.get_current_time("Asia/Tokyo"))["timezone"] == "Asia/Tokyo"
assert value(x.convert_time("UTC", "12:00", "Asia/Tokyo"))["time_difference"] == "+9.0h"
try: x.get_current_time("Nowhere/Else")
except x.Error as error: assert "Nowhere" in str(error), error
else: assert False
"#,
    },
    Case {
        name: "git",
        program: "mcp-server-git/bin/mcp-server-git",
        arguments: &["--repository", "{}"],
        environment: &[("HOME", "{}")],
        code: r#"
from tools import x
status = x.git_status("{}")
assert "a.txt" in status, status
assert "added" in x.git_add("{}", ["a.txt"]).lower() or "staged" in x.git_add("{}", ["a.txt"]).lower()
assert "+text" in x.git_diff_staged("{}")
"#,
    },
    Case {
        name: "calculator",
        program: "mcp-server-calculator/bin/mcp-server-calculator",
        arguments: &[],
        environment: &[],
        code: r#"
from tools import x
assert str(x.calculate("6 * 7")) == "42", x.calculate("6 * 7")
try: x.calculate(42)
except TypeError as error: assert "`expression` must be str" in str(error), error
else: assert False
"#,
    },
];

fn check(servers: &Path, case: &Case) -> Result<(), Failed> {
    let directory = tempfile::tempdir()?;
    let place = directory.path().canonicalize()?;
    let here = |text: &str| text.replace("{}", &place.to_string_lossy());
    if case.name == "git" {
        std::fs::write(place.join("a.txt"), "text\n")?;
        std::process::Command::new("git").args(["init", "-q"]).current_dir(&place).status()?;
    }
    let arguments = case.arguments.iter().map(|text| here(text));
    let server = McpServer::command(servers.join(case.program), arguments).directory(&place);
    let mut grants = ToolGrants::default();
    for (name, value) in case.environment {
        grants.environment.insert((*name).into(), here(value));
    }
    let kernel = builder().tool(Tool::mcp("x", server).grants(grants)).build()?;
    let mut limits = limits();
    limits.timeout = Some(std::time::Duration::from_secs(120));
    let outcome = kernel.session().limits(limits).start()?.run_blocking(here(case.code))?;
    match outcome.ending {
        Ending::Completed(_) => Ok(()),
        Ending::Raised(exception) => Err(exception.traceback.into()),
        other => Err(format!("{other:?}").into()),
    }
}
