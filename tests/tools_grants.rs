//! What tools are granted, by a component that asks for more (`tools/fetch`): HTTP requests, secrets,
//! random numbers, clocks, sockets.

#[path = "tools_grants/server.rs"]
mod server;

use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime};

use agentkernel::{
    Access, ClockSource, Ending, Error, Kernel, KernelBuilder, Mount, Outcome, RandomSource, Secret, Session,
    Tool, ToolGrants,
};
use agentkernel_tests::{builder, limits, raised, repr, value};
use server::Server;

fn fetch() -> Tool {
    Tool::new("fetch", Path::new(env!("CARGO_MANIFEST_DIR")).join("tools/fetch.wasm"))
}

fn http(rules: &[&str]) -> ToolGrants {
    let http = rules.iter().map(|rule| rule.parse().unwrap()).collect();
    ToolGrants { http, ..ToolGrants::default() }
}

fn start_with(builder: KernelBuilder, grants: ToolGrants) -> Session {
    let kernel = builder.tool(fetch().grants(grants)).build().unwrap();
    start(&kernel)
}

fn start(kernel: &Kernel) -> Session {
    let mut session = kernel.session().limits(limits()).start().unwrap();
    let outcome = session
        .run_blocking("import tools\nfrom tools.fetch import requests as r, machine as m\ndef get(url, *headers):\n    return r.fetch('GET', url, headers, None).body.decode()")
        .unwrap();
    assert!(matches!(outcome.ending, Ending::Completed(_)), "{outcome:?}");
    session
}

fn session(grants: ToolGrants) -> Session {
    start_with(builder(), grants)
}

#[track_caller]
fn holds(session: &mut Session, code: &str) {
    assert_eq!(repr(session, code), "True", "{code}");
}

fn traceback(outcome: &Outcome) -> &str {
    match &outcome.ending {
        Ending::Raised(exception) => &exception.traceback,
        other => panic!("no exception but {other:?}"),
    }
}

/// What the program hears of a call that must fail: the tool's own error and the host's note.
#[track_caller]
fn failure(session: &mut Session, code: &str) -> String {
    traceback(&session.run_blocking(code).unwrap()).to_owned()
}

#[test]
fn a_granted_host_answers() {
    let server = Server::start();
    let mut session = session(http(&[&format!("* http://{}", server.address)]));
    holds(&mut session, &format!("get({:?}) == 'hello'", server.url("/")));
    holds(&mut session, &format!("get({:?}) == 'hello'", server.url("")));
    holds(&mut session, &format!("'GET /echo?a=b&c HTTP/1.1' in get({:?})", server.url("/echo?a=b&c")));
    for method in ["POST", "PUT", "DELETE", "PROPFIND"] {
        let url = server.url("/echo");
        let code = format!("r.fetch('{method}', {url:?}, [('X-Own', 'yes')], b'a body').body.decode()");
        let answer = repr(&mut session, &code);
        assert!(answer.contains(&format!("{method} /echo")), "{answer}");
        assert!(answer.contains("x-own: yes") && answer.contains("a body"), "{answer}");
    }
    holds(&mut session, &format!("r.fetch('HEAD', {:?}, [], None).body == b''", server.url("/")));
    holds(&mut session, &format!("r.send({:?}, 3_000_000) == 200", server.url("/length")));
    holds(&mut session, &format!("r.drain({:?}) == 20_000_000", server.url("/bytes?20000000")));
    // One connection serves all of that.
    assert_eq!(server.connections(), 1, "{:?}", server.heads());
    holds(&mut session, &format!("r.fetch('HEAD', {:?}, [], None).body == b''", server.url("/spoilt")));
    holds(&mut session, &format!("get({:?}) == 'hello'", server.url("/")));
    assert_eq!(server.connections(), 2);
    holds(
        &mut session,
        &format!("get({:?}) == get({:?}) == 'once'", server.url("/once"), server.url("/once")),
    );
    holds(&mut session, &format!("get({:?}) == 'hello'", server.url("/")));
}

