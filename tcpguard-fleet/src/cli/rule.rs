//! `tcpguard-fleet block`, `allow` and `unblock`: rules of operators, signed and stored.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::json;
use tcpguard_engine::Ports;
use tcpguard_host::hint::Failure;
use tcpguard_host::time::{Clock, Time};
use tcpguard_host::{json, units};

use super::args::{Global, RuleArgs};
use super::error::CliError;
use super::{block_on, status};
use crate::bus::{Bus as _, Nats};
use crate::collect::FleetStatus;
use crate::config::Config;
use crate::daemon::{Paths, StartError, clock, connect, no_connection};
use crate::document::{Document, Label, RuleBody, RuleKey, RuleKind, SignedRule};
use crate::hook::secret::Secret;
use crate::trust::{MAX_RULE_TIME, OperatorKey, Reason, RuleName};

/// Time for a connection to the bus.
const CONNECT: Duration = Duration::from_secs(5);
/// Time between two looks at the connection.
const LOOK: Duration = Duration::from_millis(20);

/// Makes and stores a rule.
pub(super) fn run(
    kind: RuleKind,
    args: &RuleArgs,
    global: &Global,
    paths: &Paths,
    out: &mut dyn Write,
) -> Result<(), CliError> {
    let config = Config::read(&paths.config)?;
    let (role, key) = operator(args, &config)?;
    let now = clock();
    let rule = body(kind, args, &who(), now)?;
    let signed = key.sign(role.clone(), &rule).map_err(|error| {
        CliError::usage(format!("the rule is refused: {error}"), "tcpguard-fleet block --help")
    })?;
    check(&config, now, &signed)?;
    let name = RuleName { role: role.clone(), serial: rule.serial };
    if args.dry_run {
        let fleet = status::fleet(paths)?;
        return Ok(show_reach(&name, &rule, &fleet, global.json, out)?);
    }
    let key = RuleKey { role, target: rule.target() }.to_string();
    let document = Document::Rule(signed).to_json().map_err(|error| {
        CliError::usage(format!("the rule is refused: {error}"), "shorten --reason and --hosts")
    })?;
    let position = block_on(async {
        let bus = connected(&config).await?;
        bus.store(&key, Some(document)).await.map_err(|error| {
            let hint =
                "use credentials of an operator, and make the store: tcpguard-fleet make-store";
            Failure::new(format!("the rule is not stored: {error}"), hint).into()
        })
    })?;
    match global.json {
        true => {
            let made =
                json!({ "rule": name.to_string(), "position": position, "ends": rule.not_after });
            out.write_all(&json::bytes(&made).map_err(std::io::Error::from)?)?;
            writeln!(out)?;
        }
        false => writeln!(out, "{}", describe(&name, &rule, args.lifetime))?,
    }
    Ok(())
}

/// A connection to the bus, with the credentials of the configuration.
pub(super) async fn connected(config: &Config) -> Result<Nats, StartError> {
    let bus = connect(config, &config.host()?).await?;
    let mut waited = Duration::ZERO;
    while !bus.status().connected {
        if waited >= CONNECT {
            return Err(no_connection(bus.status()).into());
        }
        tokio::time::sleep(LOOK).await;
        waited += LOOK;
    }
    Ok(bus)
}

/// Role and key of the operator, by the command line or the configuration.
fn operator(args: &RuleArgs, config: &Config) -> Result<(Label, OperatorKey), CliError> {
    let missing = |what: &str| {
        let hint = format!("use --{what}, or set operator.{what} in the configuration");
        CliError::usage(format!("no {what} of an operator"), hint)
    };
    let role = args.role.clone().or_else(|| config.operator.role.clone());
    let key = args.key.clone().or_else(|| config.operator.key.clone());
    let role = role.ok_or_else(|| missing("role"))?;
    Ok((role, read_key(&key.ok_or_else(|| missing("key"))?)?))
}

/// The key in a file that only its owner may read.
pub(super) fn read_key(path: &Path) -> Result<OperatorKey, Failure> {
    let secret = Secret::read(path)?;
    let text = String::from_utf8_lossy(secret.bytes());
    OperatorKey::parse(&text).map_err(|error| {
        let hint = format!("make another one: tcpguard-fleet key {}", with_suffix(path).display());
        Failure::new(format!("{} is {error}", path.display()), hint)
    })
}

fn with_suffix(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".new");
    name.into()
}

