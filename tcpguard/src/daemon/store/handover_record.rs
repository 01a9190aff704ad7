//! The record that an agent leaves to the next one of another layout, so that an upgrade under attack costs no
//! handshake: the secret of the cookies, the active mitigations of each listener, and the form of those listeners'
//! SYN-ACKs. (Rules, the mode and learned values are in the state file.)
//!
//! The record has a version of its own, which no change of the maps' layout touches. It is JSON, sealed
//! as state files are: it is believed whole or not at all, and keys that a later version added are
//! passed over. It counts only if the attached XDP program is that of the agent that wrote it.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};
use tcpguard_common::abi::{
    CookieKey, CookieSecret, ListenerEntry, ListenerKey, Rate, SynAckRecord, maps, moment, option,
};
use tcpguard_common::cookie::{self, MAX_WSCALE};
use tcpguard_engine::{Listener, ListenerKind, Timestamp};
use tcpguard_host::durable::seal;
use tcpguard_host::hint::Hint as _;
use tcpguard_host::json;

use super::handover_ways::RecordedWays;
use crate::bpf::{KernelError, Pins, addr, ip};
use crate::daemon::executor::Executor;
use crate::daemon::listeners::{Inherited, MonitoredListener};

/// Raised only when the record means something else than before.
const SCHEMA: &str = "tcpguard.handover/1";

/// Names of a listener's mitigations in the record, whatever their bits are.
const MITIGATIONS: [(&str, u8); 6] = [
    ("own_cookies", ListenerEntry::OWN_COOKIES),
    ("accept", ListenerEntry::ACCEPT),
    ("kernel_cookies", ListenerEntry::KERNEL_COOKIES),
    ("budget", ListenerEntry::BUDGET),
    ("out_of_state", ListenerEntry::OUT_OF_STATE),
    ("pass_excess", ListenerEntry::PASS_EXCESS),
];
/// Bits that mean nothing without the secret, or without the cached SYN-ACKs.
const OF_COOKIES: u8 =
    ListenerEntry::OWN_COOKIES | ListenerEntry::ACCEPT | ListenerEntry::KERNEL_COOKIES;

/// The record. (No `Debug`: there is a secret in it.)
#[derive(Clone, PartialEq, Deserialize, Serialize)]
pub struct HandoverRecord {
    schema: String,
    /// Version of the writer's layout.
    layout: u32,
    /// [`cookie::FORMAT`] of the writer.
    cookie_format: u32,
    /// Value of [`CookieSecret::key`].
    cookie_key: [u64; 2],
    /// Value of [`CookieSecret::timestamp_offset`].
    timestamp_offset: u32,
    /// Listeners with a mitigation.
    listeners: Vec<RecordedListener>,
    /// Ways back to clients, if there is such a listener.
    #[serde(default)]
    ways: RecordedWays,
}

/// A listener with a mitigation.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
struct RecordedListener {
    listener: Listener,
    forwarded: bool,
    dual_stack: bool,
    /// Names of [`MITIGATIONS`].
    mitigations: Vec<String>,
    /// [`Rate::interval_ns`] and [`Rate::burst`] of its budget.
    budget: [u32; 2],
    syn_ack_params: Vec<SynAckParams>,
}

/// Format of the SYN-ACKs that the listener sends from one address; see [`SynAckRecord`].
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
struct SynAckParams {
    addr: IpAddr,
    /// 0 in a record of an earlier version: then the first SYN-ACK shows it.
    #[serde(default)]
    interfaces: u32,
    mss: u16,
    window: u16,
    ttl: u8,
    wscale: u8,
    options: u32,
}

