use std::io::Cursor;

use super::*;

#[derive(Default)]
struct Writer {
    types: Vec<u8>,
    strings: Vec<u8>,
    count: u32,
}

impl Writer {
    fn new() -> Self {
        Self { strings: vec![0], ..Self::default() }
    }

    fn name(&mut self, name: &str) -> u32 {
        if name.is_empty() {
            return 0;
        }
        let offset = self.strings.len() as u32;
        self.strings.extend_from_slice(name.as_bytes());
        self.strings.push(0);
        offset
    }

    fn words(&mut self, words: &[u32]) {
        self.types.extend(words.iter().flat_map(|word| word.to_ne_bytes()));
    }

    /// A record without name, and its trailer; returns its id.
    fn plain(&mut self, kind: u32, vlen: u32, size_or_type: u32, trailer: &[u32]) -> u32 {
        self.words(&[0, kind << 24 | vlen, size_or_type]);
        self.words(trailer);
        self.count += 1;
        self.count
    }

    /// A structure with members (name, type id, offset as recorded).
    fn structure(&mut self, info: u32, name: &str, members: &[(&str, u32, u32)]) -> u32 {
        let name = self.name(name);
        let members: Vec<_> =
            members.iter().flat_map(|&(member, id, at)| [self.name(member), id, at]).collect();
        self.words(&[name, info | (members.len() / 3) as u32, 64]);
        self.words(&members);
        self.count += 1;
        self.count
    }

    fn bytes(&self) -> Vec<u8> {
        let mut bytes = MAGIC.to_ne_bytes().to_vec();
        bytes.extend([1, 0]);
        let (types, strings) = (self.types.len() as u32, self.strings.len() as u32);
        for word in [24, 0, types, types, strings] {
            bytes.extend(word.to_ne_bytes());
        }
        bytes.extend(&self.types);
        bytes.extend(&self.strings);
        bytes
    }
}

const STRUCT: u32 = kind::STRUCT << 24;
const UNION: u32 = kind::UNION << 24;
const BIT_FIELDS: u32 = 1 << 31;

/// A kernel's `sock`, `sock_common` and `net`, with records of every kind between them.
fn kernel() -> Vec<u8> {
    let mut w = Writer::new();
    let int = w.plain(kind::INT, 0, 4, &[32]);
    w.plain(kind::ARRAY, 0, 0, &[int, int, 8]);
    w.plain(kind::ENUM, 2, 4, &[0, 1, 0, 2]);
    w.plain(kind::FUNC_PROTO, 1, int, &[0, int]);
    w.plain(kind::VAR, 0, int, &[1]);
    w.plain(kind::DATASEC, 1, 0, &[5, 0, 4]);
    w.plain(kind::DECL_TAG, 0, int, &[0]);
    w.plain(kind::ENUM64, 1, 8, &[0, 1, 0]);
    w.plain(16, 0, 4, &[]);
    // Two addresses in a structure, in a union, as the kernel has it; the union is const.
    let pair = w.structure(STRUCT, "", &[("skc_daddr", int, 0), ("skc_rcv_saddr", int, 32)]);
    let addresses = w.structure(UNION, "", &[("skc_addrpair", int, 0), ("", pair, 0)]);
    let addresses = w.plain(kind::CONST, 0, addresses, &[]);
    let ports = w.structure(STRUCT, "", &[("skc_dport", int, 0), ("skc_num", int, 16)]);
    let common = w.structure(
        STRUCT | BIT_FIELDS,
        "sock_common",
        &[
            ("", addresses, 0),
            ("", ports, 96),
            ("skc_family", int, 128),
            ("skc_state", int, 144),
            ("skc_reuse", int, 4 << 24 | 156),
            ("skc_net", int, 384),
            ("skc_v6_daddr", int, 448),
            ("skc_v6_rcv_saddr", int, 576),
        ],
    );
    w.structure(STRUCT, "sock", &[("__sk_common", common, 0), ("sk_rx_dst_ifindex", int, 1088)]);
    let ns = w.structure(STRUCT, "ns_common", &[("stashed", int, 0), ("inum", int, 128)]);
    w.structure(STRUCT, "net", &[("ifindex", int, 0), ("ns", ns, 256), ("net_cookie", int, 512)]);
    w.bytes()
}

