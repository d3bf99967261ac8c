//! Randomness, clocks and sockets of a tool, as its grants have them.

use std::time::{Duration, SystemTime};

use wasmtime::component::{HasSelf, Linker, Resource};
use wasmtime_wasi::WasiView;
use wasmtime_wasi::clocks::WasiClocksView;
use wasmtime_wasi::p2::bindings::clocks::{monotonic_clock, wall_clock};
use wasmtime_wasi::p2::bindings::random::{insecure, insecure_seed, random};
use wasmtime_wasi::p2::bindings::sockets::{ip_name_lookup, network, tcp_create_socket};
use wasmtime_wasi::p2::bindings::sync::sockets::udp_create_socket;
use wasmtime_wasi::p2::{DynPollable, SocketError, SocketResult};
use wasmtime_wasi::sockets::WasiSocketsView;

use super::state::ToolState;

/// Where a tool's random numbers come from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RandomSource {
    /// The system's generator.
    #[default]
    System,
    /// A generator that gives each instance of the tool the same numbers. They are no secret: not
    /// for keys.
    Seeded(u64),
    /// Nothing: a tool that asks is stopped.
    Refused,
}

/// What a tool's clocks show.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ClockSource {
    /// The time.
    #[default]
    System,
    /// Always this time of day. Its monotonic clock runs, so that waiting comes to an end.
    Fixed(SystemTime),
    /// Nothing: a tool that asks, or waits for a time, is stopped.
    Refused,
}

/// The state of a tool's randomness and clocks.
pub(super) struct Ambient {
    seeded: fastrand::Rng,
    random: RandomSource,
    clock: ClockSource,
}

impl Ambient {
    pub fn new(random: RandomSource, clock: ClockSource) -> Self {
        let seed = match random {
            RandomSource::Seeded(seed) => seed,
            RandomSource::System | RandomSource::Refused => 0,
        };
        Ambient { seeded: fastrand::Rng::with_seed(seed), random, clock }
    }
}

/// Bytes that one request for random numbers may ask for.
const RANDOM_BYTES: u64 = 64 << 20;

/// Stops a tool that was refused something it cannot be told about.
#[derive(Debug, thiserror::Error)]
#[error("it was refused what it was not granted")]
struct Refused;

impl ToolState {
    /// The generator that stands in for the system's, if one does.
    fn seeded(&mut self) -> wasmtime::Result<Option<&mut fastrand::Rng>> {
        match self.ambient.random {
            RandomSource::System => Ok(None),
            RandomSource::Seeded(_) => Ok(Some(&mut self.ambient.seeded)),
            RandomSource::Refused => {
                self.denials.deny("the use of random numbers", "random = \"system\"");
                Err(Refused.into())
            }
        }
    }

    fn seeded_bytes(&mut self, length: u64) -> wasmtime::Result<Option<Vec<u8>>> {
        let Some(generator) = self.seeded()? else { return Ok(None) };
        if length > RANDOM_BYTES {
            return Err(wasmtime::Error::msg(format!("{length} random bytes are too many at once")));
        }
        let mut bytes = vec![0; length as usize];
        generator.fill(&mut bytes);
        Ok(Some(bytes))
    }

    /// The time of day that stands in for the system's, if one does.
    fn fixed(&mut self) -> wasmtime::Result<Option<SystemTime>> {
        match self.ambient.clock {
            ClockSource::System => Ok(None),
            ClockSource::Fixed(time) => Ok(Some(time)),
            ClockSource::Refused => {
                self.denials.deny("the use of clocks", "clock = \"system\"");
                Err(Refused.into())
            }
        }
    }

    fn no_socket(&mut self, what: &str) {
        let line = "http = [\"api.example.com\"]";
        self.denials
            .deny(&format!("{what} cannot be granted: there are no sockets for tools, and HTTP"), line);
    }
}

impl random::Host for ToolState {
    fn get_random_bytes(&mut self, length: u64) -> wasmtime::Result<Vec<u8>> {
        match self.seeded_bytes(length)? {
            Some(bytes) => Ok(bytes),
            None => random::Host::get_random_bytes(self.ctx().ctx.random(), length),
        }
    }

    fn get_random_u64(&mut self) -> wasmtime::Result<u64> {
        match self.seeded()? {
            Some(generator) => Ok(generator.u64(..)),
            None => random::Host::get_random_u64(self.ctx().ctx.random()),
        }
    }
}

impl insecure::Host for ToolState {
    fn get_insecure_random_bytes(&mut self, length: u64) -> wasmtime::Result<Vec<u8>> {
        match self.seeded_bytes(length)? {
            Some(bytes) => Ok(bytes),
            None => insecure::Host::get_insecure_random_bytes(self.ctx().ctx.random(), length),
        }
    }

    fn get_insecure_random_u64(&mut self) -> wasmtime::Result<u64> {
        match self.seeded()? {
            Some(generator) => Ok(generator.u64(..)),
            None => insecure::Host::get_insecure_random_u64(self.ctx().ctx.random()),
        }
    }
}

