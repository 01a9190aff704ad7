//! The default gateway in large routing tables. Needs root.

use std::fmt::Write as _;
use std::io::Write as _;
use std::net::IpAddr;
use std::process::Stdio;

use tcpguard_host::linux::{cpu_time, default_gateways};
use tcpguard_kit::net::netns::Netns;

/// Larger than the number of routes that were once read in all.
const ROUTES: u32 = 20_000;

fn batch(host: &Netns, family: &str, lines: &str) {
    let mut ip = host.command("ip").unwrap();
    let mut child = ip.args([family, "-batch", "-"]).stdin(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(lines.as_bytes()).unwrap();
    assert!(child.wait().unwrap().success());
}

fn add_many_routes(host: &Netns, table: u32) {
    let (mut v4, mut v6) = (String::new(), String::new());
    for n in 0..ROUTES {
        let (high, low) = (n >> 8, n & 255);
        writeln!(v4, "route add 100.64.{high}.{low}/32 via 10.9.0.1 table {table}").unwrap();
        writeln!(v6, "route add 2001:db8:1::{n:x}/128 via fe80::1 dev d0 table {table}").unwrap();
    }
    batch(host, "-4", &v4);
    batch(host, "-6", &v6);
}

fn addresses(texts: &[&str]) -> Vec<IpAddr> {
    texts.iter().map(|text| text.parse().unwrap()).collect()
}

/// One that is before main, main itself, and one behind a rule for marked packets, whose IPv6 default route is the last
/// of its routes. The naive variant reads the first 16,384 routes of all tables together.
#[test]
fn the_default_gateway_is_found_behind_large_tables_and_in_them() {
    let router = Netns::new("router").unwrap();
    batch(
        &router,
        "-4",
        "link add d0 type veth peer name d1\n\
         link set d1 up\n\
         link set d0 up\n\
         address add 10.9.0.2/16 dev d0\n\
         route add default via 10.9.0.1\n\
         rule add fwmark 7 table 10\n\
         route add default via 10.9.0.7 table 10\n\
         rule add from 10.9.0.2 table 70000\n\
         route add default via 10.9.0.8 table 70000\n",
    );
    batch(
        &router,
        "-6",
        "route add default via fe80::1 dev d0\n\
         rule add fwmark 7 table 10\n\
         route add default via fe80::7 dev d0 table 10\n",
    );
    let found = || router.run(|| Ok(default_gateways()?)).unwrap();
    let all = addresses(&["10.9.0.1", "10.9.0.7", "10.9.0.8", "fe80::1", "fe80::7"]);
    assert_eq!(found(), all, "in small tables");
    let cost = || {
        let cost = router.run(|| {
            let begun = cpu_time();
            default_gateways()?;
            Ok(cpu_time().saturating_sub(begun))
        });
        cost.unwrap()
    };
    let small = cost();
    for table in [10, 254] {
        add_many_routes(&router, table);
    }
    assert_eq!(found(), all, "in large ones");
    let large = cost();
    // It is read every 5 s.
    println!("CPU time: {small:?} in small tables, {large:?} in tables of {ROUTES} routes");
    assert!(large.as_millis() < 50, "{large:?}");

    for family in ["-4", "-6"] {
        let listed = router.exec(&format!("ip {family} route show table all")).unwrap();
        let naive = listed.lines().take(16_384).filter(|line| line.starts_with("default"));
        let naive: Vec<&str> = naive.collect();
        assert!(naive.len() < 2, "the naive variant finds all, so this shows nothing: {naive:?}");
    }
}
