//! The test that a listener passes before it is answered for. Needs root, and a kernel with
//! `bpf_sk_assign_tcp_reqsk` (6.9).

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};
use std::path::Path;

use anyhow::Result;
use tcpguard::bpf::{
    Dataplane, Load, Object, Pins, Redeemer, SelfTestError, TEST_LISTENER, addr, self_test,
};
use tcpguard_common::abi::{
    ABI_VERSION, Config, CookieSecret, ListenerEntry, ListenerKey, Mode, RuleRef, SynAckRecord,
    maps, option,
};
use tcpguard_common::model::{cookie_secret, hash_key};
use tcpguard_host::linux::{boot_time, netns};
use tcpguard_kit::net::netns::Netns;
use tcpguard_kit::net::packet::{Segment, flags};

const PORT: u16 = 443;
const ALL: u32 = option::WSCALE | option::SACK | option::TIMESTAMPS | option::ECN;

/// The record of the kernel's own SYN-ACKs.
const RECORD: SynAckRecord = SynAckRecord {
    // Some interface that test runs do not have.
    interfaces: 1 << 7,
    mss: 1460,
    window: 65_160,
    ttl: 64,
    wscale: 7,
    asked: 0,
    returned: 0,
    options: ALL,
    foreign_at: 0,
    mss_at: 0,
};

/// The loaded programs, with a listener on every address that is not armed.
struct Loaded {
    object: Object,
    redeemer: Redeemer,
    dataplane: Dataplane,
    _pins: Pins,
}

impl Loaded {
    fn new() -> Result<Self> {
        let pins = Pins::open(Path::new("/sys/fs/bpf/tcpguard"), maps::RULES)?;
        let maps = pins.maps();
        let object = Object::load(Load { maps: Some(&maps), ..Load::default() })?;
        let redeemer = Redeemer::load(&maps, false)?;
        let dataplane = Dataplane::of(&object)?;
        dataplane.set_config(&config())?;
        dataplane.set_cookie_secret(&cookie_secret(1))?;
        let entry = ListenerEntry { id: 3, ..ListenerEntry::default() };
        let any = ["0.0.0.0", "::"].map(key);
        for key in &any {
            dataplane.set_listener(key, &entry)?;
        }
        dataplane.set_ports(any.iter().map(|key| (key, 3)))?;
        Ok(Self { object, redeemer, dataplane, _pins: pins })
    }

    fn test(&mut self, key: &ListenerKey) -> Result<(), SelfTestError> {
        let now = boot_time().as_nanos();
        self_test(&mut self.object, &mut self.redeemer, &self.dataplane, key, now)
    }

    /// Contents of the tables that a test may touch.
    fn traces(&self) -> Result<String> {
        let mut listeners = self.dataplane.listeners()?;
        listeners.sort_by_key(|(key, _)| (key.port, format!("{:?}", key.addr)));
        Ok(format!(
            "{listeners:?} {:?} {:?} {:?} {:?} {:?} {:?} {:?} {:?} {:?}",
            self.dataplane.routes()?,
            self.dataplane.next_hops()?,
            self.dataplane.own_macs()?,
            self.dataplane.syn_acks()?,
            self.dataplane.flows()?,
            self.dataplane.sources()?,
            self.dataplane.clients()?,
            self.dataplane.listener_counters(3)?,
            self.dataplane.host_counters()?,
        ))
    }

    /// The words with which a test refuses, having left nothing behind.
    fn refusal(&mut self, key: &ListenerKey) -> Result<String> {
        let before = self.traces()?;
        let refused = self.test(key).expect_err("it is refused").to_string();
        assert_eq!(self.traces()?, before, "{refused}");
        Ok(refused)
    }
}

fn config() -> Config {
    Config {
        abi_version: ABI_VERSION,
        mode: Mode::Enforce as u8,
        heartbeat_ns: boot_time().as_nanos(),
        heartbeat_limit_ns: u64::MAX,
        hash_key: hash_key(1),
        source_rules: Config::NETS,
        netns_cookie: netns::cookie().unwrap(),
        ..Config::default()
    }
}

fn key(ip: &str) -> ListenerKey {
    ListenerKey::new(addr(ip.parse::<IpAddr>().unwrap()), PORT.to_be_bytes())
}

fn on_a_host(work: impl FnOnce(&mut Loaded) -> Result<()> + Send) {
    let host = Netns::new("host").unwrap();
    host.run(|| {
        let _service = TcpListener::bind(("::", PORT))?;
        work(&mut Loaded::new()?)
    })
    .unwrap();
}

#[test]
fn listeners_of_every_kind_pass_and_nothing_is_left_of_the_test() {
    on_a_host(|loaded| {
        let records = [
            RECORD,
            SynAckRecord { ttl: 128, wscale: 0, ..RECORD },
            SynAckRecord { options: option::WSCALE | option::SACK, mss: 1400, ..RECORD },
            SynAckRecord { options: option::WSCALE | option::TIMESTAMPS, wscale: 14, ..RECORD },
            SynAckRecord { options: 0, wscale: 0, window: 64_240, ..RECORD },
        ];
        for ip in ["10.7.0.1", "fd77::1"] {
            for record in records {
                loaded.dataplane.set_syn_ack(&key(ip), &record)?;
                let before = loaded.traces()?;
                loaded.test(&key(ip)).unwrap_or_else(|error| panic!("{ip} {record:?}: {error}"));
                assert_eq!(loaded.traces()?, before, "{ip} {record:?}");
            }
        }
        let own = loaded.dataplane.listener_counters(TEST_LISTENER)?;
        assert_eq!(own.cookies_sent, own.syn, "its own counters say what it did: {own:?}");
        assert_eq!(own.cookies_redeemed, 0, "no socket was made: {own:?}");
        Ok(())
    });
}