#[test]
fn what_is_not_granted_is_refused_with_the_line_that_grants_it() {
    let server = Server::start();
    let other = Server::start();
    let (here, there) = (server.address, other.address);
    let granted = [format!("http://{here}"), format!("POST http://{here}/v1/*")];
    let mut session = session(http(&granted.each_ref().map(String::as_str)));
    for (method, url, line) in [
        ("GET", format!("http://{there}/"), format!("http = [\"http://{there}\"]")),
        ("PUT", format!("http://{here}/"), format!("http = [\"PUT http://{here}\"]")),
        ("POST", format!("http://{here}/v2/x"), format!("http = [\"POST http://{here}/v2/x\"]")),
        ("POST", format!("http://{here}/v1/../v2"), format!("http = [\"POST http://{here}\"]")),
        ("GET", format!("https://{here}/"), format!("http = [\"{here}\"]")),
        ("GET", "https://api.example.com/v1?q".into(), "http = [\"api.example.com\"]".into()),
    ] {
        let code = format!("r.fetch('{method}', {url:?}, [], None)");
        let outcome = session.run_blocking(code.as_str()).unwrap();
        let (kind, message) = raised(&outcome);
        assert_eq!((kind, message), ("tools.fetch.Error", "ErrorCode::HttpRequestDenied"), "{outcome:?}");
        let expected = format!(
            "is not granted to the tool `fetch`; grant it in agentkernel.toml with:\n[tool.fetch]\n{line}\n"
        );
        assert!(traceback(&outcome).contains(&expected), "{}", traceback(&outcome));
        assert!(traceback(&outcome).contains(&format!("http {method} to {}", &url[..20])), "{outcome:?}");
        assert!(outcome.stderr.is_empty(), "{outcome:?}");
        // The line is a rule that grants it, where the path can be granted at all.
        let rule = line.trim_start_matches("http = [\"").trim_end_matches("\"]");
        rule.parse::<agentkernel::HttpRule>().unwrap();
    }
    for method in ["CONNECT", "TRACE"] {
        let code = format!("r.fetch('{method}', {:?}, [], None)", server.url("/"));
        assert!(failure(&mut session, &code).contains("can be granted to no tool"));
    }
    // Both kinds of exception are told by one class; a program need not know the tool's own.
    let code = format!(
        "
try: r.fetch('PUT', {0:?}, [], None)
except tools.ToolDenied as error:
    caught = isinstance(error, tools.fetch.Error), error.payload, len(error.__notes__)
caught == (True, 'ErrorCode::HttpRequestDenied', 1)",
        server.url("/")
    );
    holds(&mut session, &code);
    // An error of another origin is none of that.
    let code = format!(
        "
try: get({:?})
except tools.ToolDenied: caught = 'denied'
except tools.ToolError as error: caught = error.payload, hasattr(error, '__notes__')
caught",
        server.url("/close")
    );
    assert_eq!(repr(&mut session, &code), "('ErrorCode::HttpResponseIncomplete', False)");
    // Nothing that was denied reached a server.
    assert_eq!((server.requests(), other.connections()), (1, 0), "{:?}", server.heads());
}

#[test]
fn a_denial_is_told_however_the_tool_takes_it() {
    let mut session = session(ToolGrants::default());
    // It traps: the exception is the host's.
    let outcome = session.run_blocking("r.must('https://api.example.com/')").unwrap();
    let (kind, message) = raised(&outcome);
    assert_eq!(kind, "tools.ToolDenied");
    assert!(message.ends_with("[tool.fetch]\nhttp = [\"api.example.com\"]"), "{message}");
    // It says nothing: the program's standard error does, once.
    let outcome = session.run_blocking("[r.status('https://api.example.com/') for _ in range(3)]").unwrap();
    assert_eq!(value(&outcome).repr, "[0, 0, 0]");
    let stderr = String::from_utf8_lossy(&outcome.stderr).into_owned();
    assert_eq!(stderr.matches("[tool.fetch]\nhttp = [\"api.example.com\"]\n").count(), 1, "{stderr}");
    for code in ["m.connect('127.0.0.1:80')", "m.connect('example.com:80')", "m.datagram()"] {
        let told = failure(&mut session, code);
        assert!(told.contains("there are no sockets for tools") && told.contains("http = ["), "{told}");
    }
}