fn body(kind: RuleKind, args: &RuleArgs, who: &str, now: Clock) -> Result<RuleBody, CliError> {
    let ports = Ports::new(&args.ports).map_err(|error| {
        CliError::usage(format!("--port: {error}"), "tcpguard-fleet block --help")
    })?;
    // A revocation is remembered for as long as the rule could last.
    let lifetime = if kind == RuleKind::Revoke { MAX_RULE_TIME } else { args.lifetime };
    let ends = now.wall.checked_add(lifetime).map_err(|_| {
        CliError::usage("--for: the time is too long", "tcpguard-fleet block --help")
    })?;
    Ok(RuleBody {
        kind,
        prefix: args.prefix,
        ports,
        hosts: args.hosts.clone(),
        not_after: Time(ends),
        reason: args.reason.clone(),
        who: who.chars().take(RuleBody::MAX_WHO / 4).collect(),
        // Rising over all machines of an operator whose clocks are right.
        serial: u64::try_from(now.wall.as_millisecond()).unwrap_or_default(),
    })
}

/// Name of the operator, as far as the environment has one.
fn who() -> String {
    let variables = ["SUDO_USER", "USER", "LOGNAME"];
    let name = variables.iter().find_map(|name| std::env::var(name).ok());
    name.filter(|name| !name.is_empty()).unwrap_or_else(|| "unknown".to_owned())
}

/// Checks the rule as a host would, where the configuration has the role.
fn check(config: &Config, now: Clock, signed: &SignedRule) -> Result<(), CliError> {
    let (what, hint) = match config.roles.check(now, signed) {
        Ok(_) | Err(Reason::UnknownRole) => return Ok(()),
        Err(Reason::UnknownKey) => {
            ("the role has another key here", "use --key with the key of the role")
        }
        Err(Reason::NotPermitted) => {
            ("the role may not make such rules", "use --role with another role")
        }
        Err(Reason::TooWide) => (
            "the prefix is wider than the role may name",
            "name narrower prefixes, or raise role.widest_ipv4 on each host",
        ),
        Err(Reason::EndsTooLate) => (
            "the role may not make rules for so long",
            "use a shorter --for, or raise role.longest_h on each host",
        ),
        Err(reason) => (reason.name(), "tcpguard-fleet block --help"),
    };
    Err(CliError::usage(format!("hosts would refuse the rule: {what}"), hint))
}

fn describe(name: &RuleName, rule: &RuleBody, lifetime: Duration) -> String {
    let (prefix, ports, hosts) = (rule.prefix, rule.ports, &rule.hosts);
    let lifetime = units::span(lifetime);
    match rule.kind {
        RuleKind::Block => format!("{name} blocks {prefix}{ports} for {lifetime}; hosts: {hosts}"),
        RuleKind::Allow => format!("{name} allows {prefix} for {lifetime}; hosts: {hosts}"),
        RuleKind::Revoke => format!("{name} ends the rule on {prefix}{ports}; hosts: {hosts}"),
    }
}