impl insecure_seed::Host for ToolState {
    fn insecure_seed(&mut self) -> wasmtime::Result<(u64, u64)> {
        match self.seeded()? {
            Some(generator) => Ok((generator.u64(..), generator.u64(..))),
            None => insecure_seed::Host::insecure_seed(self.ctx().ctx.random()),
        }
    }
}

impl wall_clock::Host for ToolState {
    fn now(&mut self) -> wasmtime::Result<wall_clock::Datetime> {
        match self.fixed()? {
            Some(time) => {
                let time = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or(Duration::ZERO);
                Ok(wall_clock::Datetime { seconds: time.as_secs(), nanoseconds: time.subsec_nanos() })
            }
            None => wall_clock::Host::now(&mut self.clocks()),
        }
    }

    fn resolution(&mut self) -> wasmtime::Result<wall_clock::Datetime> {
        self.fixed()?;
        wall_clock::Host::resolution(&mut self.clocks())
    }
}

impl monotonic_clock::Host for ToolState {
    fn now(&mut self) -> wasmtime::Result<u64> {
        self.fixed()?;
        monotonic_clock::Host::now(&mut self.clocks())
    }

    fn resolution(&mut self) -> wasmtime::Result<u64> {
        self.fixed()?;
        monotonic_clock::Host::resolution(&mut self.clocks())
    }

    fn subscribe_instant(&mut self, when: u64) -> wasmtime::Result<Resource<DynPollable>> {
        self.fixed()?;
        self.clocks().subscribe_instant(when)
    }

    fn subscribe_duration(&mut self, duration: u64) -> wasmtime::Result<Resource<DynPollable>> {
        self.fixed()?;
        self.clocks().subscribe_duration(duration)
    }
}

impl network::Host for ToolState {
    fn convert_error_code(&mut self, error: SocketError) -> wasmtime::Result<network::ErrorCode> {
        network::Host::convert_error_code(&mut self.sockets(), error)
    }

    fn network_error_code(
        &mut self,
        error: Resource<wasmtime_wasi::p2::IoError>,
    ) -> wasmtime::Result<Option<network::ErrorCode>> {
        network::Host::network_error_code(&mut self.sockets(), error)
    }
}

impl network::HostNetwork for ToolState {
    fn drop(&mut self, network: Resource<network::Network>) -> wasmtime::Result<()> {
        network::HostNetwork::drop(&mut self.sockets(), network)
    }
}

impl ip_name_lookup::Host for ToolState {
    fn resolve_addresses(
        &mut self,
        network: Resource<network::Network>,
        name: String,
    ) -> SocketResult<Resource<ip_name_lookup::ResolveAddressStream>> {
        self.no_socket("looking a name up");
        ip_name_lookup::Host::resolve_addresses(&mut self.sockets(), network, name)
    }
}

impl ip_name_lookup::HostResolveAddressStream for ToolState {
    fn resolve_next_address(
        &mut self,
        stream: Resource<ip_name_lookup::ResolveAddressStream>,
    ) -> SocketResult<Option<network::IpAddress>> {
        self.sockets().resolve_next_address(stream)
    }

    fn subscribe(
        &mut self,
        stream: Resource<ip_name_lookup::ResolveAddressStream>,
    ) -> wasmtime::Result<Resource<DynPollable>> {
        ip_name_lookup::HostResolveAddressStream::subscribe(&mut self.sockets(), stream)
    }

    fn drop(&mut self, stream: Resource<ip_name_lookup::ResolveAddressStream>) -> wasmtime::Result<()> {
        ip_name_lookup::HostResolveAddressStream::drop(&mut self.sockets(), stream)
    }
}

impl tcp_create_socket::Host for ToolState {
    fn create_tcp_socket(
        &mut self,
        family: network::IpAddressFamily,
    ) -> SocketResult<Resource<wasmtime_wasi::p2::TcpSocket>> {
        self.no_socket("a TCP connection");
        tcp_create_socket::Host::create_tcp_socket(&mut self.sockets(), family)
    }
}

impl udp_create_socket::Host for ToolState {
    fn create_udp_socket(
        &mut self,
        family: network::IpAddressFamily,
    ) -> SocketResult<Resource<wasmtime_wasi::p2::UdpSocket>> {
        self.no_socket("a UDP socket");
        udp_create_socket::Host::create_udp_socket(&mut self.sockets(), family)
    }
}

/// Links `wasi:random`, `wasi:clocks`, and of `wasi:sockets` what makes a socket or looks a name up.
pub(super) fn add_to_linker(linker: &mut Linker<ToolState>) -> wasmtime::Result<()> {
    type Own = HasSelf<ToolState>;
    random::add_to_linker::<_, Own>(linker, |state| state)?;
    insecure::add_to_linker::<_, Own>(linker, |state| state)?;
    insecure_seed::add_to_linker::<_, Own>(linker, |state| state)?;
    wall_clock::add_to_linker::<_, Own>(linker, |state| state)?;
    monotonic_clock::add_to_linker::<_, Own>(linker, |state| state)?;
    ip_name_lookup::add_to_linker::<_, Own>(linker, |state| state)?;
    tcp_create_socket::add_to_linker::<_, Own>(linker, |state| state)?;
    udp_create_socket::add_to_linker::<_, Own>(linker, |state| state)
}