impl HandoverRecord {
    /// The record to leave now for an agent of another layout.
    fn of(layout: u32, executor: &Executor) -> Result<Self, KernelError> {
        let CookieSecret { key: CookieKey(cookie_key), timestamp_offset, .. } =
            executor.dataplane.cookie_secret()?;
        let mut listeners: Vec<RecordedListener> = executor
            .listeners
            .iter()
            .filter(|one| one.mitigations != 0)
            .map(|one| one.into())
            .collect();
        let mut ways = RecordedWays::default();
        if !listeners.is_empty() {
            ways = RecordedWays::of(&executor.dataplane)?;
            for (key, record) in executor.dataplane.syn_acks()? {
                let port = u16::from_be_bytes(key.port);
                let of = executor.listeners.of(ip(&key.addr), port);
                let of = of.and_then(|id| executor.listeners.get(id));
                let taken = listeners
                    .iter_mut()
                    .find(|taken| of.is_some_and(|monitored| monitored.listener == taken.listener));
                taken
                    .into_iter()
                    .for_each(|taken| taken.syn_ack_params.push(SynAckParams::of(&key, &record)));
            }
        }
        for taken in &mut listeners {
            // As the kernel lists them, another order is no other record.
            taken.syn_ack_params.sort_by_key(|params| params.addr);
        }
        Ok(Self {
            schema: SCHEMA.to_owned(),
            layout,
            cookie_format: cookie::FORMAT,
            cookie_key,
            timestamp_offset,
            listeners,
            ways,
        })
    }

    /// The record of the last agent, if its XDP program is still attached. An agent of the same layout goes on with its
    /// maps and needs no record.
    pub fn found(pins: &Pins, has_maps: bool) -> Option<Self> {
        let found = match pins.left() {
            Ok(found) => Self::read(&found?),
            Err(error) => Err(error.to_string()),
        };
        match found {
            Ok(found) if found.layout == pins.version() && has_maps => None,
            Ok(found) => pins.has_program_of(found.layout).then_some(found),
            Err(why) => {
                log::warn!(
                    "handover record unusable: {why}. Outstanding SYN cookies are void, and mitigations \
                     start again when needed. See: tcpguard status"
                );
                None
            }
        }
    }

    /// Reads the record. The error is the reason for refusing all of it.
    fn read(record: &[u8]) -> Result<Self, String> {
        #[derive(Deserialize)]
        struct Kind {
            schema: String,
        }
        let text = seal::opened(record.to_vec())?;
        // First, so that the error about a record with another schema does not name a missing field.
        let kind: Kind = serde_json::from_slice(&text).map_err(|error| error.to_string())?;
        if kind.schema != SCHEMA {
            return Err(format!("its schema is {:?}, not {SCHEMA}", kind.schema));
        }
        let found: Self = serde_json::from_slice(&text).map_err(|error| error.to_string())?;
        let most = maps::MAX_LISTENERS as usize;
        if found.listeners.len() > most {
            return Err(format!("it has {} listeners of {most}", found.listeners.len()));
        }
        let syn_ack_params = || found.listeners.iter().flat_map(|taken| &taken.syn_ack_params);
        if syn_ack_params().count() > maps::MAX_SYN_ACKS as usize {
            return Err(format!(
                "it has {} SYN-ACK parameters of {}",
                syn_ack_params().count(),
                maps::MAX_SYN_ACKS
            ));
        }
        // Without the option it says nothing.
        let is_scaled = |params: &&SynAckParams| params.options & option::WSCALE != 0;
        if let Some(params) =
            syn_ack_params().filter(is_scaled).find(|params| params.wscale > MAX_WSCALE)
        {
            return Err(format!("{} has a window scale of {}", params.addr, params.wscale));
        }
        if let Some(refusal) = found.ways.refusal() {
            return Err(refusal);
        }
        Ok(found)
    }

    /// Returns whether cookies are made as this version makes them.
    const fn knows_cookies(&self) -> bool {
        self.cookie_format == cookie::FORMAT
    }