/// Shows the hosts that the rule would reach.
fn show_reach(
    name: &RuleName,
    rule: &RuleBody,
    fleet: &FleetStatus,
    is_json: bool,
    out: &mut dyn Write,
) -> std::io::Result<()> {
    let selected =
        fleet.hosts.iter().filter(|host| rule.hosts.matches(&host.host, host.site.as_ref()));
    let (silent, reached): (Vec<_>, Vec<_>) = selected.partition(|host| host.silent);
    if is_json {
        let names = |hosts: &[&crate::collect::FleetHost]| -> Vec<String> {
            hosts.iter().map(|host| host.host.to_string()).collect()
        };
        let reach = json!({
            "rule": name.to_string(),
            "dry_run": true,
            "hosts": names(&reached),
            "silent": names(&silent),
        });
        out.write_all(&json::bytes(&reach)?)?;
        return writeln!(out);
    }
    let hosts = units::counted(reached.len() as u64, "host");
    writeln!(out, "{} would be reached of {}, {} silent", hosts, fleet.hosts.len(), silent.len())?;
    for host in reached {
        writeln!(out, "  {}  {}", host.host, host.hostname)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::super::args::{Args, Verb};
    use super::*;
    use crate::collect::Collector;
    use crate::document::tests::{envelope, heartbeat};
    use crate::document::{Envelope, Subject};
    use crate::trust::{Role, Roles};

    fn args(line: &str) -> RuleArgs {
        let words = line.split(' ').map(str::to_owned);
        match Args::try_parse_from(words).expect("a command line").verb {
            Verb::Block(args) | Verb::Allow(args) | Verb::Unblock(args) => args,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn an_end_is_for_the_same_target_as_its_rule() {
        let block =
            args("tcpguard-fleet block 203.0.113.0/24 --port 443 --hosts site=fra --for 2h");
        let now = clock();
        let rule = body(RuleKind::Block, &block, "ada", now).expect("a rule");
        let seconds = rule.not_after.0.as_second() - now.wall.as_second();
        assert_eq!((rule.who.as_str(), seconds), ("ada", 7200));
        let unblock = args("tcpguard-fleet unblock 203.0.113.0/24 --port 443 --hosts site=fra");
        let later = Clock { wall: now.wall.checked_add(Duration::from_secs(1)).unwrap(), ..now };
        let end = body(RuleKind::Revoke, &unblock, "ada", later).expect("a rule");
        assert_eq!(rule.target(), end.target());
        assert!(end.serial > rule.serial && end.not_after > rule.not_after);
        let name = RuleName { role: "ops".parse().unwrap(), serial: 42 };
        let text = describe(&name, &rule, block.lifetime);
        assert_eq!(text, "fleet:ops/42 blocks 203.0.113.0/24 to port 443 for 2h; hosts: site=fra");
        let many = args("tcpguard-fleet block 203.0.113.7 --port 1,2,3,4,5");
        assert!(body(RuleKind::Block, &many, "ada", now).is_err());
    }

    #[test]
    fn a_rule_that_hosts_would_refuse_is_refused_here() {
        let key = OperatorKey::from_seed(&[7; 32]);
        let role: Label = "ops".parse().unwrap();
        let path = Path::new("/no/such/fleet.toml");
        let directory = tempfile::tempdir().unwrap();
        let empty = directory.path().join("fleet.toml");
        assert!(Config::read(path).is_err());
        std::fs::write(&empty, "").unwrap();
        let mut config = Config::read(&empty).expect("a configuration");
        let now = clock();
        let signed = |line: &str| {
            let rule = body(RuleKind::Block, &args(line), "ada", now).expect("a rule");
            key.sign(role.clone(), &rule).expect("signed")
        };
        let wide = signed("tcpguard-fleet block 203.0.0.0/8");
        assert_eq!(check(&config, now, &wide), Ok(()), "the role is not known here");
        config.roles = Roles([(role.clone(), Role::new(vec![key.public()]))].into());
        let error = check(&config, now, &wide).expect_err("too wide");
        assert!(error.failure.message.ends_with("wider than the role may name"), "{error:?}");
        let late = signed("tcpguard-fleet block 203.0.113.7 --for 10d");
        let error = check(&config, now, &late).expect_err("too late");
        assert!(error.failure.hint.contains("--for"), "{error:?}");
        assert_eq!(check(&config, now, &signed("tcpguard-fleet block 203.0.113.7")), Ok(()));
        let none = operator(&args("tcpguard-fleet block 203.0.113.7"), &config);
        assert!(none.is_err_and(|error| error.failure.hint.contains("--role")));
    }

    #[test]
    fn a_dry_run_names_the_hosts() {
        let mut collector = Collector::new(clock().now);
        for (number, site) in [(7, "fra"), (8, "ams")] {
            let site = Some(site.parse().unwrap());
            let at = Time(clock().wall);
            let host = heartbeat(Envelope { site, at, ttl_s: 90, ..envelope(number, 1) });
            let document = Document::Host(host);
            let subject = Subject::of(&document).unwrap().to_string();
            let bytes = document.to_json().unwrap();
            collector.handle_document(clock(), &subject, &bytes).expect("taken");
        }
        let fleet = collector.status(clock());
        let block = args("tcpguard-fleet block 203.0.113.0/24 --hosts site=fra");
        let rule = body(RuleKind::Block, &block, "ada", clock()).expect("a rule");
        let name = RuleName { role: "ops".parse().unwrap(), serial: 42 };
        let shown = |is_json| {
            let mut out = Vec::new();
            show_reach(&name, &rule, &fleet, is_json, &mut out).expect("written");
            String::from_utf8(out).expect("text")
        };
        let text = shown(false);
        assert!(text.starts_with("1 host would be reached of 2, 0 silent\n  00000007"), "{text}");
        assert!(shown(true).contains("\"hosts\":[\"00000007\"]"));
    }
}