#[test]
fn a_file_that_is_not_granted_is_told_as_far_as_it_can_be_known() {
    let mut session = session(ToolGrants::default());
    let told = failure(&mut session, "m.write('/workspace/x', 'text')");
    assert!(told.contains("[tool.fetch]\nmounts = [\"{workspace}:/workspace\"]"), "{told}");
    let mut session = start_with(builder(), ToolGrants::workspace(Access::ReadOnly));
    for _ in 0..2 {
        let told = failure(&mut session, "m.write('/workspace/x', 'text')");
        assert!(told.contains("writing in `/workspace` is not granted to the tool `fetch`"), "{told}");
    }
    // What else goes wrong there is nobody's denial.
    let told = failure(&mut session, "m.write('/elsewhere/x', 'text')");
    assert!(!told.contains("not granted"), "{told}");
}

#[test]
fn hosts_are_what_they_seem() {
    let server = Server::start();
    let port = server.address.port();
    let rule = format!("http://127.0.0.1:{port}");
    let mut session = session(http(&[&rule]));
    for authority in [
        format!("127.0.0.1:{port}@evil.test"),
        format!("evil.test:80@127.0.0.1:{port}"),
        format!("user:password@127.0.0.1:{port}"),
        format!("127.1:{port}"),
        format!("2130706433:{port}"),
        format!("0x7f000001:{port}"),
        format!("0177.0.0.1:{port}"),
        format!("127.0.0.1.:{port}"),
        format!("localhost:{port}"),
        format!("[::1]:{port}"),
        format!("127.0.0.1:{}", u32::from(port) + 65536),
        format!("127.0.0.1:+{port}"),
        "127.0.0.1".into(),
        "127.0.0.1:".into(),
        "".into(),
    ] {
        let outcome = session.run_blocking(format!("r.raw('http', {authority:?}, '/')")).unwrap();
        assert_eq!(raised(&outcome).0, "tools.fetch.Error", "{authority}");
    }
    assert_eq!(server.connections(), 0);
    // The same address in another spelling is the same address, and the server is told the plain one.
    let code = format!("r.raw('http', '[::ffff:127.0.0.1]:{port}', '/echo').body.decode()");
    let head = repr(&mut session, &code);
    assert!(head.contains(&format!("host: 127.0.0.1:{port}\\r\\n")), "{head}");
    // Headers that would change where a request goes, or where it ends, cannot be given.
    let url = server.url("/");
    for header in ["Host", "Transfer-Encoding", "Connection", "Upgrade", "Proxy-Authorization"] {
        assert!(
            failure(&mut session, &format!("get({url:?}, ('{header}', 'x'))")).contains("Forbidden"),
            "{header}"
        );
    }
    for (name, text) in
        [("x", "a\\r\\nHost: evil.test"), ("x\\r\\ny", "a"), ("x", "a\\0"), ("content-length", "+5")]
    {
        let told = failure(&mut session, &format!("get({url:?}, ('{name}', '{text}'))"));
        assert!(told.contains("Error"), "{told}");
    }
    for path in ["/ HTTP/1.1\\r\\nHost: evil.test\\r\\n\\r\\n", "/a b", "//evil.test/", "x"] {
        let _ = session.run_blocking(format!("r.raw('http', '127.0.0.1:{port}', '{path}')")).unwrap();
    }
    for method in ["GET / HTTP/1.1\\r\\nX: ", "G T"] {
        assert!(
            failure(&mut session, &format!("r.fetch('{method}', {url:?}, [], None)"))
                .contains("invalid method")
        );
    }
    assert!(
        server.heads().iter().all(|head| !head.contains("Host: evil") && head.matches("host: ").count() == 1)
    );
}

#[test]
fn every_hop_of_a_redirect_is_checked() {
    let (one, two, denied) = (Server::start(), Server::start(), Server::start());
    let rules = [format!("http://{}", one.address), format!("http://{}", two.address)];
    let mut session = session(http(&rules.each_ref().map(String::as_str)));
    let to = |server: &Server| one.url(&format!("/redirect?{}", server.url("/")));
    holds(&mut session, &format!("r.follow({:?}, []).body == b'hello'", to(&two)));
    let told = failure(&mut session, &format!("r.follow({:?}, [])", to(&denied)));
    assert!(told.contains(&format!("http = [\"http://{}\"]", denied.address)), "{told}");
    assert_eq!((two.requests(), denied.connections()), (1, 0));
}

