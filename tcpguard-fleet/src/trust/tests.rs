//! Operators' rules from signature to end.

use std::time::Duration;

use tcpguard_engine::{Ports, Timestamp};
use tcpguard_host::time::{Clock, Time};

use super::*;
use crate::document::tests::{AT, host, time};
use crate::document::{HostSelector, Label, RuleBody, RuleKey, RuleKind, SignedRule};

const HOUR: Duration = Duration::from_secs(3600);

fn clock(after: Duration) -> Clock {
    let wall = time(AT).0.checked_add(after).expect("a time");
    Clock { now: Timestamp::from_millis(1_000_000) + after, wall }
}

fn label(text: &str) -> Label {
    text.parse().expect("a name")
}

fn operator() -> OperatorKey {
    OperatorKey::from_seed(&[7; 32])
}

fn roles(role: Role) -> Roles {
    Roles([(label("ops"), role)].into())
}

fn starting() -> OperatorRules {
    let own = Identity { host: host(1), boot: 1 };
    OperatorRules::new(own, Some(label("fra")), roles(Role::new(vec![operator().public()])))
}

/// A rule that blocks a network for an hour.
fn block(serial: u64) -> RuleBody {
    RuleBody {
        kind: RuleKind::Block,
        prefix: "203.0.113.0/24".parse().expect("a prefix"),
        ports: Ports::EVERY,
        hosts: HostSelector::default(),
        not_after: Time(clock(HOUR).wall),
        reason: "abuse".to_owned(),
        who: "ada".to_owned(),
        serial,
    }
}

fn signed(rule: &RuleBody) -> (RuleKey, SignedRule) {
    let key = RuleKey { role: label("ops"), target: rule.target() };
    (key, operator().sign(label("ops"), rule).expect("signed"))
}

fn accept(rules: &mut OperatorRules, after: Duration, rule: &RuleBody) -> Result<Change, Reason> {
    let (key, signed) = signed(rule);
    rules.accept(clock(after), &key, &signed)
}

#[test]
fn a_rule_of_an_operator_is_active_until_its_end() {
    let mut rules = starting();
    let Ok(Change::Set { rule, replaced: None }) = accept(&mut rules, Duration::ZERO, &block(42))
    else {
        panic!("accepted");
    };
    assert_eq!((rule.name.to_string().as_str(), rule.remaining), ("fleet:ops/42", HOUR));
    assert_eq!(accept(&mut rules, HOUR / 2, &block(42)), Ok(Change::None), "read again");
    let now = clock(HOUR / 2);
    assert!(rules.expire(now).is_empty());
    assert_eq!(rules.rules(now.now).next().expect("active").remaining, HOUR / 2);
    assert_eq!(rules.expire(clock(HOUR)), vec![rule.name]);
    assert!(rules.is_empty());
    assert_eq!(accept(&mut rules, HOUR, &block(42)), Ok(Change::None), "over");
}

#[test]
fn a_clock_that_is_set_back_makes_no_rule_last_longer() {
    let mut rules = starting();
    accept(&mut rules, Duration::ZERO, &block(42)).expect("accepted");
    let later = Clock { wall: clock(Duration::ZERO).wall, ..clock(HOUR) };
    assert_eq!(rules.expire(later).len(), 1);
    let (key, signed) = signed(&block(42));
    assert_eq!(rules.accept(later, &key, &signed), Ok(Change::None), "read again");
}

#[test]
fn a_rule_returns_after_a_wrong_clock() {
    let mut rules = starting();
    accept(&mut rules, Duration::ZERO, &block(42)).expect("accepted");
    let is_back = |rules: &mut OperatorRules, now: Clock| {
        let (key, signed) = signed(&block(42));
        matches!(rules.accept(now, &key, &signed), Ok(Change::Set { .. }))
    };
    let right = clock(HOUR / 4);
    let day = 24 * HOUR;
    let ahead = Clock { now: right.now, wall: right.wall.checked_add(day).expect("a time") };
    let behind = Clock { now: right.now, wall: right.wall.checked_sub(2 * day).expect("a time") };
    // The clock jumps.
    assert_eq!(rules.expire(ahead).len(), 1);
    assert!(is_back(&mut rules, right));
    // The process starts before the clock is right.
    for wrong in [ahead, behind] {
        let mut restarted = starting();
        restarted.restore(wrong, rules.saved());
        assert!(restarted.is_empty());
        assert!(is_back(&mut restarted, right));
    }
    // The role was away.
    assert_eq!(rules.set_roles(right, Roles::default()).len(), 1);
    rules.set_roles(right, roles(Role::new(vec![operator().public()])));
    assert!(is_back(&mut rules, right));
}

