//! The programs on the edge with one listener and the mitigations that a test wants, without an
//! agent; and connections that go through them.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, TcpListener, TcpStream};
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use tcpguard::bpf::{
    Attachment, Dataplane, Features, HeldLink, KernelMatcher, Load, Object, Pins, Redeemer,
    XdpMode, addr, attach, attach_tracepoint, signature_key,
};
use tcpguard_common::abi::{
    ABI_VERSION, Config, Fingerprint, ListenerCounters, ListenerEntry, ListenerKey, Mask, Mode,
    RuleRef, maps,
};
use tcpguard_common::fastpath::FAILED_COOKIE_NS;
use tcpguard_common::model::{cookie_secret, hash_key};
use tcpguard_host::linux::programs::Attached;
use tcpguard_host::linux::{SocketOffsets, interfaces, netns};

use crate::net::lab::{EDGE_MAC, Family, INTERFACE, Lab, PORT};
use crate::net::netns::Netns;

/// Bytes that each end of a [`connection`] sends.
const TRANSFER: usize = 1 << 20;
/// Longest time of any single wait.
pub const PATIENCE: Duration = Duration::from_secs(10);

/// The programs. They are taken off when this is dropped.
pub struct Armed {
    // First, so that it is gone before the programs are taken off.
    redemption: Option<HeldLink>,
    _redeemer: Option<Redeemer>,
    pub dataplane: Dataplane,
    attachment: Option<Attachment>,
    object: Object,
    _pins: Pins,
}

impl Armed {
    /// Attaches the programs with the one that redeems cookies made by XDP, and no mitigation active yet.
    ///
    /// # Errors
    /// Without root, or on kernels before 6.9.
    pub fn attach(lab: &Lab, mode: XdpMode) -> Result<Self> {
        Self::attach_with(&lab.edge, mode, Features::of_running_kernel(), true)
    }

    /// Attaches the programs as on kernels that cannot be handed connections.
    pub fn attach_without_redeemer(lab: &Lab, mode: XdpMode) -> Result<Self> {
        Self::on(&lab.edge, mode)
    }

    /// Attaches the programs likewise, on the interface `eth0` of a host outside a lab.
    pub fn on(host: &Netns, mode: XdpMode) -> Result<Self> {
        Self::with_features(host, mode, Features::of_running_kernel())
    }

    /// Attaches the programs likewise, as on a kernel that has these features only.
    pub fn with_features(host: &Netns, mode: XdpMode, features: Features) -> Result<Self> {
        Self::attach_with(host, mode, features, false)
    }

    fn attach_with(host: &Netns, mode: XdpMode, features: Features, redeems: bool) -> Result<Self> {
        host.run(|| {
            let pins = Pins::open(Path::new("/sys/fs/bpf/tcpguard"), maps::RULES)?;
            let offsets = Some(SocketOffsets::of_running_kernel()?);
            let maps = pins.maps();
            let load = Load { maps: Some(&maps), offsets, features, ..Load::default() };
            let mut object = Object::load(load)?;
            let dataplane = Dataplane::of(&object)?;
            let config = Config {
                abi_version: ABI_VERSION,
                mode: Mode::Enforce as u8,
                tracked_bits: Config::tracked_bits(20_000),
                // No agent runs, and its absence must have no effect.
                heartbeat_ns: u64::MAX,
                heartbeat_limit_ns: u64::MAX,
                hash_key: hash_key(1),
                netns_cookie: netns::cookie()?,
                established_seen: 1,
                marks_segments: 1,
                out_of_state: 1,
                drop_out_of_state: 1,
                failed_cookie_ns: FAILED_COOKIE_NS,
                ..Config::default()
            };
            dataplane.set_config(&config)?;
            dataplane.set_cookie_secret(&cookie_secret(1))?;
            let interface = interfaces::by_name(INTERFACE)?;
            dataplane.reply_on_link(interface.index, EDGE_MAC)?;
            attach_tracepoint(&mut object, &pins)?;
            let attachment = attach(&mut object, &pins, &interface, INTERFACE, mode)?;
            let mut redeemer = if redeems { Some(Redeemer::load(&maps, false)?) } else { None };
            let redemption = match &mut redeemer {
                Some(redeemer) => Some(redeemer.attach(&pins, &interface)?),
                None => None,
            };
            let armed = Self {
                redemption,
                _redeemer: redeemer,
                dataplane,
                attachment: Some(attachment),
                object,
                _pins: pins,
            };
            armed.set_mitigations(0)?;
            Ok(armed)
        })
    }

    /// Sets [`ListenerEntry::mitigations`] of the one listener, which is bound to all addresses.
    pub fn set_mitigations(&self, mitigations: u8) -> Result<()> {
        self.set_entry(&ListenerEntry { mitigations, ..ListenerEntry::default() })
    }

    /// Makes the programs drop SYNs that have the fingerprint `print` under `mask`.
    pub fn drop_alike(&self, mask: Mask, print: &Fingerprint) -> Result<()> {
        let set = self.dataplane.config()?.rule_set;
        self.dataplane.set_rule_expiry(0, u64::MAX)?;
        let signature = KernelMatcher::Signature(signature_key(set, 0, mask, print));
        self.dataplane.set_rule(set, &signature, RuleRef::default())?;
        self.set_entry(&ListenerEntry { masks: 1 << mask.code(), ..ListenerEntry::default() })
    }

