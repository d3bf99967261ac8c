//! Rules that say which requests a tool may make, and what they allow.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use hyper::Uri;

use super::address::{self, Kind};
use crate::{Error, ErrorKind};

/// Requests that a tool may make: `api.example.com`, `POST api.example.com/v1/*`, `http://127.0.0.1:8080`.
///
/// A rule is `[private] [METHODS] [SCHEME://]HOST[:PORT][/PATH]`:
///
/// - `METHODS` are separated by commas; `*` is every method. Default: `GET,HEAD`.
/// - `SCHEME` is `https`, or `http` where it is written out. The port is that of the scheme.
/// - `HOST` is a name, `*.example.com` for every name below one, `*` for every host, or an address
///   (`127.0.0.1`, `[::1]`).
/// - `PATH` is one path, or ends in `/*` and is every path below. Default: every path.
///
/// A name may lead to public addresses only, unless the rule says `private` (then to private and
/// loopback ones as well) or the name is `localhost`. An address that is written out is allowed as it is.
///
/// ```
/// use agentkernel::HttpRule;
///
/// let rule: HttpRule = "POST,PUT api.example.com/v1/*".parse()?;
/// assert_eq!(rule.to_string(), "POST,PUT api.example.com/v1/*");
/// # Ok::<(), agentkernel::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HttpRule {
    private: bool,
    methods: Methods,
    secure: bool,
    host: HostPattern,
    port: u16,
    path: PathPattern,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Methods {
    /// GET and HEAD.
    Reading,
    Named(Vec<String>),
    Every,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum HostPattern {
    Every,
    /// Every name that ends in a dot and this one.
    Below(String),
    One(Host),
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum PathPattern {
    Every,
    One(String),
    /// Every path that begins with this, which ends in a slash.
    Below(String),
}

/// A host as a request names it, in lower case.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Host {
    Name(String),
    Address(IpAddr),
}

/// Where a request goes.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Target {
    pub secure: bool,
    pub host: Host,
    pub port: u16,
}

/// Which addresses a request may go to, beside public ones.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Reach {
    pub loopback: bool,
    pub private: bool,
    /// The one that the request names, because a rule names it.
    pub named: bool,
}

impl Reach {
    pub fn permits(self, address: IpAddr) -> bool {
        match address::kind(address) {
            Kind::Public => true,
            Kind::Loopback => self.loopback || self.private || self.named,
            Kind::Private => self.private || self.named,
            Kind::Special => self.named,
            Kind::Nowhere => false,
        }
    }
}

fn wrong(text: &str, why: impl fmt::Display, hint: &str) -> Error {
    Error::new(ErrorKind::Grant, format!("`{text}` is not a rule for HTTP requests: {why}"))
        .hint(hint.to_owned())
}

const FORM: &str = "write `api.example.com`, `POST api.example.com/v1/*` or `http://127.0.0.1:8080`";

impl FromStr for HttpRule {
    type Err = Error;