/// With the highest serial of all, a stolen key would block its role after it was replaced.
#[test]
fn a_serial_ahead_of_the_clock_is_refused() {
    let mut rules = starting();
    let now = u64::try_from(clock(Duration::ZERO).wall.as_millisecond()).expect("after 1970");
    let latest = now + MAX_SKEW.as_millis() as u64;
    let refused = accept(&mut rules, Duration::ZERO, &block(latest + 1));
    assert_eq!(refused, Err(Reason::ClockSkew));
    assert!(accept(&mut rules, Duration::ZERO, &block(latest)).is_ok());
}

#[test]
fn a_revoked_rule_does_not_return() {
    let mut rules = starting();
    accept(&mut rules, Duration::ZERO, &block(42)).expect("accepted");
    let revoke = RuleBody { kind: RuleKind::Revoke, ..block(43) };
    let name = RuleName { role: label("ops"), serial: 42 };
    assert_eq!(accept(&mut rules, HOUR / 4, &revoke), Ok(Change::Ended(name)));
    assert_eq!(accept(&mut rules, HOUR / 4, &revoke), Ok(Change::None), "read again");
    assert_eq!(accept(&mut rules, HOUR / 2, &block(42)), Err(Reason::Superseded));

    // Over a restart neither.
    let saved = rules.saved();
    let mut restarted = starting();
    restarted.restore(clock(HOUR / 2), saved);
    assert_eq!(accept(&mut restarted, HOUR / 2, &block(42)), Err(Reason::Superseded));
    assert!(matches!(accept(&mut restarted, HOUR / 2, &block(44)), Ok(Change::Set { .. })));
}

#[test]
fn a_later_rule_for_the_same_target_replaces_the_earlier_one() {
    let mut rules = starting();
    accept(&mut rules, Duration::ZERO, &block(42)).expect("accepted");
    let allow = RuleBody { kind: RuleKind::Allow, ..block(43) };
    let Ok(Change::Set { rule, replaced }) = accept(&mut rules, Duration::ZERO, &allow) else {
        panic!("accepted");
    };
    assert!(rule.allows);
    assert_eq!(replaced.map(|name| name.serial), Some(42));
    assert_eq!(rules.len(), 1);
    let other = RuleBody { ports: Ports::new(&[443]).expect("a port"), ..block(44) };
    accept(&mut rules, Duration::ZERO, &other).expect("accepted");
    assert_eq!(rules.len(), 2, "another target");
}

#[test]
fn a_rule_that_no_operator_may_make_is_refused_with_the_reason() {
    let day = Duration::from_secs(24 * 3600);
    let prefix = |text: &str| text.parse().expect("a prefix");
    let mut rules = starting();
    for (rule, reason) in [
        (RuleBody { prefix: prefix("10.0.0.0/8"), ..block(1) }, Reason::TooWide),
        (RuleBody { prefix: prefix("2001::/16"), ..block(1) }, Reason::TooWide),
        (RuleBody { not_after: Time(clock(2 * day).wall), ..block(1) }, Reason::EndsTooLate),
    ] {
        assert_eq!(accept(&mut rules, Duration::ZERO, &rule), Err(reason));
    }
    let (key, good) = signed(&block(1));
    let other = OperatorKey::from_seed(&[8; 32]);
    let now = clock(Duration::ZERO);
    let by_other = other.sign(label("ops"), &block(1)).expect("signed");
    assert_eq!(rules.accept(now, &key, &by_other), Err(Reason::UnknownKey));
    let named = SignedRule { key: good.key.clone(), ..by_other };
    assert_eq!(rules.accept(now, &key, &named), Err(Reason::BadSignature));
    let unknown = operator().sign(label("noc"), &block(1)).expect("signed");
    assert_eq!(rules.accept(now, &key, &unknown), Err(Reason::UnknownRole));
    let (elsewhere, _) = signed(&RuleBody { prefix: prefix("198.51.100.0/24"), ..block(1) });
    assert_eq!(rules.accept(now, &elsewhere, &good), Err(Reason::Mismatch));
    assert!(rules.is_empty());
    assert!(matches!(rules.accept(now, &key, &good), Ok(Change::Set { .. })));
}

