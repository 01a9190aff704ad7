//! Tables of iptables-legacy, with the rules that nf_tables does not have. getsockopt(2) on an IP
//! socket returns them: include/uapi/linux/netfilter_ipv4/ip_tables.h, netfilter_ipv6/ip6_tables.h.
//!
//! A request for a table that does not exist creates it: the kernel may load a module, and each packet
//! then passes one more table. Therefore only tables that are known to exist are requested.

mod entries;

use std::hash::{DefaultHasher, Hasher};
use std::os::fd::AsRawFd;
use std::{fs, io};

use rustix::net::{AddressFamily, SocketType};

use super::{Chain, Family, MOST_RULES};

pub use entries::{Info, chains, info};

/// `IPT_SO_GET_INFO` and `IPT_SO_GET_ENTRIES`; those of ip6_tables have the same numbers.
const GET_INFO: libc::c_int = 64;
const GET_ENTRIES: libc::c_int = 65;
/// Bytes of a table's name (`XT_TABLE_MAXNAMELEN`).
const NAME_LEN: usize = 32;
/// Size of `struct ipt_getinfo`.
const INFO_LEN: usize = 84;
/// Offsets of the size of the entries and of the first entry in `struct ipt_get_entries`.
const SIZE_AT: usize = 32;
const ENTRIES_AT: usize = 40;
/// The largest table that is read, in bytes.
const MOST_BYTES: usize = 8 << 20;
/// The most names of tables that are read: the kernel has five for each IP version.
const MOST_TABLES: usize = 16;
/// Number of requests at most for a table that is replaced meanwhile.
const ATTEMPTS: usize = 4;
/// The modules of the tables, without their prefix.
const TABLES: [&str; 5] = ["filter", "mangle", "nat", "raw", "security"];
/// The loaded modules, for all users to read.
const MODULES: &str = "/proc/modules";

/// Parameters of the requests for the tables of an IP version.
#[derive(Debug, Eq, PartialEq)]
struct Protocol {
    family: Family,
    domain: AddressFamily,
    level: libc::c_int,
    /// The file that lists the tables. Only root can read it, and the service by its `ExecStartPre`.
    names: &'static str,
    /// The module that all tables need, and the prefix of the names of their own modules.
    module: &'static str,
    prefix: &'static str,
}

static PROTOCOLS: [Protocol; 2] = [
    Protocol {
        family: Family::IPV4,
        domain: AddressFamily::INET,
        level: libc::IPPROTO_IP,
        names: "/proc/thread-self/net/ip_tables_names",
        module: "ip_tables",
        prefix: "iptable_",
    },
    Protocol {
        family: Family::IPV6,
        domain: AddressFamily::INET6,
        level: libc::IPPROTO_IPV6,
        names: "/proc/thread-self/net/ip6_tables_names",
        module: "ip6_tables",
        prefix: "ip6table_",
    },
];

/// The tables of this network namespace, by their sizes. See [`digest`] for changes that keep the sizes.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Tables {
    /// The tables that can be read.
    found: Vec<Table>,
    /// The tables that cannot be read, and why.
    pub unread: Vec<String>,
}

#[derive(Clone, Debug, Eq, PartialEq)]
struct Table {
    protocol: &'static Protocol,
    name: String,
    info: Info,
}

#[derive(Debug, Default, Eq, PartialEq)]
struct Existing {
    names: Vec<String>,
    /// Reason why that is unknown.
    unknown: Option<String>,
}

impl Tables {
    /// Returns whether there is no table that can be read.
    pub const fn is_empty(&self) -> bool {
        self.found.is_empty()
    }
}

/// The tables of this network namespace. Reads no rules.
pub fn tables() -> Tables {
    let (mut tables, mut left) = (Tables::default(), MOST_RULES);
    for protocol in &PROTOCOLS {
        let names = fs::read_to_string(protocol.names);
        let Existing { names, unknown } =
            protocol.existing(names, || fs::read_to_string(MODULES).unwrap_or_default());
        tables.unread.extend(unknown);
        for name in names {
            match protocol.info(&name) {
                Ok(info) if info.rules <= left => {
                    left -= info.rules;
                    tables.found.push(Table { protocol, name, info });
                }
                Ok(_) => tables.unread.push(protocol.unread(&name, &too_large())),
                // It was removed meanwhile.
                Err(error) if error.raw_os_error() == Some(libc::ENOENT) => {}
                Err(error) => tables.unread.push(protocol.unread(&name, &error)),
            }
        }
    }
    tables
}

