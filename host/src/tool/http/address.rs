//! What kind of place an address is: whether a request may go there without further grant.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Anybody's on the internet.
    Public,
    /// This machine.
    Loopback,
    /// A network of one's own: RFC 1918, unique local, shared address space of carriers.
    Private,
    /// What should not be reached by accident: link-local addresses, where clouds keep the keys of a
    /// machine, documentation, benchmarks, the forms in which IPv6 carries other addresses.
    Special,
    /// Not the address of any one machine.
    Nowhere,
}

/// The kind of an address, by the registries of special addresses of IANA.
pub(super) fn kind(address: IpAddr) -> Kind {
    match address {
        IpAddr::V4(address) => kind_v4(address),
        IpAddr::V6(address) => kind_v6(address),
    }
}

fn kind_v4(address: Ipv4Addr) -> Kind {
    match address.octets() {
        [0, 0, 0, 0] | [224..=239, ..] | [255, 255, 255, 255] => Kind::Nowhere,
        [127, ..] => Kind::Loopback,
        [10, ..] | [172, 16..=31, ..] | [192, 168, ..] | [100, 64..=127, ..] => Kind::Private,
        [0, ..]
        | [169, 254, ..]
        | [192, 0, 0 | 2, _]
        | [192, 88, 99, _]
        | [198, 18..=19, ..]
        | [198, 51, 100, _]
        | [203, 0, 113, _]
        | [240..=255, ..]
        // The service of one cloud that gives its machines their secrets.
        | [168, 63, 129, 16] => Kind::Special,
        _ => Kind::Public,
    }
}

fn kind_v6(address: Ipv6Addr) -> Kind {
    if let Some(mapped) = address.to_ipv4_mapped() {
        return kind_v4(mapped);
    }
    match address.segments() {
        [0, 0, 0, 0, 0, 0, 0, 0] | [0xff00..=0xffff, ..] => Kind::Nowhere,
        [0, 0, 0, 0, 0, 0, 0, 1] => Kind::Loopback,
        [0xfc00..=0xfdff, ..] => Kind::Private,
        // NAT64: the address of IPv4 that is inside.
        [0x64, 0xff9b, 0, 0, 0, 0, high, low] => {
            let [a, b] = high.to_be_bytes();
            let [c, d] = low.to_be_bytes();
            match kind_v4(Ipv4Addr::new(a, b, c, d)) {
                Kind::Public => Kind::Public,
                _ => Kind::Special,
            }
        }
        // Teredo, ORCHID, benchmarks; documentation; 6to4; documentation.
        [0x2001, 0..=0x1ff, ..] | [0x2001, 0xdb8, ..] | [0x2002, ..] | [0x3fff, 0..=0xfff, ..] => {
            Kind::Special
        }
        [0x2000..=0x3fff, ..] => Kind::Public,
        _ => Kind::Special,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_told_apart() {
        for (text, expected) in [
            ("8.8.8.8", Kind::Public),
            ("100.63.255.255", Kind::Public),
            ("100.64.0.1", Kind::Private),
            ("100.127.255.255", Kind::Private),
            ("100.128.0.0", Kind::Public),
            ("10.0.0.1", Kind::Private),
            ("172.15.0.1", Kind::Public),
            ("172.16.0.1", Kind::Private),
            ("172.31.255.255", Kind::Private),
            ("172.32.0.1", Kind::Public),
            ("192.168.1.1", Kind::Private),
            ("127.0.0.1", Kind::Loopback),
            ("127.255.0.9", Kind::Loopback),
            ("0.0.0.0", Kind::Nowhere),
            ("0.1.2.3", Kind::Special),
            ("169.254.169.254", Kind::Special),
            ("168.63.129.16", Kind::Special),
            ("192.0.0.8", Kind::Special),
            ("192.0.2.1", Kind::Special),
            ("198.19.0.1", Kind::Special),
            ("198.51.100.1", Kind::Special),
            ("203.0.113.1", Kind::Special),
            ("224.0.0.1", Kind::Nowhere),
            ("240.0.0.1", Kind::Special),
            ("255.255.255.255", Kind::Nowhere),
            ("::", Kind::Nowhere),
            ("::1", Kind::Loopback),
            ("::7f00:1", Kind::Special),
            ("::ffff:127.0.0.1", Kind::Loopback),
            ("::ffff:10.0.0.1", Kind::Private),
            ("::ffff:8.8.8.8", Kind::Public),
            ("::ffff:0:8.8.8.8", Kind::Special),
            ("64:ff9b::8.8.8.8", Kind::Public),
            ("64:ff9b::10.0.0.1", Kind::Special),
            ("64:ff9b:1::8.8.8.8", Kind::Special),
            ("100::1", Kind::Special),
            ("2001::1", Kind::Special),
            ("2001:db8::1", Kind::Special),
            ("2001:4860:4860::8888", Kind::Public),
            ("2002:7f00:1::", Kind::Special),
            ("2606:4700::1111", Kind::Public),
            ("3fff::1", Kind::Special),
            ("4000::1", Kind::Special),
            ("fc00::1", Kind::Private),
            ("fd00:ec2::254", Kind::Private),
            ("fe80::1", Kind::Special),
            ("fec0::1", Kind::Special),
            ("ff02::1", Kind::Nowhere),
        ] {
            assert_eq!(kind(text.parse().unwrap()), expected, "{text}");
        }
    }
}
