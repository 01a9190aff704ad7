//! The tables that the decision reads and writes beside the frame.

use super::{
    Allowance, CachedSynAck, HandedOver, KernelCookie, Note, OwnAddress, SigCacheEntry, Socket,
    Template,
};
use crate::abi::maps::HLL_REGISTERS;
use crate::abi::{
    Addr, Bucket, Client, ClientNetwork, ClosedPortSource, CookieNetwork, CookieSecret,
    DropCacheSet, ExemptEntry, FlowSet, HostCounters, Late, LetThrough, ListenerCounters,
    ListenerEntry, ListenerKey, NextHop, NextHops, Pace, PortEntry, ReturnedCookies, RuleRef,
    RuleReturns, SignatureKey, SourceSet, SynAckRecord, SynSamples,
};
use crate::wire::Segment;

/// The state of tcpguard, as the decision sees it: BPF maps in the kernel, plain collections on the host.
/// Look-ups that fail return `None`; insertions into a full table may be lost. Neither may ever turn into a
/// drop.
pub trait Tables {
    /// Boot time in ns, exact to a timer tick.
    fn now_ns(&mut self) -> u64;
    /// Time at which this CPU last saw a SYN for a listener, in ns of boot time. The packets of one connection
    /// arrive on one CPU, so that ACKs can skip the flow table where no handshake is under way.
    fn last_syn_ns(&mut self) -> &mut u64;
    /// The SYNs that this CPU saw lately.
    fn syns(&mut self) -> &mut Pace;
    /// The segments of connections that this CPU saw lately.
    fn segments(&mut self) -> &mut Pace;
    /// Counters of packets that belong to no listener.
    fn host_counters(&mut self) -> Option<&mut HostCounters>;
    /// The cell of a source that sends SYNs to where nothing listens; `index` is taken modulo the
    /// size.
    fn closed_port_source(&mut self, index: u64) -> Option<&mut ClosedPortSource>;
    /// Returns whether the segment at hand belongs to the sample of one in `2^shift`.
    fn segment_sampled(&mut self, shift: u8) -> bool;

    /// Headers of SYNs that this CPU has kept.
    fn syn_samples(&mut self) -> Option<&mut SynSamples>;
    /// Lets readers of the tables see writes from before this call before writes from after it.
    fn publish(&mut self);

    /// The listeners of a port (in network byte order).
    fn port(&self, port: [u8; 2]) -> PortEntry;
    /// A word of the filter of closed ports; `index` is taken modulo the size.
    fn closed(&mut self, index: u64) -> Option<&mut u64>;
    /// The id of the listener bound to one address.
    fn listener_at(&self, key: &ListenerKey) -> Option<u32>;
    /// The listener with this id.
    fn listener(&self, id: u32) -> Option<ListenerEntry>;
    /// Counters of a listener.
    fn listener_counters(&mut self, id: u32) -> Option<&mut ListenerCounters>;
    /// Counts of a listener's handshakes that completed late.
    fn late(&mut self, id: u32) -> Option<&mut Late>;
    /// Registers of a listener's distinct-source estimator.
    fn distinct_sources(&mut self, id: u32) -> Option<&mut [u8; HLL_REGISTERS]>;
    /// Notes for the agent a SYN-ACK that does not fit what it knows of an address and port. `origin`: its
    /// [`Origin::bit`](super::Origin::bit).
    fn note_syn_ack(&mut self, key: &ListenerKey, note: Note);
    /// This CPU's memory of whether an address is the host's own; `place` is taken modulo the size.
    fn own_address(&mut self, place: usize) -> Option<&mut OwnAddress>;

    /// A set of sampled connection attempts; `index` is taken modulo the size.
    fn flow_set(&mut self, index: u64) -> Option<&mut FlowSet>;
    /// A set of sources that never completed a handshake; `index` is taken modulo the size.
    fn source_set(&mut self, index: u64) -> Option<&mut SourceSet>;
    /// A mark of the flows that may have a handshake under way; `place` is taken modulo the size.
    fn pending(&mut self, place: usize) -> Option<&mut u8>;
    /// A number as it is, of which the compiler is to know nothing.
    fn opaque(number: u64) -> u64;
    /// A validated client.
    fn client(&mut self, addr: &Addr) -> Option<&mut Client>;
    /// Records a validated client.
    fn insert_client(&mut self, addr: &Addr, client: &Client);
    /// The slot of an IPv6 network of clients; `index` is taken modulo the size.
    fn client_network(&mut self, index: u64) -> Option<&mut ClientNetwork>;

    /// Returns whether a mark of a client filter is set; filters other than 0 and 1 do not exist.
    fn may_be_client(&self, filter: u32, mark: usize) -> bool;
    /// Sets a mark of both client filters.
    fn mark_client(&mut self, mark: usize);