/// The chains of the tables, and the tables that cannot be read.
pub fn read(tables: &Tables) -> (Vec<Chain>, Vec<String>) {
    let (mut found, mut unread) = (Vec::new(), tables.unread.clone());
    for table in &tables.found {
        match table.entries() {
            Ok((info, bytes)) => {
                found.extend(chains(table.protocol.family, &table.name, &info, &bytes));
            }
            Err(error) => unread.push(table.protocol.unread(&table.name, &error)),
        }
    }
    (found, unread)
}

/// A number that changes with the rules of the tables. Packet counters do not change it.
pub fn digest(tables: &Tables) -> u64 {
    let mut hasher = DefaultHasher::new();
    for table in &tables.found {
        if let Ok((_, mut bytes)) = table.entries() {
            entries::clear_counters(table.protocol.family, &mut bytes);
            hasher.write(&bytes);
        }
    }
    hasher.finish()
}

fn too_large() -> io::Error {
    io::Error::other(format!("more than {MOST_RULES} rules or {}MiB", MOST_BYTES >> 20))
}

/// A request about a table: its name, then zeroes up to the length of the answer.
fn request(name: &str, len: usize) -> Vec<u8> {
    let mut bytes = name.as_bytes().to_vec();
    // The last byte of the name is 0.
    bytes.truncate(NAME_LEN - 1);
    bytes.resize(len, 0);
    bytes
}

impl Protocol {
    /// Returns the tables that exist, by the file that lists them; `modules` lists the loaded modules.
    fn existing(&self, names: io::Result<String>, modules: impl FnOnce() -> String) -> Existing {
        let refused = match names {
            Ok(names) => {
                let names = names.lines().filter(|name| name.len() < NAME_LEN);
                let names = names.take(MOST_TABLES).map(str::to_owned).collect();
                return Existing { names, unknown: None };
            }
            // ip_tables is neither built in nor loaded.
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Existing::default(),
            Err(error) => error,
        };
        let modules = modules();
        let is_loaded =
            |name: &str| modules.lines().any(|line| line.split(' ').next() == Some(name));
        if !is_loaded(self.module) {
            // It is built into the kernel, as its tables may be.
            let file = self.names.rsplit('/').next().unwrap_or_default();
            let unknown = format!("{}: /proc/net/{file}: {refused}", self.family.name());
            return Existing { names: Vec::new(), unknown: Some(unknown) };
        }
        // A table does not exist while its module is not loaded. If only another namespace uses the
        // module, the request creates a table without rules here.
        let names = TABLES.iter().filter(|name| is_loaded(&format!("{}{name}", self.prefix)));
        Existing { names: names.map(|name| (*name).to_owned()).collect(), unknown: None }
    }

    /// The sizes of a table.
    fn info(&self, name: &str) -> io::Result<Info> {
        let mut answer = request(name, INFO_LEN);
        self.ask(GET_INFO, &mut answer)?;
        match info(&answer) {
            Some(info) if info.rules <= MOST_RULES && info.size <= MOST_BYTES => Ok(info),
            Some(_) => Err(too_large()),
            None => Err(io::ErrorKind::InvalidData.into()),
        }
    }

    fn unread(&self, name: &str, why: &io::Error) -> String {
        format!("{} {name}: {why}", self.family.name())
    }

    /// Sends a request. The answer replaces it.
    #[expect(unsafe_code, reason = "netfilter's socket options have no safe form in rustix")]
    fn ask(&self, option: libc::c_int, request: &mut [u8]) -> io::Result<()> {
        let socket = rustix::net::socket(self.domain, SocketType::DGRAM, None)?;
        let mut len = libc::socklen_t::try_from(request.len()).map_err(io::Error::other)?;
        // SAFETY: `request` and `len` outlive the call, and the kernel writes at most `len` bytes.
        let result = unsafe {
            libc::getsockopt(
                socket.as_raw_fd(),
                self.level,
                option,
                request.as_mut_ptr().cast(),
                &raw mut len,
            )
        };
        if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
    }
}

