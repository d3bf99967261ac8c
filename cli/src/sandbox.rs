//! `SANDBOX_TYPE`: what runs programs. There is one answer; who asks for another is told where that is to be had.

use crate::failure::{Failure, Result};

/// The sandbox that is there.
const OWN: &str = "wasm";

/// Sandboxes that others of this kind run programs in: names, what they are, and who wants them should do what.
const ELSEWHERE: &[(&[&str], &str, &str)] = &[
    (&["docker", "podman", "container"], "containers", RUN_INSIDE),
    (&["kubernetes", "k8s"], "containers of a cluster", RUN_INSIDE),
    (&["gvisor", "runsc"], "containers on gVisor", RUN_INSIDE),
    (&["firecracker", "kata"], "microVMs", RUN_INSIDE),
    (
        &["microsandbox"],
        "microVMs of microsandbox",
        "install microsandbox and use its own SDK; here set `wasm` or nothing",
    ),
    (
        &["opensandbox"],
        "containers of OpenSandbox",
        "run its server and use its own SDK; here set `wasm` or nothing",
    ),
    (
        &["monty"],
        "Monty, an interpreter of a part of Python",
        "install the package `pydantic-monty` to use it by itself; here CPython serves: set `wasm` or nothing",
    ),
    (
        &["pyodide", "deno"],
        "Pyodide, CPython for browsers",
        "it needs a JavaScript engine; `agentkernel compose` makes components that one runs. Here set `wasm` or nothing",
    ),
    (&["e2b", "daytona", "modal", "blaxel", "vercel"], "a service with machines of its own", SERVICE),
    (
        &["local", "host", "subprocess", "process", "none", "unsafe_local"],
        "no sandbox at all",
        "programs that a model wrote are not run without one; set `wasm` or nothing, and grant what they need with `--workspace` and `--mount`",
    ),
    (
        &["jupyter", "ipython"],
        "a Jupyter kernel",
        "`agentkernel repl` and `agentkernel session` keep names from turn to turn; set `wasm` or nothing",
    ),
];

const RUN_INSIDE: &str =
    "run `agentkernel` inside of one for a second wall around it, with `wasm` or nothing set there";
const SERVICE: &str = "get an account and use the SDK of the service; here set `wasm` or nothing";

/// Refuses a sandbox that is not there.
pub fn check(named: Option<&str>) -> Result<()> {
    let Some(named) = named.map(str::trim).filter(|named| !named.is_empty()) else { return Ok(()) };
    let lower = named.to_ascii_lowercase();
    if lower == OWN {
        return Ok(());
    }
    let shown = crate::terminal::line(named, 60);
    Err(match ELSEWHERE.iter().find(|(names, ..)| names.contains(&lower.as_str())) {
        Some((_, what, remedy)) => Failure::new(format!(
            "the sandbox `{shown}` ({what}) is not part of AgentKernel, which has `{OWN}`"
        ))
        .hint(*remedy),
        None => Failure::new(format!("there is no sandbox `{shown}`; AgentKernel has `{OWN}`"))
            .hint("set SANDBOX_TYPE, `--sandbox` or `sandbox` of agentkernel.toml to `wasm`, or to nothing"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_sandbox_is_there() {
        for named in [None, Some(""), Some("wasm"), Some(" WASM ")] {
            assert!(check(named).is_ok(), "{named:?}");
        }
        for (named, part) in [
            ("docker", "containers"),
            ("Monty", "pydantic-monty"),
            ("microsandbox", "microVMs"),
            ("e2b", "account"),
            ("local", "--workspace"),
            ("wasn", "there is no sandbox"),
        ] {
            let failure = check(Some(named)).unwrap_err();
            let text = format!("{} {}", failure.message, failure.hint.unwrap_or_default());
            assert!(text.contains(part) && text.contains(named), "{named}: {text}");
        }
        let names: Vec<_> = ELSEWHERE.iter().flat_map(|(names, ..)| names.iter()).collect();
        let mut unique = names.clone();
        unique.sort();
        unique.dedup();
        assert_eq!(unique.len(), names.len());
    }
}
