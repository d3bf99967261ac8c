//! Tools on the command line.

use super::*;

fn echo() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/tools/echo.wasm").canonicalize().unwrap()
}

#[test]
fn tools_are_named_by_file_by_directory_and_in_the_configuration() {
    let directory = directory();
    let tools = directory.path().join("tools");
    fs::create_dir(&tools).unwrap();
    fs::copy(echo(), tools.join("my-echo.wasm")).unwrap();
    fs::write(tools.join("notes.txt"), "no tool").unwrap();
    let code = "from tools.my_echo.values import add; print(add(40, 2))";
    for named in ["tools", "tools/my-echo.wasm"] {
        let output =
            agentkernel(directory.path()).args(["run", "--tools", named, "-c", code]).output().unwrap();
        assert_eq!(stdout(&output), "42\n", "{}", stderr(&output));
    }
    fs::create_dir(directory.path().join("data")).unwrap();
    fs::write(directory.path().join("data/in"), "granted").unwrap();
    let config = "
        [tool.e]
        component = 'tools/my-echo.wasm'
        summary = 'gives back'
        mounts = ['data:/data', '{workspace}:/w:rw']
        env = ['MODE=test']
        timeout = '1s'
        [tool.my_echo]
        memory = '64MiB'";
    fs::write(directory.path().join("agentkernel.toml"), format!("tools = ['tools']\n{config}")).unwrap();
    fs::create_dir(directory.path().join("work")).unwrap();
    let code = "
from tools.e import faults
print(faults.read('/data/in'), faults.variable('MODE'))
faults.write('/w/out', 'x')
print(open('out').read())
try: faults.spin()
except TimeoutError as error: print(error)";
    let output = agentkernel(directory.path()).args(["run", "-w", "work", "-c", code]).output().unwrap();
    let expected = "granted test\nx\ne.faults.spin was stopped at its time limit of 1 s\n";
    assert_eq!(stdout(&output), expected, "{}", stderr(&output));

    let output = agentkernel(directory.path()).args(["tool", "list"]).output().unwrap();
    assert_eq!(
        stdout(&output),
        "e        gives back\nmy_echo  Gives back what it is given, and misbehaves when it is asked to.\n",
        "{}",
        stderr(&output)
    );
    let output = agentkernel(directory.path()).args(["tool", "describe", "e.values"]).output().unwrap();
    assert!(stdout(&output).contains("add(a: int, b: int) -> int"), "{}", stdout(&output));
    let output = agentkernel(directory.path()).args(["tool", "describe", "absent"]).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(stderr(&output).contains("there are e, my_echo"), "{}", stderr(&output));
}

#[test]
fn mistakes_with_tools_are_errors_with_a_remedy() {
    let directory = directory();
    fs::write(directory.path().join("no.wasm"), "no component").unwrap();
    fs::create_dir(directory.path().join("empty")).unwrap();
    let config = |text: &str| fs::write(directory.path().join("agentkernel.toml"), text).unwrap();
    let fails = |arguments: &[&str], message: &str| {
        let output = agentkernel(directory.path()).args(["run", "-c", "1"]).args(arguments).output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{}", stderr(&output));
        assert!(
            stderr(&output).contains(message) && stderr(&output).contains("hint: "),
            "{}",
            stderr(&output)
        );
    };
    fails(&["--tools", "absent"], "cannot read the tools in `absent`");
    fails(&["--tools", "empty"], "there is no tool in `empty`");
    fails(&["--tools", "no.wasm"], "the tool `no` is not WebAssembly");
    config("[tool.x]\nmemory = '1MiB'");
    fails(&[], "there is no tool `x` to which `[tool.x]` could apply");
    config("[tool.x]\ncomponent = 'no.wasm'\nmount = []");
    fails(&[], "agentkernel.toml:3:1");
    config("");
    // A tool that the program could replace would have its grants at the next run.
    fs::create_dir(directory.path().join("work")).unwrap();
    fs::copy(echo(), directory.path().join("work/echo.wasm")).unwrap();
    fails(
        &["-w", "work", "--tools", "work"],
        "the tool `work/echo.wasm` lies in a directory that the program may write to",
    );
}