#[test]
fn names_lead_to_public_addresses_only() {
    let server = Server::start();
    let port = server.address.port();
    // `localhost` is a permission by itself, a name that happens to lead there is not.
    let mut session = start_with(builder(), http(&[&format!("http://localhost:{port}")]));
    holds(&mut session, &format!("get('http://localhost:{port}/') == 'hello'"));
    let before = server.connections();
    for (rule, host) in
        [("http://*", "localhost"), ("http://*", "127.0.0.1"), ("http://inside.test", "inside.test")]
    {
        let builder = builder().resolver(|_| Ok(vec![Ipv4Addr::LOCALHOST.into()]));
        let mut session = start_with(builder, http(&[&format!("{rule}:{port}")]));
        let told = failure(&mut session, &format!("get('http://{host}:{port}/')"));
        assert!(told.contains("ErrorCode::DestinationIpProhibited"), "{told}");
        assert!(told.contains(&format!("http = [\"private http://{host}:{port}\"]")), "{told}");
    }
    assert_eq!(server.connections(), before);
    for forbidden in
        ["10.0.0.1", "169.254.169.254", "::1", "fd00::1", "::ffff:127.0.0.1", "0.0.0.0", "2002:7f00:1::"]
    {
        let builder = builder().resolver(|_| Ok(vec![forbidden.parse().unwrap()]));
        let mut session = start_with(builder, http(&[&format!("http://name.test:{port}")]));
        let told = failure(&mut session, &format!("get('http://name.test:{port}/')"));
        assert!(told.contains("ErrorCode::DestinationIpProhibited"), "{forbidden}: {told}");
    }
    // Marked as private it may lead there, but not to where a cloud keeps its keys.
    let rule = format!("private http://name.test:{port}");
    let builder_of = |address: &'static str| builder().resolver(move |_| Ok(vec![address.parse().unwrap()]));
    let mut session = start_with(builder_of("127.0.0.1"), http(&[&rule]));
    let head = repr(&mut session, &format!("get('http://NAME.test:{port}/echo')"));
    assert!(head.contains(&format!("host: name.test:{port}\\r\\n")), "{head}");
    let mut session = start_with(builder_of("169.254.169.254"), http(&[&rule]));
    assert!(
        failure(&mut session, &format!("get('http://name.test:{port}/')"))
            .contains("DestinationIpProhibited")
    );
}

/// A name is resolved once for a connection, and the connection goes to what was checked.
#[test]
fn a_name_that_changes_its_address_gains_nothing() {
    let server = Server::start();
    let port = server.address.port();
    let asked = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&asked);
    // Where it may lead at first; then to where a cloud keeps the keys of its machines.
    let resolve = move |_: &str| -> std::io::Result<Vec<IpAddr>> {
        let first = count.fetch_add(1, Ordering::SeqCst) == 0;
        Ok(vec![if first { "127.0.0.1" } else { "169.254.169.254" }.parse().unwrap()])
    };
    let rule = format!("private http://turn.test:{port}");
    let mut session = start_with(builder().resolver(resolve), http(&[&rule]));
    for _ in 0..3 {
        holds(&mut session, &format!("get('http://turn.test:{port}/') == 'hello'"));
    }
    assert_eq!(asked.load(Ordering::SeqCst), 1);
    // The connection is gone, so the name is looked up again.
    holds(&mut session, &format!("get('http://turn.test:{port}/once') == 'once'"));
    let told = failure(&mut session, &format!("get('http://turn.test:{port}/')"));
    assert!(told.contains("DestinationIpProhibited"), "{told}");
    assert_eq!((asked.load(Ordering::SeqCst), server.connections()), (2, 1));
    // Of several addresses only those are tried that may be: the first two would be refused or hang.
    let resolve = |_: &str| {
        Ok(vec!["169.254.169.254".parse().unwrap(), "0.0.0.0".parse().unwrap(), Ipv4Addr::LOCALHOST.into()])
    };
    let mut session =
        start_with(builder().resolver(resolve), http(&[&format!("private http://turn.test:{port}")]));
    holds(&mut session, &format!("get('http://turn.test:{port}/') == 'hello'"));
}