    /// The rule of this set for exactly this [`Addr::client`], and this port (in network byte order) or
    /// [`crate::abi::EVERY_PORT`]; [`RuleRef::NONE`] without one.
    fn source_host(&self, set: u64, port: [u8; 2], client: &Addr) -> RuleRef;
    /// The rule of this set with the longest prefix over an address, among all others for this port;
    /// [`RuleRef::NONE`] without one.
    fn source_net(&self, set: u64, port: [u8; 2], addr: &Addr) -> RuleRef;
    /// The rule for a signature, of the set that the key names; [`RuleRef::NONE`] without one.
    fn signature_rule(&self, key: &SignatureKey) -> RuleRef;
    /// This CPU's cached search for the rule of a SYN; `place` is taken modulo the size.
    fn sig_cache_entry(&mut self, place: usize) -> Option<&mut SigCacheEntry>;
    /// This CPU's memory of a template; `place` is taken modulo the size.
    fn template(&mut self, place: usize) -> Option<&mut Template>;
    /// End of the last template that this CPU made, boot time in ns; 0 is none.
    fn templates_until_ns(&mut self) -> &mut u64;
    /// Boot time in ns at which a rule ends; 0 when there is none.
    fn rule_expiry_ns(&self, slot: u32) -> u64;
    /// This CPU's hits of a rule.
    fn rule_hits(&mut self, slot: u32) -> Option<&mut u64>;
    /// Counters of a rule that all CPUs share.
    fn rule_returns(&mut self, slot: u32) -> Option<&mut RuleReturns>;
    /// Returns whether a bit of the filter in front of the exempt prefixes is set; `place` is taken modulo the
    /// size.
    fn is_exempt_filter_clear(&self, place: usize) -> bool;
    /// The exemption of a protected or allowlisted address; all-zero when it is neither.
    fn exemption(&self, addr: &Addr) -> ExemptEntry;
    /// The bucket of an exempt address; `index` is taken modulo the size.
    fn exempt_rate(&mut self, index: u64) -> Option<&mut Bucket>;
    /// A set of the table of dropped SYNs; `index` is taken modulo the size.
    fn drop_cache_set(&mut self, index: u64) -> Option<&mut DropCacheSet>;

    /// A slot for a SYN that a signature rule matched and that passed; `index` is taken modulo the size.
    fn let_through(&mut self, index: u64) -> Option<&mut LetThrough>;

    /// This CPU's bucket of replies to a network; `index` is taken modulo the size.
    fn reply_limit(&mut self, index: u64) -> Option<&mut u32>;
    /// This CPU's bucket of replies.
    fn reply_limit_of_cpu(&mut self) -> &mut Bucket;
    /// This CPU's bucket of SYNs to closed ports.
    fn closed_ports_of_cpu(&mut self) -> &mut Bucket;
    /// The bucket of a listener's SYN budget, which all CPUs share.
    fn budget(&mut self, listener: u32) -> Option<&mut Bucket>;
    /// The bucket of a listener's retransmitted SYNs under signature rules, which all CPUs share.
    fn retransmit_budget(&mut self, listener: u32) -> Option<&mut Bucket>;
    /// The bucket of SYNs that exempt senders send to a listener, which all CPUs share.
    fn exempt_budget(&mut self, listener: u32) -> Option<&mut Bucket>;
    /// This CPU's slot for tokens of listeners' budgets; `index` is taken modulo the size.
    fn allowance(&mut self, index: u32) -> Option<&mut Allowance>;
    /// Makes a shared bucket `after`, if it is still `before`; else returns `false`.
    fn exchange(bucket: &mut Bucket, before: Bucket, after: Bucket) -> bool;

    /// The secret of the cookies.
    fn cookie_secret(&self) -> Option<&CookieSecret>;
    /// The properties of the last SYN-ACK from a local address and port.
    fn syn_ack_record(&mut self, key: &ListenerKey) -> Option<&mut SynAckRecord>;
    /// Records the properties of SYN-ACKs from there for the first time.
    fn insert_syn_ack_record(&mut self, key: &ListenerKey, record: &SynAckRecord);
    /// This CPU's memory of such a record; `place` is taken modulo the size.
    fn cached_syn_ack(&mut self, place: usize) -> Option<&mut CachedSynAck>;
    /// The number of the route to a client.
    fn route(&self, client: &Addr) -> Option<u32>;
    /// The next hops of a route.
    fn next_hops(&mut self, route: u32) -> Option<&mut NextHops>;
    /// The Ethernet address of a neighbour, where SYN-ACKs went to it.
    fn neighbour(&mut self, addr: &Addr) -> Option<&NextHop>;
    /// Records the Ethernet address of a neighbour.
    fn insert_neighbour(&mut self, addr: &Addr, hop: &NextHop);
    /// Returns whether an Ethernet address is this host's, according to the agent.
    fn is_own_mac(&self, mac: u64) -> bool;
    /// This CPU's slot for a connection that was handed to the kernel; `index` is taken modulo the size.
    fn handed_over(&mut self, index: u32) -> Option<&mut HandedOver>;
    /// A slot for a client that returned a valid cookie; `index` is taken modulo the size.
    fn cookie_network(&mut self, index: u64) -> Option<&mut CookieNetwork>;
    /// Counters of the cookies that clients returned to a listener.
    fn returned_cookies(&mut self, id: u32) -> Option<&mut ReturnedCookies>;

    /// The socket that the segment finds in the host's own socket table. With `check` a listening
    /// socket is also asked whether the segment brings back a cookie of the kernel's making.
    fn socket(&mut self, segment: &Segment, check: bool) -> Socket;
    /// The cookie that the listening socket makes for a SYN from a client with this MSS (0: not
    /// said). `None` where none listens, where there is a connection already, and where the kernel
    /// makes none.
    fn kernel_cookie(&mut self, syn: &Segment, mss: u16) -> Option<KernelCookie>;
}
