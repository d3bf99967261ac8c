//! `agentkernel compose`. What it makes is run in `tests/compose.rs`.

use super::*;

fn compose(directory: &Path, arguments: &[&str]) -> Output {
    agentkernel(directory).arg("compose").args(arguments).output().unwrap()
}

#[test]
fn a_program_becomes_a_component() {
    let directory = directory();
    let path = directory.path();
    let echo = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/tools/echo.wasm");
    fs::copy(echo, path.join("echo.wasm")).unwrap();
    fs::write(path.join("main.py"), "import helpers\nawait helpers.wait()").unwrap();
    fs::create_dir_all(path.join("lib/helpers/deep")).unwrap();
    fs::write(path.join("lib/helpers/__init__.py"), "from .deep.one import wait").unwrap();
    fs::write(path.join("lib/helpers/deep/__init__.py"), "").unwrap();
    fs::write(path.join("lib/helpers/deep/one.py"), "async def wait(): print('MARK')").unwrap();
    fs::write(path.join("lib/not-a-module.py"), "no Python").unwrap();
    fs::write(path.join("out.wasm"), "older").unwrap();
    let arguments = ["main.py", "--tools", "echo.wasm", "--modules", "lib", "-o", "out.wasm"];
    let output = compose(path, &arguments);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    assert_eq!(stdout(&output), "");
    assert!(stderr(&output).contains("wasmtime run --dir .::/workspace out.wasm"), "{}", stderr(&output));
    assert!(!stderr(&output).contains("grants"), "{}", stderr(&output));
    let component = fs::read(path.join("out.wasm")).unwrap();
    assert!(component.starts_with(b"\0asm\x0d\0\x01\0"));
    for text in ["helpers.deep.one", "MARK", "tools.echo.values", "wasi:cli/run@0.2"] {
        assert!(component.windows(text.len()).any(|part| part == text.as_bytes()), "{text}");
    }
    let config = "[tool.echo]\ncomponent = 'echo.wasm'\nenv = ['A=B']";
    fs::write(path.join("agentkernel.toml"), config).unwrap();
    let output = compose(path, &["main.py", "-o", "out.wasm"]);
    assert!(stderr(&output).contains("the grants of agentkernel.toml end here"), "{}", stderr(&output));
    let output = compose(path, &["main.py", "-o", "out.wasm", "--quiet"]);
    assert_eq!((stderr(&output).as_str(), output.status.code()), ("", Some(0)));
}

#[test]
fn what_cannot_be_composed_leaves_the_output_as_it_was() {
    let directory = directory();
    let path = directory.path();
    fs::write(path.join("good.py"), "print(1)").unwrap();
    fs::write(path.join("bad.py"), "x = 1\nif x print(x)").unwrap();
    fs::create_dir(path.join("one")).unwrap();
    fs::write(path.join("one/broken.py"), "def f(:").unwrap();
    fs::create_dir(path.join("two")).unwrap();
    fs::write(path.join("two/broken.py"), "1").unwrap();
    fs::write(path.join("no.wasm"), "no component").unwrap();
    fs::write(path.join("out.wasm"), "older").unwrap();
    let fails = |arguments: &[&str], message: &str| {
        let output = compose(path, arguments);
        assert_eq!(output.status.code(), Some(2), "{}", stderr(&output));
        assert!(stderr(&output).contains(message), "{}", stderr(&output));
    };
    fails(&["absent.py", "-o", "out.wasm"], "cannot read `absent.py`");
    fails(&["bad.py", "-o", "out.wasm"], "Python cannot compile `bad.py`: invalid syntax (bad.py, line 2)");
    fails(&["good.py", "--modules", "one", "-o", "out.wasm"], "Python cannot compile `one/broken.py`");
    fails(&["good.py", "--modules", "absent", "-o", "out.wasm"], "cannot read the modules in `absent`");
    let both = ["good.py", "--modules", "one", "--modules", "two", "-o", "out.wasm"];
    fails(&both, "`one/broken.py` and `two/broken.py` are both the module `broken`");
    fails(&["good.py", "--tools", "no.wasm", "-o", "out.wasm"], "the tool `no` is not WebAssembly");
    fails(&["good.py", "-o", "absent/out.wasm"], "cannot write `absent/out.wasm`");
    fails(&["good.py", "-o", "one"], "cannot write `one`");
    assert_eq!(fs::read_to_string(path.join("out.wasm")).unwrap(), "older");
    let left: Vec<_> = fs::read_dir(path).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left.len(), 6, "{left:?}");
}