#[test]
fn a_server_that_is_slow_is_waited_for_no_longer_than_granted() {
    let server = Server::start();
    let rule = format!("* http://{}", server.address);
    let mut short = http(&[&rule]);
    short.limits.timeout = Some(Duration::from_millis(400));
    let kernel = builder().tool(fetch().grants(short)).build().unwrap();
    let long = builder().tool(fetch().grants(http(&[&rule]))).build().unwrap();
    for path in ["/never", "/drip", "/continue"] {
        let call = format!("r.drain({:?})", server.url(path));
        let mut session = start(&kernel);
        let begun = Instant::now();
        let outcome = session.run_blocking(call.as_str()).unwrap();
        assert_eq!(raised(&outcome).0, "tools.ToolTimeout", "{path}: {outcome:?}");
        assert!(begun.elapsed() < Duration::from_secs(3), "{path}: {:?}", begun.elapsed());
        // The session goes on, and so does the tool.
        holds(&mut session, &format!("get({:?}) == 'hello'", server.url("/")));

        let mut session = start(&long);
        let canceller = session.canceller();
        let thread = std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(200));
            canceller.cancel();
        });
        let begun = Instant::now();
        assert_eq!(session.run_blocking(call.as_str()).unwrap().ending, Ending::Cancelled, "{path}");
        assert!(begun.elapsed() < Duration::from_secs(3), "{path}: {:?}", begun.elapsed());
        thread.join().unwrap();

        let mut brief = limits();
        brief.timeout = Some(Duration::from_millis(400));
        let mut session = long.session().limits(brief).start().unwrap();
        session.run_blocking("from tools.fetch import requests as r").unwrap();
        assert_eq!(session.run_blocking(call.as_str()).unwrap().ending, Ending::TimedOut, "{path}");
    }
}

#[test]
fn a_server_cannot_hand_over_more_than_granted() {
    let server = Server::start();
    let mut grants = http(&[&format!("* http://{}", server.address)]);
    grants.limits.received_bytes = 5_000_000;
    grants.limits.sent_bytes = 2_000_000;
    let mut session = session(grants);
    holds(&mut session, &format!("r.drain({:?}) == 3_000_000", server.url("/bytes?3000000")));
    let told = failure(&mut session, &format!("r.drain({:?})", server.url("/huge")));
    assert!(told.contains("`max-received` in [tool.fetch] raises it"), "{told}");
    // It is the session's limit, not the instance's.
    assert!(failure(&mut session, "r.must('https://nowhere.test/')").contains("ToolDenied"));
    let told = failure(&mut session, &format!("r.drain({:?})", server.url("/bytes?3000000")));
    assert!(told.contains("max-received"), "{told}");

    let mut grants = http(&[&format!("* http://{}", server.address)]);
    grants.limits.sent_bytes = 2_000_000;
    let mut session = self::session(grants);
    holds(&mut session, &format!("r.send({:?}, 1_000_000) == 200", server.url("/length")));
    let told = failure(&mut session, &format!("r.send({:?}, 5_000_000)", server.url("/length")));
    assert!(told.contains("`max-sent` in [tool.fetch] raises it"), "{told}");
    // A head without end is given up, and what is no HTTP at all.
    let told = failure(&mut session, &format!("get({:?})", server.url("/headers")));
    assert!(told.contains("tools.fetch.Error"), "{told}");
    let told = failure(&mut session, &format!("get({:?})", server.url("/garbage")));
    assert!(told.contains("ErrorCode::HttpProtocolError"), "{told}");
    // A body that is not taken holds nothing up.
    holds(&mut session, &format!("get({:?}) == 'hello'", server.url("/")));
}

#[test]
fn requests_are_counted() {
    let server = Server::start();
    let mut grants = http(&[&format!("http://{}", server.address)]);
    grants.limits.requests = 30;
    grants.limits.concurrent_requests = 4;
    let mut session = session(grants);
    // More at once than may be wait for each other.
    let begun = Instant::now();
    holds(&mut session, &format!("r.many({:?}, 12) == 12", server.url("/wait?100")));
    assert!(begun.elapsed() >= Duration::from_millis(300), "{:?}", begun.elapsed());
    assert_eq!(server.most_at_once(), 4);
    holds(&mut session, &format!("r.many({:?}, 18) == 18", server.url("/")));
    let told = failure(&mut session, &format!("get({:?})", server.url("/")));
    assert!(told.contains("has sent 30 HTTP requests") && told.contains("max-requests"), "{told}");
    assert_eq!(server.requests(), 30);
}

