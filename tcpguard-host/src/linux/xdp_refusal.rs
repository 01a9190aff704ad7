//! The reason for which a driver refuses a native XDP program, in its own words.

use std::os::fd::{AsRawFd, BorrowedFd};

use netlink_sys::protocols::NETLINK_ROUTE;

use super::netlink::Netlink;

const RTM_SETLINK: u16 = 19;
/// Length of `struct ifinfomsg`, include/uapi/linux/rtnetlink.h.
const IFINFOMSG_LEN: usize = 16;
// Attributes and flags of include/uapi/linux/if_link.h, and `NLA_F_NESTED`.
const IFLA_XDP: u16 = 43 | 1 << 15;
const IFLA_XDP_FD: u16 = 1;
const IFLA_XDP_FLAGS: u16 = 3;
const XDP_FLAGS_UPDATE_IF_NOEXIST: u32 = 1;
const XDP_FLAGS_DRV_MODE: u32 = 1 << 2;

/// Asks the driver of the interface `index` once more for the native program `program`, which it has refused as a link:
/// a link's refusal is a number only. `None` where the driver gives no reason.
///
/// If the driver accepts it this time, the program is detached at once.
pub fn native_xdp_refusal(index: u32, program: BorrowedFd<'_>) -> Option<String> {
    let mut netlink = Netlink::open(NETLINK_ROUTE).ok()?;
    let mut set = |fd: i32, flags: u32| {
        netlink.command("attach a native XDP program", RTM_SETLINK, 0, &request(index, fd, flags))
    };
    if set(program.as_raw_fd(), XDP_FLAGS_DRV_MODE | XDP_FLAGS_UPDATE_IF_NOEXIST).is_ok() {
        let _ = set(-1, XDP_FLAGS_DRV_MODE);
        return None;
    }
    netlink.words().map(str::to_owned)
}

fn request(index: u32, fd: i32, flags: u32) -> Vec<u8> {
    let mut request = vec![0; IFINFOMSG_LEN];
    request[4..8].copy_from_slice(&index.to_ne_bytes());
    let parts =
        [attribute(IFLA_XDP_FD, fd.to_ne_bytes()), attribute(IFLA_XDP_FLAGS, flags.to_ne_bytes())];
    let length = 4 + parts.as_flattened().len();
    request.extend_from_slice(&(length as u16).to_ne_bytes());
    request.extend_from_slice(&IFLA_XDP.to_ne_bytes());
    request.extend_from_slice(parts.as_flattened());
    request
}

/// An attribute with a value of four bytes.
fn attribute(kind: u16, value: [u8; 4]) -> [u8; 8] {
    let ([a, b], [c, d], [e, f, g, h]) = (8u16.to_ne_bytes(), kind.to_ne_bytes(), value);
    [a, b, c, d, e, f, g, h]
}

#[cfg(test)]
mod tests {
    use super::super::netlink::tests;
    use super::*;

    #[test]
    fn the_request_is_one_nested_attribute_behind_the_header() {
        let request = request(7, 5, XDP_FLAGS_DRV_MODE);
        let nested = [
            tests::attribute(IFLA_XDP_FD, &5i32.to_ne_bytes()),
            tests::attribute(IFLA_XDP_FLAGS, &4u32.to_ne_bytes()),
        ];
        let header = [&[0; 4][..], &7u32.to_ne_bytes(), &[0; 8]].concat();
        assert_eq!(request, [header, tests::attribute(IFLA_XDP, &nested.concat())].concat());
    }
}