/// In a flood its flows and sources share their sets with others.
#[test]
fn a_test_among_full_tables_costs_a_few_entries_at_most() {
    on_a_host(|loaded| {
        let server = SocketAddr::new("10.7.0.1".parse()?, PORT);
        for number in 0..2 * maps::MAX_FLOWS {
            let client = Ipv4Addr::from_bits(0x0b00_0000 + number).into();
            let syn = Segment::new(SocketAddr::new(client, 1024), server, flags::SYN);
            loaded.object.test_ingress(&syn.to_frame(), 1)?;
        }
        loaded.dataplane.set_syn_ack(&key("10.7.0.1"), &RECORD)?;
        let flows =
            || -> Result<BTreeMap<_, _>> { Ok(loaded.dataplane.flows()?.into_iter().collect()) };
        let before = flows()?;
        assert!(before.len() as u32 > maps::MAX_FLOWS / 100 * 99, "{}", before.len());
        self_test(
            &mut loaded.object,
            &mut loaded.redeemer,
            &loaded.dataplane,
            &key("10.7.0.1"),
            boot_time().as_nanos(),
        )?;
        let after = flows()?;
        assert!(after.iter().all(|(key, flow)| before.get(key) == Some(flow)), "others changed");
        assert!(before.len() - after.len() <= 16, "{} of {}", after.len(), before.len());
        Ok(())
    });
}

#[test]
fn a_listener_that_never_sent_a_syn_ack_is_refused() {
    on_a_host(|loaded| {
        loaded.dataplane.set_syn_ack(&key("10.7.0.2"), &RECORD)?;
        assert!(loaded.refusal(&key("10.7.0.1"))?.contains("no SYN-ACK"));
        Ok(())
    });
}

#[test]
fn a_record_that_no_host_sends_is_refused_with_what_is_wrong_in_it() {
    on_a_host(|loaded| {
        for (record, words) in [
            (SynAckRecord { wscale: 15, ..RECORD }, "window scale 15"),
            (SynAckRecord { ttl: 0, ..RECORD }, "time to live of 0"),
        ] {
            loaded.dataplane.set_syn_ack(&key("10.7.0.1"), &record)?;
            let refusal = loaded.refusal(&key("10.7.0.1"))?;
            assert!(refusal.contains(words), "{refusal}");
        }
        Ok(())
    });
}

#[test]
fn a_missing_secret_and_a_foreign_one_are_refused() {
    on_a_host(|loaded| {
        let key = key("10.7.0.1");
        loaded.dataplane.set_syn_ack(&key, &RECORD)?;
        loaded.dataplane.set_cookie_secret(&CookieSecret::NONE)?;
        assert!(loaded.refusal(&key)?.contains("no secret"));
        // The program that takes cookies back has those of another agent.
        let elsewhere = Pins::open(Path::new("/sys/fs/bpf/elsewhere"), maps::RULES)?;
        let maps = elsewhere.maps();
        let other = Object::load(Load { maps: Some(&maps), ..Load::default() })?;
        let dataplane = Dataplane::of(&other)?;
        dataplane.set_config(&config())?;
        dataplane.set_cookie_secret(&cookie_secret(2))?;
        // It knows the listener of the test, which is placed where the answers are made only.
        let test = ListenerKey::new(key.addr, [0; 2]);
        let entry =
            ListenerEntry { mitigations: ListenerEntry::ACCEPT, ..ListenerEntry::default() };
        dataplane.set_listener(&test, &entry)?;
        dataplane.set_ports([(&test, 0)])?;
        dataplane.set_syn_ack(&test, &RECORD)?;
        loaded.dataplane.set_cookie_secret(&cookie_secret(1))?;
        loaded.redeemer = Redeemer::load(&maps, false)?;
        let refusal = loaded.refusal(&key)?;
        assert!(refusal.contains("is not accepted") && refusal.contains("finds none"), "{refusal}");
        dataplane.set_cookie_secret(&cookie_secret(1))?;
        loaded.test(&key)?;
        Ok(())
    });
}

#[test]
fn programs_that_send_no_reply_are_refused_with_the_reason() {
    on_a_host(|loaded| {
        let key = key("10.7.0.1");
        loaded.dataplane.set_syn_ack(&key, &RECORD)?;
        let old = boot_time().as_nanos() - 7_000_000_000;
        for (config, words) in [
            (Config { mode: Mode::Observe as u8, ..config() }, "mode is not enforce"),
            (Config { heartbeat_ns: old, ..config() }, "heartbeat"),
            (Config { abi_version: 0, ..config() }, "no configuration"),
        ] {
            loaded.dataplane.set_config(&config)?;
            let refusal = loaded.refusal(&key)?;
            assert!(refusal.contains(words), "{refusal}");
        }
        loaded.dataplane.set_config(&config())?;
        loaded.test(&key)?;
        Ok(())
    });
}

#[test]
fn a_rule_on_an_address_for_documentation_does_not_spoil_the_test() {
    on_a_host(|loaded| {
        let key = key("10.7.0.1");
        loaded.dataplane.set_syn_ack(&key, &RECORD)?;
        for (slot, net) in (1..).zip(["192.0.2.0/24", "198.51.100.0/24", "203.0.113.0/24"]) {
            loaded.test(&key)?;
            loaded.dataplane.set_rule_expiry(slot, u64::MAX)?;
            let flags = RuleRef::BY_OPERATOR | RuleRef::FORCED;
            loaded.dataplane.set_source_rule(0, &net.parse()?, None, RuleRef { slot, flags })?;
        }
        let refusal = loaded.refusal(&key)?;
        assert!(refusal.contains("dropped it, from three addresses"), "{refusal}");
        Ok(())
    });
}