impl Table {
    /// The entries, and the table's current sizes.
    fn entries(&self) -> io::Result<(Info, Vec<u8>)> {
        let mut info = self.info;
        for _ in 0..ATTEMPTS {
            let mut answer = request(&self.name, ENTRIES_AT + info.size);
            let size = u32::try_from(info.size).map_err(io::Error::other)?;
            answer[SIZE_AT..][..size_of::<u32>()].copy_from_slice(&size.to_ne_bytes());
            match self.protocol.ask(GET_ENTRIES, &mut answer) {
                Ok(()) => {
                    answer.drain(..ENTRIES_AT);
                    return Ok((info, answer));
                }
                // Its size has changed.
                Err(error) if error.raw_os_error() == Some(libc::EAGAIN) => {
                    info = self.protocol.info(&self.name)?;
                }
                Err(error) => return Err(error),
            }
        }
        Err(io::Error::from_raw_os_error(libc::EAGAIN))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(errno: i32) -> io::Result<String> {
        Err(io::Error::from_raw_os_error(errno))
    }

    #[test]
    fn only_tables_that_exist_are_requested() {
        let ipv4 = &PROTOCOLS[0];
        let none = || -> String { panic!("the modules are not read") };
        let listed = ipv4.existing(Ok("filter\nraw\n".to_owned()), none);
        assert_eq!(listed.names, ["filter", "raw"]);
        assert_eq!(ipv4.existing(Ok(String::new()), none), Existing::default());
        assert_eq!(ipv4.existing(refused(libc::ENOENT), none), Existing::default());
        // Only root can read the names, and the modules show which tables exist.
        let modules = "xt_tcpudp 16384 2 - Live 0x0\niptable_raw 16384 1 - Live 0x0\n\
                       ip_tables 36864 2 iptable_raw, Live 0x0\nip6table_filter 16384 0 - Live 0x0\n";
        let found = ipv4.existing(refused(libc::EACCES), || modules.to_owned());
        assert_eq!(found, Existing { names: vec!["raw".to_owned()], unknown: None });
        let found =
            ipv4.existing(refused(libc::EACCES), || "ip_tables 36864 0 - Live 0x0\n".to_owned());
        assert_eq!(found, Existing::default());
    }

    #[test]
    fn tables_that_may_be_built_in_are_reported_and_not_requested() {
        let ipv4 = &PROTOCOLS[0];
        for modules in ["", "xt_tcpudp 16384 2 - Live 0x0\n"] {
            let found = ipv4.existing(refused(libc::EACCES), || modules.to_owned());
            assert_eq!(found.names, [""; 0]);
            let unknown = found.unknown.expect("a reason");
            assert!(unknown.starts_with("ip: /proc/net/ip_tables_names: "), "{unknown}");
        }
    }

    #[test]
    fn a_request_has_a_name_that_ends() {
        for name in ["", "filter", "x".repeat(100).as_str()] {
            let request = request(name, INFO_LEN);
            assert_eq!((request.len(), request[NAME_LEN - 1]), (INFO_LEN, 0), "{name}");
        }
    }

    #[test]
    fn packet_counters_are_no_change_of_the_rules() {
        let entry = |counter: u8| {
            let mut bytes = vec![0; 152];
            bytes[88..90].copy_from_slice(&112u16.to_ne_bytes());
            bytes[90..92].copy_from_slice(&152u16.to_ne_bytes());
            bytes[96..112].fill(counter);
            bytes
        };
        let mut counted = [entry(1), entry(2)].concat();
        entries::clear_counters(Family::IPV4, &mut counted);
        assert_eq!(counted, [entry(0), entry(0)].concat());
    }

    #[test]
    fn reading_tables_creates_none() {
        let names = || PROTOCOLS.each_ref().map(|one| fs::read_to_string(one.names).ok());
        let before = names();
        let found = tables();
        let (chains, _) = read(&found);
        assert_eq!(found.is_empty(), chains.is_empty());
        digest(&found);
        assert_eq!(names(), before);
    }
}