    fn from_str(text: &str) -> crate::Result<Self> {
        let mut words: Vec<&str> = text.split_whitespace().collect();
        let private = words.first() == Some(&"private");
        if private {
            words.remove(0);
        }
        let (methods, place) = match words[..] {
            [place] => (Methods::Reading, place),
            [methods, place] => (read_methods(methods, text)?, place),
            [] => return Err(wrong(text, "it names no host", FORM)),
            _ => return Err(wrong(text, "it has too many words", FORM)),
        };
        let (secure, place) = match place.split_once("://") {
            None => (true, place),
            Some(("https", place)) => (true, place),
            Some(("http", place)) => (false, place),
            Some((scheme, _)) => {
                let why = format!("`{scheme}` is not a scheme that can be granted");
                return Err(wrong(text, why, "write `https://`, which is the default, or `http://`"));
            }
        };
        let (authority, path) = match place.find(['/', '?', '#']) {
            Some(at) => place.split_at(at),
            None => (place, ""),
        };
        if authority.contains('@') {
            return Err(wrong(text, "it has a user name", "write the host alone; keys are `secrets`"));
        }
        let (host, port) = split_port(authority).map_err(|why| wrong(text, why, FORM))?;
        let pattern = match host {
            "*" => HostPattern::Every,
            _ if host.starts_with("*.") => match parse_host(&host[2..]) {
                Ok(Host::Name(name)) => HostPattern::Below(name),
                Ok(Host::Address(_)) => return Err(wrong(text, "addresses have nothing below them", FORM)),
                Err(why) => return Err(wrong(text, why, FORM)),
            },
            _ if host.contains('*') => {
                let hint = "write `*.example.com` for every name below one, or `*` for every host";
                return Err(wrong(text, "a `*` in a host stands alone or before the first dot", hint));
            }
            _ => HostPattern::One(parse_host(host).map_err(|why| wrong(text, why, FORM))?),
        };
        if let HostPattern::One(Host::Address(address)) = &pattern
            && address::kind(*address) == Kind::Nowhere
        {
            return Err(wrong(text, "no connection can be made to this address", FORM));
        }
        let path = match path {
            "" | "/*" => PathPattern::Every,
            path if path.contains(['?', '#']) => {
                return Err(wrong(text, "a rule has no query", "write the path alone"));
            }
            path => match path.strip_suffix('*') {
                Some(stem) if stem.ends_with('/') && !stem.contains('*') => PathPattern::Below(stem.into()),
                None if !path.contains('*') => PathPattern::One(path.into()),
                _ => {
                    let hint = "write `/v1/*` for every path below `/v1/`";
                    return Err(wrong(text, "a `*` in a path is its end, after a `/`", hint));
                }
            },
        };
        if let PathPattern::One(stem) | PathPattern::Below(stem) = &path
            && !is_plain(stem)
        {
            return Err(wrong(text, "its path has `.` or `..` in it", "write the path that is meant"));
        }
        let port = port.unwrap_or(default_port(secure));
        Ok(HttpRule { private, methods, secure, host: pattern, port, path })
    }
}

fn read_methods(words: &str, text: &str) -> crate::Result<Methods> {
    if words == "*" {
        return Ok(Methods::Every);
    }
    let methods: Vec<String> = words.split(',').map(str::to_owned).collect();
    for method in &methods {
        let plain = |letter: u8| letter.is_ascii_uppercase() || letter == b'-';
        if method.is_empty() || !method.bytes().all(plain) {
            let why = format!("`{words}` is not a list of methods");
            return Err(wrong(
                text,
                why,
                "write methods in capitals with commas: `GET,POST api.example.com`",
            ));
        }
        if is_never(method) {
            let why = format!("{method} cannot be granted");
            return Err(wrong(text, why, "grant other methods; `*` is all of them"));
        }
    }
    Ok(match methods.iter().all(|method| method == "GET" || method == "HEAD") && methods.len() == 2 {
        true => Methods::Reading,
        false => Methods::Named(methods),
    })
}

/// CONNECT would make a tunnel of the connection; TRACE echoes headers, those with secrets too.
fn is_never(method: &str) -> bool {
    ["CONNECT", "TRACE", "TRACK"].iter().any(|never| method.eq_ignore_ascii_case(never))
}

fn default_port(secure: bool) -> u16 {
    if secure { 443 } else { 80 }
}

fn split_port(authority: &str) -> Result<(&str, Option<u16>), &'static str> {
    let end = authority.rfind(']').unwrap_or(0);
    let Some(colon) = authority[end..].find(':') else { return Ok((authority, None)) };
    let (host, port) = (&authority[..end + colon], &authority[end + colon + 1..]);
    let digits = !port.is_empty() && port.bytes().all(|digit| digit.is_ascii_digit());
    match port.parse() {
        Ok(port) if digits && port != 0 => Ok((host, Some(port))),
        _ => Err("its port is not a number from 1 to 65535"),
    }
}

