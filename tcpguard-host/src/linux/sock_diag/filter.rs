//! A filter that the kernel applies to a list of sockets, so that only the wanted ones are copied.

/// `INET_DIAG_REQ_BYTECODE`, include/uapi/linux/inet_diag.h.
const REQ_BYTECODE: u16 = 1;
/// `INET_DIAG_BC_JMP`, likewise.
const JUMP: u8 = 1;
/// The kernel's `INET_DIAG_BC_S_COND`.
const LOCAL: u8 = 7;
/// Length of `struct inet_diag_bc_op`.
const OP: usize = 4;
/// Length of `struct inet_diag_hostcond` without the address.
const CONDITION: usize = 8;
const AF_INET: u8 = 2;
const AF_INET6: u8 = 10;

/// A prefix of local addresses.
struct Prefix<'a> {
    family: u8,
    length: u8,
    addr: &'a [u8],
}

pub(super) const fn none(_ipv6: bool) -> Vec<u8> {
    Vec::new()
}

/// Passes over sockets of a family that are bound to a loopback address; of IPv6 also where IPv4's is
/// mapped.
pub(super) fn but_loopback(ipv6: bool) -> Vec<u8> {
    const LOCALHOST: [u8; 16] = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1];
    let v4 = Prefix { family: AF_INET, length: 8, addr: &[127, 0, 0, 0] };
    let v6 = Prefix { family: AF_INET6, length: 128, addr: &LOCALHOST };
    attribute(&if ipv6 { but(&[v6, v4]) } else { but(&[v4]) })
}

/// A program that accepts the sockets that none of `prefixes` contains. For each prefix it has a
/// condition, which goes on behind the next jump where it does not hold, and the jump, which goes
/// beyond the end.
fn but(prefixes: &[Prefix<'_>]) -> Vec<u8> {
    let size = |prefix: &Prefix<'_>| OP + CONDITION + prefix.addr.len() + OP;
    let mut left: usize = prefixes.iter().map(size).sum();
    let mut code = Vec::with_capacity(left);
    for prefix in prefixes {
        let condition = size(prefix) - OP;
        code.extend([LOCAL, condition as u8]);
        code.extend((size(prefix) as u16).to_ne_bytes());
        code.extend([prefix.family, prefix.length, 0, 0]);
        // Any port.
        code.extend((-1i32).to_ne_bytes());
        code.extend(prefix.addr);
        left -= condition;
        code.extend([JUMP, OP as u8]);
        code.extend(((left + OP) as u16).to_ne_bytes());
        left -= OP;
    }
    code
}

fn attribute(code: &[u8]) -> Vec<u8> {
    let mut bytes = ((4 + code.len()) as u16).to_ne_bytes().to_vec();
    bytes.extend(REQ_BYTECODE.to_ne_bytes());
    bytes.extend(code);
    bytes
}