    /// Secret of the cookies that are out. [`CookieSecret::NONE`] where this version makes others.
    pub const fn secret(&self) -> CookieSecret {
        if !self.knows_cookies() {
            return CookieSecret::NONE;
        }
        let key = CookieKey(self.cookie_key);
        CookieSecret { key, timestamp_offset: self.timestamp_offset, drawn: 1 }
    }

    /// Gives the programs, which are not attached yet, the listeners as the previous agent had given them to its own
    /// programs.
    pub fn take_over(&self, now: Timestamp, executor: &mut Executor) -> Result<(), KernelError> {
        if !self.knows_cookies() {
            log::warn!(
                "outstanding SYN cookies are void: format {}, now {}. Their clients must connect again. \
                 See: tcpguard status",
                self.cookie_format,
                cookie::FORMAT
            );
        }
        let inherited = self.listeners.iter().map(|taken| taken.inherited(self.knows_cookies()));
        executor.listeners.inherit(now, inherited, &mut executor.dataplane)?;
        self.ways.take_over(now, &executor.dataplane)?;
        for taken in self.listeners.iter().filter(|_| self.knows_cookies()) {
            for params in &taken.syn_ack_params {
                let (key, record) = params.record(now, taken.listener.port);
                executor.dataplane.set_syn_ack(&key, &record)?;
            }
        }
        Ok(())
    }
}

impl From<&MonitoredListener> for RecordedListener {
    fn from(monitored: &MonitoredListener) -> Self {
        let Inherited { listener, kind, dual_stack, mitigations, budget } = monitored.into();
        let names = MITIGATIONS.iter().filter(|(_, bit)| mitigations & bit != 0);
        Self {
            listener,
            forwarded: kind == ListenerKind::Forwarded,
            dual_stack,
            mitigations: names.map(|(name, _)| (*name).to_owned()).collect(),
            budget: [budget.interval_ns, budget.burst],
            syn_ack_params: Vec::new(),
        }
    }
}

impl RecordedListener {
    /// Mitigations that this version does not know are not taken over.
    fn inherited(&self, with_cookies: bool) -> Inherited {
        let bit = |name: &String| MITIGATIONS.iter().find(|(known, _)| known == name);
        let mitigations = self
            .mitigations
            .iter()
            .filter_map(bit)
            .fold(0, |mitigations, (_, bit)| mitigations | bit);
        let [interval_ns, burst] = self.budget;
        Inherited {
            listener: self.listener,
            kind: if self.forwarded { ListenerKind::Forwarded } else { ListenerKind::Local },
            dual_stack: self.dual_stack,
            mitigations: if with_cookies { mitigations } else { mitigations & !OF_COOKIES },
            budget: Rate { interval_ns, burst },
        }
    }
}

impl SynAckParams {
    fn of(key: &ListenerKey, record: &SynAckRecord) -> Self {
        let SynAckRecord { interfaces, mss, window, ttl, wscale, options, .. } = record.anew();
        Self { addr: ip(&key.addr), interfaces, mss, window, ttl, wscale, options }
    }

    /// The record of this cached SYN-ACK. SYN-ACKs of other hosts that left there besides count as seen now.
    fn record(&self, now: Timestamp, port: u16) -> (ListenerKey, SynAckRecord) {
        let Self { addr: local, interfaces, mss, window, ttl, wscale, options } = *self;
        let now = moment(now.as_nanos());
        let foreign_at = if options & SynAckRecord::FOREIGN == 0 { 0 } else { now };
        let record = SynAckRecord {
            interfaces,
            mss,
            window,
            ttl,
            wscale,
            options,
            foreign_at,
            mss_at: now,
            ..SynAckRecord::default()
        };
        (ListenerKey::new(addr(local), port.to_be_bytes()), record)
    }
}

/// Keeps the record as things are.
#[derive(Default)]
pub struct LeftHandover {
    left: Option<HandoverRecord>,
    /// True if the failure to write it was reported.
    reported: bool,
}