    fn set_entry(&self, entry: &ListenerEntry) -> Result<()> {
        let port = PORT.to_be_bytes();
        let any = [IpAddr::V4(Ipv4Addr::UNSPECIFIED), IpAddr::V6(Ipv6Addr::UNSPECIFIED)];
        let keys = any.map(|ip| ListenerKey::new(addr(ip), port));
        for key in &keys {
            self.dataplane.set_listener(key, entry)?;
        }
        Ok(self.dataplane.set_ports(keys.iter().map(|key| (key, 0)))?)
    }

    /// Makes the programs answer SYNs with cookies made by XDP.
    pub fn arm(&self) -> Result<()> {
        self.set_mitigations(ListenerEntry::OWN_COOKIES | ListenerEntry::ACCEPT)
    }

    /// Changes the configuration record.
    pub fn configure(&self, change: impl FnOnce(&mut Config)) -> Result<()> {
        let mut config = self.dataplane.config()?;
        change(&mut config);
        Ok(self.dataplane.set_config(&config)?)
    }

    /// The attachment.
    ///
    /// # Panics
    /// Never: only dropping this takes it off.
    pub fn attachment(&self) -> &Attachment {
        self.attachment.as_ref().expect("attached")
    }

    /// Ensures, as an agent does, that the program for departing packets runs first. Returns the programs that it has
    /// passed.
    pub fn keep_first(&mut self, host: &Netns) -> Result<Vec<Attached>> {
        let attachment = self.attachment.as_mut().context("attached")?;
        host.run(|| {
            let interface = interfaces::by_name(INTERFACE)?;
            Ok(attachment.keep_first(&mut self.object, &interface)?)
        })
    }

    /// Counters of the listener.
    ///
    /// # Panics
    /// When the kernel refuses.
    pub fn counters(&self) -> ListenerCounters {
        self.dataplane.listener_counters(0).unwrap()
    }

    /// Waits for counters that follow the traffic by a moment.
    ///
    /// # Panics
    /// When they do not come to it within [`PATIENCE`].
    #[track_caller]
    pub fn wait_until(&self, what: &str, holds: impl Fn(&ListenerCounters) -> bool) {
        let begun = Instant::now();
        while !holds(&self.counters()) {
            assert!(begun.elapsed() < PATIENCE, "{what}: {:?}", self.counters());
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for Armed {
    fn drop(&mut self) {
        if let Some(redemption) = self.redemption.take() {
            redemption.remove().expect("the redeeming program comes off");
        }
        if let Some(attachment) = self.attachment.take() {
            attachment.remove();
        }
    }
}

/// A service on [`PORT`], IPv4 and IPv6.
///
/// # Panics
/// When the port is taken.
pub fn listen(host: &Netns) -> TcpListener {
    let listener = host.run(|| {
        TcpListener::bind((Ipv6Addr::UNSPECIFIED, PORT)).context("cannot bind the service's port")
    });
    listener.unwrap()
}

fn pattern(seed: u8) -> Vec<u8> {
    (0..TRANSFER).map(|at| (at / 251) as u8 ^ at as u8 ^ seed).collect()
}

fn exchange(mut socket: &TcpStream, seed: u8, expected: u8, first: bool) -> Result<()> {
    socket.set_read_timeout(Some(PATIENCE))?;
    let mut received = vec![0; TRANSFER];
    if first {
        socket.write_all(&pattern(seed))?;
    }
    socket.read_exact(&mut received).context("the transfer stopped")?;
    ensure!(received == pattern(expected), "the transfer was damaged");
    if !first {
        socket.write_all(&pattern(seed))?;
    }
    Ok(())
}

/// Flags and sizes by name.
pub type Agreed = BTreeMap<String, String>;

/// Connects, sends a megabyte each way, and returns the parameters agreed in the handshake, as `ss
/// -ti` shows them at the client and at the server.
///
/// # Panics
/// When the server's thread does.
pub fn connection(lab: &Lab, listener: &TcpListener, family: Family) -> Result<[Agreed; 2]> {
    let client = lab.client.run(|| Ok(TcpStream::connect_timeout(&family.service(), PATIENCE)?))?;
    listener.set_nonblocking(true)?;
    let begun = Instant::now();
    let server = loop {
        match listener.accept() {
            Ok((server, _)) => break server,
            Err(_) if begun.elapsed() < PATIENCE => {
                std::thread::sleep(Duration::from_millis(5));
            }
            Err(error) => return Err(error).context("the service got no connection"),
        }
    };
    server.set_nonblocking(false)?;
    std::thread::scope(|scope| -> Result<()> {
        let served = scope.spawn(|| exchange(&server, 2, 1, false));
        exchange(&client, 1, 2, true)?;
        served.join().expect("the server's thread")
    })?;
    let port = client.local_addr()?.port();
    let ends = [
        agreed(&lab.client, &format!("sport = :{port} and dport = :{PORT}"))?,
        agreed(&lab.edge, &format!("sport = :{PORT} and dport = :{port}"))?,
    ];
    Ok(ends)
}

fn agreed(host: &Netns, filter: &str) -> Result<Agreed> {
    let output = host.command("ss")?.args(["-tinoOH", filter]).output().context("ss")?;
    let text = String::from_utf8(output.stdout)?;
    ensure!(text.lines().count() == 1, "not one connection: {text}");
    const NAMES: [&str; 9] =
        ["ts", "sack", "ecn", "ecnseen", "wscale", "mss", "pmtu", "advmss", "usec_ts"];
    let words = text.split_whitespace().map(|word| word.split_once(':').unwrap_or((word, "")));
    let known = words.filter(|(name, _)| NAMES.contains(name));
    Ok(known.map(|(name, value)| (name.to_owned(), value.to_owned())).collect())
}