#[test]
fn members_are_found_also_within_anonymous_structures() {
    let bytes = kernel();
    let find = |has_cookies| {
        Btf::parse(&bytes).and_then(|btf| SocketOffsets::find(&btf, has_cookies)).unwrap()
    };
    assert_eq!(
        find(false),
        SocketOffsets {
            sock_common: 0,
            family: 16,
            state: 18,
            num: 14,
            dport: 12,
            daddr: 0,
            rcv_saddr: 4,
            v6_daddr: 56,
            v6_rcv_saddr: 72,
            net: 48,
            net_cookie: 64,
            incoming: 136,
            net_number: 48,
        }
    );
    assert_eq!(find(true), SocketOffsets { net_number: 0, ..find(false) });
}

#[test]
fn what_is_missing_is_named() {
    let bytes = kernel();
    let btf = Btf::parse(&bytes).expect("well formed");
    for (structure, member, message) in [
        ("tcp_sock", "srtt_us", "there is no struct tcp_sock"),
        ("net", "cookie", "struct net has no cookie"),
        ("net", "net_cook", "struct net has no net_cook"),
        ("sock", "skc_state", "struct sock has no skc_state"),
        ("sock_common", "skc_reuse", "skc_reuse of struct sock_common is a bit-field"),
    ] {
        assert_eq!(btf.offset_of(structure, member), Err(message.into()));
    }
}

#[test]
fn cut_data_is_refused() {
    let bytes = kernel();
    for cut in 0..bytes.len() {
        assert!(Btf::parse(&bytes[..cut]).is_err(), "cut at {cut}");
    }
}

#[test]
fn damaged_data_is_refused_or_read_without_harm() {
    let whole = kernel();
    let mut refused = 0;
    for at in 0..whole.len() {
        for value in [0, 1, 0x7f, 0x80, 0xff] {
            let mut bytes = whole.clone();
            bytes[at] = value;
            let found = Btf::parse(&bytes).and_then(|btf| SocketOffsets::find(&btf, false));
            refused += u32::from(found.is_err());
        }
    }
    assert!(refused > 0);
}

#[test]
fn a_structure_within_itself_ends() {
    let mut w = Writer::new();
    w.structure(STRUCT, "loop", &[("", 1, 8)]);
    let bytes = w.bytes();
    let btf = Btf::parse(&bytes).expect("well formed");
    assert_eq!(btf.offset_of("loop", "member"), Err("struct loop has no member".into()));
}

#[test]
fn a_qualifier_of_itself_ends() {
    let mut w = Writer::new();
    w.plain(kind::CONST, 0, 1, &[]);
    w.structure(STRUCT, "loop", &[("", 1, 0), ("member", 1, 64)]);
    let bytes = w.bytes();
    assert_eq!(Btf::parse(&bytes).and_then(|btf| btf.offset_of("loop", "member")), Ok(8));
}

#[test]
fn the_running_kernels_sockets_are_understood() {
    let offsets = SocketOffsets::of_running_kernel().expect("a kernel with BTF");
    assert_eq!(offsets.sock_common, 0);
    assert_eq!(offsets.rcv_saddr, offsets.daddr + 4);
    assert_eq!(offsets.num, offsets.dport + 2);
    assert_eq!(offsets.v6_rcv_saddr, offsets.v6_daddr + 16);
    assert_ne!(offsets.incoming, 0);
}

#[test]
fn functions_are_found_by_name_and_ids_count_from_one() {
    let mut writer = Writer::new();
    let void = writer.plain(kind::FUNC_PROTO, 0, 0, &[]);
    let name = writer.name("bpf_sk_assign_tcp_reqsk");
    writer.words(&[name, kind::FUNC << 24, void]);
    let bytes = writer.bytes();
    let names = ["bpf_sk_assign_tcp_reqsk", "bpf_nothing", "sk_assign_tcp_reqsk"];
    let ids = functions_in(Cursor::new(&bytes), &names).unwrap();
    assert_eq!(ids, BTreeMap::from([("bpf_sk_assign_tcp_reqsk", 2)]));
}

#[test]
fn functions_are_found_behind_records_of_every_kind_and_not_in_cut_or_other_data() {
    let bytes = kernel();
    assert_eq!(functions_in(Cursor::new(&bytes), &["sock"]), Ok(BTreeMap::new()));
    for cut in 0..bytes.len() {
        assert!(functions_in(Cursor::new(&bytes[..cut]), &["sock"]).is_err(), "cut at {cut}");
    }
    assert!(functions_in(Cursor::new(&b"no BTF, but long enough for a header"[..]), &[]).is_err());
}

#[test]
fn a_function_of_the_running_kernel_has_an_id() {
    let found = functions(&["tcp_v4_rcv", "bpf_nothing"]).expect("a kernel with BTF");
    assert_eq!(found.keys().collect::<Vec<_>>(), [&"tcp_v4_rcv"]);
}