impl LeftHandover {
    /// Writes the present record, if it differs from the stored one. A write that fails is retried with each call.
    pub fn keep(&mut self, pins: &Pins, executor: &Executor) {
        match self.leave(pins, executor) {
            Ok(()) => self.reported = false,
            Err(error) if self.reported => log::debug!("{error}"),
            Err(error) => {
                self.reported = true;
                log::warn!(
                    "handover record not written, an upgrade would void outstanding SYN cookies: {}",
                    error.with_hint()
                );
            }
        }
    }

    fn leave(&mut self, pins: &Pins, executor: &Executor) -> Result<(), KernelError> {
        let handover_record = HandoverRecord::of(pins.version(), executor)?;
        if self.left.as_ref() == Some(&handover_record) && pins.has_left() {
            return Ok(());
        }
        pins.leave(&seal::sealed(&json::bytes(&handover_record).unwrap_or_default()))?;
        self.left = Some(handover_record);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: [u64; 2] = [u64::MAX, 0x0123_4567_89ab_cdef];

    fn handover_record() -> HandoverRecord {
        let params = SynAckParams {
            addr: "192.0.2.1".parse().unwrap(),
            interfaces: 0,
            mss: 1460,
            window: 64_240,
            ttl: 64,
            wscale: 7,
            options: 1 << 31 | 7,
        };
        let taken = RecordedListener {
            listener: Listener { addr: "::".parse().unwrap(), port: 443 },
            forwarded: false,
            dual_stack: true,
            mitigations: ["own_cookies", "accept", "budget", "out_of_state"]
                .map(str::to_owned)
                .to_vec(),
            budget: [1_000_000, 250],
            syn_ack_params: vec![params],
        };
        HandoverRecord {
            schema: SCHEMA.to_owned(),
            layout: 9,
            cookie_format: cookie::FORMAT,
            cookie_key: KEY,
            timestamp_offset: 77,
            listeners: vec![taken],
            ways: RecordedWays::default(),
        }
    }

    fn sealed(handover_record: &impl Serialize) -> Vec<u8> {
        seal::sealed(&json::bytes(handover_record).unwrap())
    }

    fn refusal(handover_record: &impl Serialize) -> String {
        HandoverRecord::read(&sealed(handover_record)).err().expect("refused")
    }

    /// This text never changes: every version reads it.
    #[test]
    fn a_record_of_the_first_version_is_read() {
        let text = r#"{"schema":"tcpguard.handover/1","layout":9,"cookie_format":1,
            "cookie_key":[18446744073709551615,81985529216486895],"timestamp_offset":77,
            "listeners":[{"listener":{"addr":"::","port":443},"forwarded":false,"dual_stack":true,
            "mitigations":["own_cookies","accept","budget","out_of_state"],"budget":[1000000,250],
            "syn_ack_params":[{"addr":"192.0.2.1","ifindex":2,"mss":1460,"window":64240,
            "mac":[2,0,0,0,0,1],"ttl":64,"wscale":7,"options":2147483655,"vlan":0}]}]}"#;
        let found = HandoverRecord::read(&seal::sealed(text.as_bytes())).unwrap();
        assert!(found == HandoverRecord { cookie_format: 1, ..handover_record() });
        let mut mitigations = ListenerEntry::OWN_COOKIES | ListenerEntry::ACCEPT;
        mitigations |= ListenerEntry::BUDGET | ListenerEntry::OUT_OF_STATE;
        let taken = &found.listeners[0];
        let inherited = taken.inherited(true);
        assert_eq!((inherited.mitigations, inherited.budget.burst), (mitigations, 250));
        assert_eq!(
            taken.inherited(false).mitigations,
            ListenerEntry::BUDGET | ListenerEntry::OUT_OF_STATE
        );
        let (key, record) =
            taken.syn_ack_params[0].record(Timestamp::from_nanos(9 << 30), taken.listener.port);
        assert_eq!((key.port, record.wscale, record.is_own()), ([1, 187], 7, false));
        assert_eq!(record.foreign_at, 9, "and for ten minutes more");
        assert_eq!(SynAckParams::of(&key, &record), taken.syn_ack_params[0]);
    }

