//! Completed handshakes from the tracepoint `sock:inet_sock_set_state`.

use aya_ebpf::Global;
use aya_ebpf::helpers::bpf_probe_read_kernel;
use aya_ebpf::programs::RawTracePointContext;
use tcpguard_common::abi::{Addr, Config, FlowKey};
use tcpguard_common::fastpath;

/// `TCP_ESTABLISHED` and `TCP_SYN_RECV` of the kernel's `tcp_states.h`.
const ESTABLISHED: i32 = 1;
const SYN_RECV: i32 = 3;
const AF_INET: u16 = 2;
const AF_INET6: u16 = 10;

/// Byte offsets within the kernel's structures, resolved from its BTF by the loader.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct SocketOffsets {
    pub family: u32,
    pub local_port: u32,
    pub remote_v4: u32,
    pub local_v4: u32,
    pub remote_v6: u32,
    pub local_v6: u32,
    pub net: u32,
    pub net_cookie: u32,
    pub remote_port: u32,
    /// The interface by which the third ACK came; 0: this kernel does not say.
    pub incoming: u32,
    /// The number of a network namespace, on kernels that identify it so; 0 on others.
    pub net_number: u32,
}

#[unsafe(no_mangle)]
pub static SOCKET_OFFSETS: Global<SocketOffsets> = Global::new(SocketOffsets {
    family: 0,
    local_port: 0,
    remote_v4: 0,
    local_v4: 0,
    remote_v6: 0,
    local_v6: 0,
    net: 0,
    net_cookie: 0,
    remote_port: 0,
    incoming: 0,
    net_number: 0,
});

/// The handshake that this state change completes, if it is one of our network namespace, and the index of the interface
/// by which its client came; 0: it is not known.
#[inline(always)]
pub fn completed(ctx: &RawTracePointContext, config: &Config) -> Option<(FlowKey, u32)> {
    let old: i32 = ctx.arg(1);
    let new: i32 = ctx.arg(2);
    if old != SYN_RECV || new != ESTABLISHED {
        return None;
    }
    let socket: *const u8 = ctx.arg(0);
    let offsets = SOCKET_OFFSETS.load();
    let net: *const u8 = read(socket, offsets.net)?;
    // Tracepoints see every namespace of the machine; this agent answers for one.
    let namespace = match offsets.net_number {
        0 => read::<u64>(net, offsets.net_cookie)?,
        number => read::<u32>(net, number)?.into(),
    };
    if namespace != config.netns_cookie {
        return None;
    }
    let says = if offsets.incoming == 0 { 0 } else { read(socket, offsets.incoming)? };
    let port: u16 = read(socket, offsets.local_port)?;
    let client_port = read(socket, offsets.remote_port)?;
    // IPv6 first: the verifier knows less of its words, so what it has followed for them holds for IPv4 as well.
    let (server, client) = match read::<u16>(socket, offsets.family)? {
        // An IPv4 client of a dual-stack socket shows as a mapped address, as it does in `Addr`.
        AF_INET6 => (
            Addr::from_v6(read(socket, offsets.local_v6)?),
            Addr::from_v6(read(socket, offsets.remote_v6)?),
        ),
        AF_INET => (
            Addr::from_v4(read(socket, offsets.local_v4)?),
            Addr::from_v4(read(socket, offsets.remote_v4)?),
        ),
        _ => return None,
    };
    let flow = FlowKey { client, server, client_port, server_port: port.to_be_bytes() };
    Some((flow, fastpath::came_by(&flow, says)))
}

#[inline(always)]
fn read<T>(base: *const u8, offset: u32) -> Option<T> {
    // SAFETY: the helper checks the address and fails rather than faults.
    unsafe { bpf_probe_read_kernel(base.wrapping_add(offset as usize).cast::<T>()) }.ok()
}