fn secret(value: &str, hosts: &[&str]) -> Secret {
    Secret::new(value, hosts.iter().map(|host| host.parse().unwrap()).collect()).unwrap()
}

const KEY: &str = "sk-0123456789abcdef";

#[test]
fn a_secret_goes_to_its_host_and_nowhere_else() {
    let (home, other) = (Server::start(), Server::start());
    let rules = [format!("* http://{}", home.address), format!("* http://{}", other.address)];
    let mut grants = http(&rules.each_ref().map(String::as_str));
    grants.secrets.insert("KEY".into(), secret(KEY, &[&format!("http://{}", home.address)]));
    assert!(!format!("{grants:?}").contains(KEY));
    let mut session = session(grants);
    let with = |path: &str, server: &Server| {
        format!("get({:?}, ('Authorization', 'Bearer {{{{KEY}}}}'))", server.url(path))
    };
    // The server sees it; what comes back of it is covered.
    assert!(!repr(&mut session, &with("/", &home)).contains(KEY));
    assert!(home.heads()[0].contains(&format!("authorization: Bearer {KEY}\r\n")), "{:?}", home.heads());
    assert!(home.heads()[0].contains("accept-encoding: identity"));
    let echoed = repr(&mut session, &with("/echo", &home));
    assert!(echoed.contains("Bearer *******************\\r\\n"), "{echoed}");
    let mirrored = format!(
        "answer = r.fetch('GET', {:?}, [('Authorization', '{{{{KEY}}}}')], None)\nanswer.body, answer.headers",
        home.url("/mirror")
    );
    let mirrored = repr(&mut session, &mirrored);
    assert!(mirrored.contains("wrong key: *******************!"), "{mirrored}");
    assert!(mirrored.contains("('x-key', '*******************')"), "{mirrored}");
    // Not to another host, neither directly nor by a redirect with the same headers.
    let told = failure(&mut session, &with("/", &other));
    assert!(told.contains("the secret `KEY` may not be sent to") && !told.contains(KEY), "{told}");
    let url = home.url(&format!("/redirect?{}", other.url("/echo")));
    let told = failure(&mut session, &format!("r.follow({url:?}, [('X-Key', '{{{{KEY}}}}')])"));
    assert!(told.contains("the secret `KEY` may not be sent to") && !told.contains(KEY), "{told}");
    assert_eq!(other.connections(), 0);
    // Only headers have placeholders, and a name that is none is left alone.
    let code = format!(
        "r.fetch('POST', {:?}, [('x', '{{{{NONE}}}}')], b'{{{{KEY}}}}').body.decode()",
        home.url("/echo?{{KEY}}")
    );
    let echoed = repr(&mut session, &code);
    assert!(
        echoed.contains("/echo?{{KEY}}") && echoed.contains("x: {{NONE}}") && echoed.ends_with("{{KEY}}'"),
        "{echoed}"
    );
    assert!(!echoed.contains(KEY));
}

#[test]
fn randomness_is_real_or_repeats_or_is_refused() {
    let numbers = "m.random(16).hex(), m.insecure()";
    let with = |random| ToolGrants { random, ..ToolGrants::default() };
    let (mut one, mut other) = (session(with(RandomSource::System)), session(with(RandomSource::System)));
    let first = repr(&mut one, numbers);
    assert_ne!(first, repr(&mut other, numbers));
    assert_ne!(first, repr(&mut one, numbers));
    let (mut one, mut other) =
        (session(with(RandomSource::Seeded(7))), session(with(RandomSource::Seeded(7))));
    let first = repr(&mut one, numbers);
    assert_eq!(first, repr(&mut other, numbers));
    assert_ne!(first, repr(&mut one, numbers));
    assert_ne!(first, repr(&mut session(with(RandomSource::Seeded(8))), numbers));
    let mut session = session(with(RandomSource::Refused));
    for code in ["m.random(1)", "m.insecure()"] {
        let outcome = session.run_blocking(code).unwrap();
        let (kind, message) = raised(&outcome);
        assert_eq!(kind, "tools.ToolDenied", "{message}");
        assert!(message.ends_with("[tool.fetch]\nrandom = \"system\""), "{message}");
    }
}