    #[test]
    fn cookies_of_another_format_are_not_believed() {
        let other = HandoverRecord { cookie_format: cookie::FORMAT + 1, ..handover_record() };
        let found = HandoverRecord::read(&sealed(&other)).unwrap();
        assert_eq!((found.secret(), found.knows_cookies()), (CookieSecret::NONE, false));
        let secret = handover_record().secret();
        assert_eq!((secret.key, secret.timestamp_offset, secret.drawn), (CookieKey(KEY), 77, 1));
    }

    #[test]
    fn what_a_later_version_adds_is_passed_over() {
        let mut later = serde_json::to_value(handover_record()).unwrap();
        for place in ["", "/listeners/0", "/listeners/0/syn_ack_params/0"] {
            let object = later.pointer_mut(place).and_then(|value| value.as_object_mut());
            object.unwrap().insert("of_a_later_version".to_owned(), [1, 2].into());
        }
        let mitigations =
            later.pointer_mut("/listeners/0/mitigations").unwrap().as_array_mut().unwrap();
        mitigations.push("of_a_later_version".into());
        let found = HandoverRecord::read(&sealed(&later)).unwrap();
        let mitigations = |handover_record: &HandoverRecord| {
            handover_record.listeners[0].inherited(true).mitigations
        };
        assert_eq!(mitigations(&found), mitigations(&handover_record()));
    }

    #[test]
    fn what_is_not_understood_is_refused_with_a_reason() {
        let of = |listeners| refusal(&HandoverRecord { listeners, ..handover_record() });
        let taken = handover_record().listeners.remove(0);
        let syn_ack_params =
            |syn_ack_params| of(vec![RecordedListener { syn_ack_params, ..taken.clone() }]);
        let params = taken.syn_ack_params[0].clone();
        assert_eq!(of(vec![taken.clone(); 4097]), "it has 4097 listeners of 4096");
        assert_eq!(
            syn_ack_params(vec![params.clone(); 2601]),
            "it has 2601 SYN-ACK parameters of 2600"
        );
        let unscaled = SynAckParams {
            wscale: 255,
            options: params.options & !option::WSCALE,
            ..params.clone()
        };
        let left = RecordedListener { syn_ack_params: vec![unscaled], ..taken.clone() };
        let left =
            serde_json::to_value(HandoverRecord { listeners: vec![left], ..handover_record() })
                .unwrap();
        assert!(HandoverRecord::read(&sealed(&left)).is_ok(), "no SYN-ACK had one");
        let options = params.options | option::WSCALE;
        let params = SynAckParams { wscale: 15, options, ..params };
        assert_eq!(syn_ack_params(vec![params]), "192.0.2.1 has a window scale of 15");
        let schema = r#"its schema is "tcpguard.handover/2", not tcpguard.handover/1"#;
        assert_eq!(refusal(&serde_json::json!({ "schema": "tcpguard.handover/2" })), schema);
        let missing = refusal(&serde_json::json!({ "schema": SCHEMA, "layout": 9 }));
        assert!(missing.starts_with("missing field `cookie_format`"), "{missing}");
    }

    /// Every length, every byte changed, and a record of zeroes only.
    #[test]
    fn nothing_of_a_damaged_record_is_believed() {
        let whole = sealed(&handover_record());
        for length in 0..whole.len() {
            assert!(HandoverRecord::read(&whole[..length]).is_err(), "{length} bytes");
        }
        for place in 0..whole.len() {
            let mut changed = whole.clone();
            changed[place] ^= 1;
            assert!(HandoverRecord::read(&changed).is_err(), "byte {place}");
        }
        assert!(HandoverRecord::read(&vec![0; whole.len()]).is_err());
    }
}