/// Reads a host strictly: what some resolver might take for a number in disguise is none.
fn parse_host(text: &str) -> Result<Host, &'static str> {
    if let Some(inner) = text.strip_prefix('[') {
        let address: std::net::Ipv6Addr =
            inner.strip_suffix(']').and_then(|inner| inner.parse().ok()).ok_or("it is not an address")?;
        return Ok(Host::Address(IpAddr::V6(address).to_canonical()));
    }
    if let Ok(address) = text.parse::<std::net::Ipv4Addr>() {
        return Ok(Host::Address(address.into()));
    }
    if !text.is_ascii() {
        return Err("its host has letters that are not ASCII (write the `xn--` form)");
    }
    let name = text.to_ascii_lowercase();
    let plain = |letter: u8| letter.is_ascii_alphanumeric() || matches!(letter, b'-' | b'_');
    let labels_hold =
        name.split('.').all(|label| (1..=63).contains(&label.len()) && label.bytes().all(plain));
    if name.len() > 253 || !labels_hold {
        return Err("its host is not a name");
    }
    let last = name.rsplit('.').next().unwrap_or_default();
    if last.bytes().all(|digit| digit.is_ascii_digit()) || last.starts_with("0x") {
        return Err("its host is a number but not an address (write all four parts)");
    }
    Ok(Host::Name(name))
}

/// Whether a server can only read a path as it stands: none of its parts is, or could be decoded to,
/// `.`, `..`, or something with a separator in it.
fn is_plain(path: &str) -> bool {
    let mut text = path.to_ascii_lowercase();
    // Servers have been seen to decode more than once.
    for _ in 0..4 {
        let stepping = |part: &str| matches!(part.split(';').next(), Some("." | ".."));
        if text.contains('\\') || text.split('/').any(stepping) {
            return false;
        }
        if text.contains("%2f") || text.contains("%5c") || text.contains("%00") {
            return false;
        }
        let decoded = text.replace("%2e", ".").replace("%3b", ";").replace("%25", "%");
        if decoded == text {
            return true;
        }
        text = decoded;
    }
    false
}

impl Target {
    /// Where a request with this URI goes, unless that is not clear beyond doubt.
    pub fn of(uri: &Uri) -> Result<Self, &'static str> {
        let secure = match uri.scheme_str() {
            Some("https") => true,
            Some("http") => false,
            _ => return Err("its scheme is not http or https"),
        };
        let authority = uri.authority().ok_or("it names no host")?.as_str();
        if authority.contains('@') {
            return Err("its host has a user name before it");
        }
        let (host, port) = split_port(authority)?;
        Ok(Target { secure, host: parse_host(host)?, port: port.unwrap_or(default_port(secure)) })
    }

    /// What the `Host` header says.
    pub fn authority(&self) -> String {
        match self.port == default_port(self.secure) {
            true => self.host.to_string(),
            false => format!("{}:{}", self.host, self.port),
        }
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Host::Name(name) => f.write_str(name),
            Host::Address(IpAddr::V4(address)) => address.fmt(f),
            Host::Address(IpAddr::V6(address)) => write!(f, "[{address}]"),
        }
    }
}

impl fmt::Display for Target {
    /// As a rule has it: the scheme only where it is not the default.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", if self.secure { "" } else { "http://" }, self.authority())
    }
}

impl fmt::Display for HttpRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.private {
            f.write_str("private ")?;
        }
        match &self.methods {
            Methods::Reading => {}
            Methods::Named(methods) => write!(f, "{} ", methods.join(","))?,
            Methods::Every => f.write_str("* ")?,
        }
        if !self.secure {
            f.write_str("http://")?;
        }
        match &self.host {
            HostPattern::Every => f.write_str("*")?,
            HostPattern::Below(name) => write!(f, "*.{name}")?,
            HostPattern::One(host) => host.fmt(f)?,
        }
        if self.port != default_port(self.secure) {
            write!(f, ":{}", self.port)?;
        }
        match &self.path {
            PathPattern::Every => Ok(()),
            PathPattern::One(path) => f.write_str(path),
            PathPattern::Below(stem) => write!(f, "{stem}*"),
        }
    }
}