#[test]
fn clocks_are_real_or_fixed_or_refused() {
    let with = |clock| ToolGrants { clock, ..ToolGrants::default() };
    holds(
        &mut session(with(ClockSource::System)),
        "import time\nabs(m.seconds() - time.time()) < 5 and m.wait(20)",
    );
    let then = SystemTime::UNIX_EPOCH + Duration::from_secs(1_234_567_890);
    holds(
        &mut session(with(ClockSource::Fixed(then))),
        "m.seconds() == m.seconds() == 1234567890 and m.wait(20)",
    );
    let mut session = session(with(ClockSource::Refused));
    for code in ["m.seconds()", "m.wait(1)"] {
        let outcome = session.run_blocking(code).unwrap();
        let (kind, message) = raised(&outcome);
        assert_eq!(kind, "tools.ToolDenied", "{message}");
        assert!(message.ends_with("[tool.fetch]\nclock = \"system\""), "{message}");
    }
}

#[test]
fn a_grant_without_effect_is_an_error() {
    let adder = || {
        wat::parse_str(
            r#"(component
                (core module $m (func (export "f") (result i32) i32.const 1))
                (core instance $i (instantiate $m))
                (func (export "f") (result u32) (canon lift (core func $i "f"))))"#,
        )
        .unwrap()
    };
    let refused = |tool: Tool| -> Error { builder().tool(tool).build().err().expect("it is refused") };
    let grants = ToolGrants::default;
    for (given, expected) in [
        (
            http(&["api.example.com"]),
            "`http` has no effect on the tool `x`, which does not import `wasi:http/outgoing-handler`",
        ),
        (
            ToolGrants { random: RandomSource::Seeded(1), ..grants() },
            "`random` has no effect on the tool `x`, which does not import `wasi:random`",
        ),
        (
            ToolGrants { clock: ClockSource::Refused, ..grants() },
            "`clock` has no effect on the tool `x`, which does not import `wasi:clocks`",
        ),
        (
            ToolGrants { environment: [("A".into(), "b".into())].into(), ..grants() },
            "`env` has no effect on the tool `x`, which does not import `wasi:cli/environment`",
        ),
        (
            ToolGrants {
                mounts: vec![Mount { host: ".".into(), guest: "/x".into(), access: Access::ReadOnly }],
                ..grants()
            },
            "`mounts` has no effect on the tool `x`, which does not import `wasi:filesystem`",
        ),
    ] {
        let error = refused(Tool::from_bytes("x", adder()).grants(given));
        assert_eq!(error.to_string(), expected);
        assert!(error.remedy().is_some());
    }
    let mut given = http(&["api.example.com"]);
    given.secrets.insert("KEY".into(), secret(KEY, &["other.example.com"]));
    let error = refused(fetch().grants(given.clone()));
    assert_eq!(
        error.to_string(),
        "the secret `KEY` is for `other.example.com`, where no rule lets requests go"
    );
    given.secrets = [("a-b".into(), secret(KEY, &["api.example.com"]))].into();
    assert_eq!(refused(fetch().grants(given)).to_string(), "`a-b` cannot be the name of a secret");
    let mut none = http(&["api.example.com"]);
    none.limits.requests = 0;
    assert!(refused(fetch().grants(none)).to_string().contains("no more than 0"));
}

/// What is asked of a resolver is a name, and only of hosts that are granted.
#[test]
fn names_that_are_not_granted_are_not_looked_up() {
    let asked = Arc::new(Mutex::new(Vec::new()));
    let list = Arc::clone(&asked);
    let builder = builder().resolver(move |name| {
        list.lock().unwrap().push(name.to_owned());
        Err(std::io::Error::other("no such name"))
    });
    let mut session = start_with(builder, http(&["*.a.test"]));
    assert!(failure(&mut session, "get('https://secret-data.evil.test/')").contains("HttpRequestDenied"));
    assert!(failure(&mut session, "get('https://X.A.test/')").contains("DnsError"));
    assert_eq!(*asked.lock().unwrap(), ["x.a.test"]);
}