#[test]
fn a_role_without_the_permission_is_refused() {
    let role = Role { allow: false, ..Role::new(vec![operator().public()]) };
    let own = Identity { host: host(1), boot: 1 };
    let mut rules = OperatorRules::new(own, None, roles(role));
    let allow = RuleBody { kind: RuleKind::Allow, ..block(1) };
    assert_eq!(accept(&mut rules, Duration::ZERO, &allow), Err(Reason::NotPermitted));
    accept(&mut rules, Duration::ZERO, &block(2)).expect("accepted");
}

#[test]
fn a_rule_for_other_hosts_is_not_used() {
    let hosts = |text: &str| text.parse().expect("a selector");
    let mut rules = starting();
    let other = RuleBody { hosts: hosts("site=ams,host=00000002"), ..block(1) };
    assert_eq!(accept(&mut rules, Duration::ZERO, &other), Ok(Change::None));
    for text in ["site=fra", "host=00000001", "all"] {
        let rule = RuleBody { hosts: hosts(text), ..block(1) };
        let change = accept(&mut rules, Duration::ZERO, &rule);
        assert!(matches!(change, Ok(Change::Set { .. })), "{text}: {change:?}");
    }
}

#[test]
fn a_key_that_is_removed_takes_its_rules_along() {
    let mut rules = starting();
    accept(&mut rules, Duration::ZERO, &block(42)).expect("accepted");
    let now = clock(HOUR / 2);
    assert!(rules.set_roles(now, roles(Role::new(vec![operator().public()]))).is_empty());
    let other = OperatorKey::from_seed(&[8; 32]).public();
    assert_eq!(rules.set_roles(now, roles(Role::new(vec![other]))).len(), 1);
    assert!(rules.is_empty());
}

#[test]
fn rules_survive_a_restart_and_a_changed_file_does_not_pass() {
    let mut rules = starting();
    accept(&mut rules, Duration::ZERO, &block(42)).expect("accepted");
    rules.set_position(17);
    let json = serde_json::to_string(&rules.saved()).expect("JSON");
    let mut restarted = starting();
    restarted.restore(clock(HOUR / 2), serde_json::from_str(&json).expect("the same"));
    let left = restarted.rules(clock(HOUR / 2).now).next().expect("active").remaining;
    assert_eq!((left, restarted.position()), (HOUR / 2, 17));
    assert_eq!(restarted.saved().rules, rules.saved().rules);

    let changed = json.replace("203.0.113.0", "198.51.100.0");
    let mut restarted = starting();
    restarted.restore(clock(HOUR / 2), serde_json::from_str(&changed).expect("JSON"));
    assert!(restarted.is_empty());
}

#[test]
fn rules_are_listed_piece_by_piece() {
    let mut rules = starting();
    for last in 0..5 {
        let prefix = format!("198.51.100.{last}/32").parse().expect("a prefix");
        let rule = RuleBody { prefix, ..block(last + 1) };
        accept(&mut rules, Duration::ZERO, &rule).expect("accepted");
    }
    let now = clock(Duration::ZERO).now;
    let (mut listed, mut after) = (Vec::new(), None);
    loop {
        let next = rules.rules_after(now, after.as_ref()).next();
        let Some(rule) = next else { break };
        after = Some(rule.key.clone());
        listed.push(rule);
    }
    assert_eq!(listed, rules.rules(now).collect::<Vec<_>>());
    assert_eq!(listed.len(), 5);
}