impl HttpRule {
    /// Whether it is about this place, whatever the method and the path.
    pub(super) fn is_for(&self, target: &Target) -> bool {
        let host = match (&self.host, &target.host) {
            (HostPattern::Every, _) => true,
            (HostPattern::Below(_), Host::Address(_)) => false,
            (HostPattern::Below(name), Host::Name(host)) => {
                host.strip_suffix(name.as_str()).is_some_and(|front| front.len() > 1 && front.ends_with('.'))
            }
            (HostPattern::One(one), host) => one == host,
        };
        host && self.secure == target.secure && self.port == target.port
    }

    fn has_method(&self, method: &str) -> bool {
        match &self.methods {
            Methods::Reading => method == "GET" || method == "HEAD",
            Methods::Named(methods) => methods.iter().any(|named| named == method),
            Methods::Every => true,
        }
    }

    fn has_path(&self, path: &str) -> bool {
        match &self.path {
            PathPattern::Every => true,
            PathPattern::One(one) => one == path,
            PathPattern::Below(stem) => path.starts_with(stem.as_str()) && is_plain(path),
        }
    }

    fn reach(&self) -> Reach {
        let one = match &self.host {
            HostPattern::One(host) => Some(host),
            _ => None,
        };
        Reach {
            loopback: one == Some(&Host::Name("localhost".into())),
            private: self.private,
            named: matches!(one, Some(Host::Address(_))),
        }
    }

    /// Whether every place that `other` is about is one that this rule is about.
    pub(super) fn covers(&self, other: &HttpRule) -> bool {
        let host = match (&self.host, &other.host) {
            (HostPattern::Every, _) => true,
            (HostPattern::Below(name), HostPattern::Below(inner)) => {
                inner == name || inner.ends_with(&format!(".{name}"))
            }
            (HostPattern::Below(name), HostPattern::One(Host::Name(host))) => {
                host.ends_with(&format!(".{name}"))
            }
            (one, other) => one == other,
        };
        host && self.secure == other.secure && self.port == other.port
    }

    /// Whether a secret may be sent to where it leads: over TLS, or not over a network at all.
    pub(super) fn is_fit_for_secrets(&self) -> bool {
        let local = match &self.host {
            HostPattern::One(Host::Address(address)) => address::kind(*address) == Kind::Loopback,
            HostPattern::One(Host::Name(name)) => name == "localhost",
            _ => false,
        };
        self.secure || local
    }

    /// Whether it says nothing but a place.
    pub(super) fn is_place(&self) -> bool {
        !self.private && self.methods == Methods::Reading && self.path == PathPattern::Every
    }

    pub(super) fn is_every_host(&self) -> bool {
        self.host == HostPattern::Every
    }
}

/// What the rules say to a request: where it may go, or the rule that would allow it.
pub(super) fn decide(
    rules: &[HttpRule],
    method: &str,
    target: &Target,
    path: &str,
) -> Result<Reach, Option<String>> {
    if is_never(method) {
        return Err(None);
    }
    let here: Vec<&HttpRule> =
        rules.iter().filter(|rule| rule.is_for(target) && rule.has_method(method)).collect();
    let reaches = here.iter().filter(|rule| rule.has_path(path)).map(|rule| rule.reach());
    let reach = reaches.reduce(|one, other| Reach {
        loopback: one.loopback || other.loopback,
        private: one.private || other.private,
        named: one.named || other.named,
    });
    reach.ok_or_else(|| {
        let method = if matches!(method, "GET" | "HEAD") { String::new() } else { format!("{method} ") };
        // Where other paths are granted, this one is what is missing.
        let path = if here.is_empty() || !is_plain(path) { "" } else { path };
        Some(format!("{method}{target}{path}"))
    })
}

#[cfg(test)]
mod tests;
