//! Problems of a listener and the limits to raise.

use super::application::Application;
use super::limits::{self, Limit, SetBy};
use super::{Listener, ListenerFacts};
use crate::finding::{Finding, Owner, Severity};
use crate::linux::ListeningSocket;
use crate::linux::sysctl::TcpSettings;
use crate::units::{counted, short, whole};

/// A backlog below this is full with the few clients that come at once; applications that ask for
/// less than 16 have asked for a number of the eighties (listen(2) was 5 in 4.2BSD).
const TINY: u32 = 16;
/// Default of `somaxconn`, the limit of listen(2), until Linux 5.4: less is worth a look where
/// connections are lost.
const SMALL: u32 = 128;

/// The findings about the queues of a listener that consists of these sockets, or else about its drops.
pub fn on(
    listener: &Listener,
    sockets: &[&ListeningSocket],
    facts: &ListenerFacts,
) -> Vec<Finding> {
    let case = Case { listener, sockets, facts };
    let mut findings: Vec<_> = case.accept_queue().into_iter().chain(case.syn_queue()).collect();
    if findings.is_empty() {
        findings.extend(case.drops());
        findings.extend(case.small_backlog());
    }
    findings
}

/// The finding about all backlogs that are above today's `somaxconn`.
pub fn shrinking(listeners: &[Listener], facts: &ListenerFacts) -> Option<Finding> {
    let somaxconn = whole(facts.tcp.somaxconn?);
    let of = |listener: &Listener| format!("{listener} ({})", whole(listener.accept.limit.into()));
    let earlier = |listener: &&Listener| listener.accept.set_by == SetBy::Earlier;
    let shrinking: Vec<&Listener> = listeners.iter().filter(earlier).collect();
    let (first, more) = shrinking.split_first()?;
    let which = match more.len() {
        0 => format!("the backlog of {} shrinks", of(first)),
        more => format!("the backlogs of {} and {more} more shrink", of(first)),
    };
    let text = format!(
        "{which} at the next restart, because net.core.somaxconn was lowered to {somaxconn}"
    );
    let finding =
        Finding::notice("somaxconn_lowered", text).hint("tcpguard tune (net.core.somaxconn)");
    Some(if more.is_empty() { finding.about(first.to_string()) } else { finding })
}

/// Three quarters, or more.
fn nearly_full(waiting: u32, limit: u32) -> bool {
    u64::from(waiting) * 4 >= u64::from(limit) * 3 && waiting > 0
}

/// A listener, with its sockets, on its host.
struct Case<'a> {
    listener: &'a Listener,
    sockets: &'a [&'a ListeningSocket],
    facts: &'a ListenerFacts,
}

impl Case<'_> {
    fn accept_queue(&self) -> Option<Finding> {
        let Self { listener, sockets, facts } = self;
        let full = sockets.iter().filter(|socket| socket.accept > socket.backlog).count();
        let nearly = |socket: &&&ListeningSocket| nearly_full(socket.accept, socket.backlog);
        // A full one has more waiting than it may, a nearly full one has not.
        let overrun =
            |socket: &&&ListeningSocket| i64::from(socket.accept) - i64::from(socket.backlog);
        let worst = sockets.iter().filter(nearly).max_by_key(overrun)?;
        let (owner, waiting) = (self.owner(), whole(worst.accept.into()));
        let queue = format!("{waiting} of {}", whole(worst.backlog.into()));
        let raise = raise(limits::of(worst, &facts.tcp).accept, listener.application, &facts.tcp);
        let hint = format!(
            "check {owner} (tcpguard states --queues); if the load comes in bursts, {raise}"
        );
        if full == 0 {
            let text = format!("{listener}: accept queue nearly full ({queue})");
            return Some(self.finding("accept_queue_nearly_full", Severity::Warning, text, hint));
        }
        let which = match sockets.len() {
            1 => "accept queue full".to_owned(),
            all => format!("{full} of {all} accept queues full"),
        };
        let lost = match facts.tcp.abort_on_overflow {
            Some(0) | None => "new connections are dropped",
            Some(_) => {
                "new connections are dropped, and those already answered are reset \
                        (tcp_abort_on_overflow)"
            }
        };
        let text =
            format!("{listener}: {which} ({queue}). {owner} accepts too slowly, and {lost}.");
        Some(self.finding("accept_queue_full", Severity::Critical, text, hint))
    }

    fn syn_queue(&self) -> Option<Finding> {
        let (tcp, listener) = (&self.facts.tcp, self.listener);
        let (waiting, limit) = (listener.syn.waiting, listener.syn.limit);
        // The SYN-ACKs of handshakes that a full accept queue keeps from completing stay in the SYN queue.
        let is_cause = self.sockets.iter().all(|socket| socket.accept <= socket.backlog);
        if !nearly_full(waiting, limit) || !is_cause && waiting < limit {
            return None;
        }
        let numbers = format!("{} of {} half-open", whole(waiting.into()), whole(limit.into()));
        let cookies = tcp.syncookies.unwrap_or(0) != 0;
        // Newer kernels take one more than the limit, which makes no difference here.
        let (code, severity, text) = match (waiting >= limit, cookies) {
            (true, true) => (
                "syn_queue_full",
                Severity::Warning,
                format!("SYN queue full ({numbers}): clients get SYN cookies"),
            ),
            (true, false) => (
                "syn_queue_full",
                Severity::Critical,
                format!("SYN queue full ({numbers}): SYNs are dropped"),
            ),
            (false, _) => (
                "syn_queue_nearly_full",
                Severity::Notice,
                format!("SYN queue nearly full ({numbers})"),
            ),
        };
        let limits = self.sockets.iter().map(|socket| limits::of(socket, tcp).syn);
        let raise = raise(limits.min_by_key(|limit| limit.places)?, listener.application, tcp);
        let hint = format!("check for an attack (tcpguard status); if there is none, {raise}");
        Some(self.finding(code, severity, format!("{listener}: {text}"), hint))
    }

    fn drops(&self) -> Option<Finding> {
        let listener = self.listener;
        let drops = listener.drops.filter(|drops| *drops > 0)?;
        match listener.drops_pps {
            Some(rate) if rate > 0.0 => Some(self.finding(
                "listener_drops",
                Severity::Warning,
                format!("{listener}: {} packets/s dropped, {} in total", short(rate), whole(drops)),
                format!(
                    "a queue overflows at times: check {} (tcpguard states --queues)",
                    self.owner()
                ),
            )),
            // No more drops since the earlier snapshot.
            Some(_) => None,
            None => Some(self.finding(
                "listener_has_dropped",
                Severity::Notice,
                format!(
                    "{listener}: {} dropped since it started to listen, for whatever reason",
                    counted(drops, "packet")
                ),
                "check whether drops continue: tcpguard listeners --watch".to_owned(),
            )),
        }
    }

    /// The finding about a small limit of the application's, where other hosts can reach it.
    fn small_backlog(&self) -> Option<Finding> {
        let (tcp, listener) = (&self.facts.tcp, self.listener);
        let limits = self.sockets.iter().map(|socket| limits::of(socket, tcp).accept);
        let limit = limits.min_by_key(|limit| limit.places)?;
        if limit.set_by != SetBy::Application
            || limit.places >= SMALL
            || listener.addr.is_loopback()
        {
            return None;
        }
        let lost = self.facts.tcp_ext.map_or(0, |counters| counters.listen_overflows);
        let severity = match lost {
            0 if limit.places >= TINY => Severity::Notice,
            _ => Severity::Warning,
        };
        let lost = match lost {
            0 => String::new(),
            lost => format!(
                "; {} SYNs and ACKs dropped at full accept queues of this host since boot",
                whole(lost)
            ),
        };
        let text = format!("{listener}: a backlog of {} limits both queues{lost}", limit.places);
        let hint = raise(limit, listener.application, tcp);
        Some(self.finding("small_backlog", severity, text, hint))
    }

    /// The accepting process, for a sentence.
    fn owner(&self) -> String {
        let owners = &self.facts.owners;
        let first = self.sockets.iter().flat_map(|socket| owners.of(socket.inode)).next();
        match (first, self.listener.pids.len()) {
            (Some(first), 1) => Owner::of(first).to_string(),
            (Some(first), all) => format!("{} ({} and {} more)", first.comm, first.pid, all - 1),
            (None, _) => "the application".to_owned(),
        }
    }

    fn finding(&self, code: &str, severity: Severity, text: String, hint: String) -> Finding {
        Finding::new(severity, code, text).about(self.listener.to_string()).hint(hint)
    }
}

/// The limit to raise for a longer queue.
fn raise(limit: Limit, application: Option<Application>, tcp: &TcpSettings) -> String {
    let now = whole(limit.places.into());
    let somaxconn = tcp.somaxconn.map_or_else(|| "?".to_owned(), whole);
    match (limit.set_by, application) {
        (SetBy::Application, Some(Application { name, setting, default, reload })) => {
            let default = default
                .map_or_else(String::new, |default| format!(", default {}", whole(default.into())));
            format!(
                "raise {setting} (now {now}{default}; net.core.somaxconn allows {somaxconn}) and {}",
                apply(name, reload)
            )
        }
        (SetBy::Application, None) => format!(
            "raise the backlog argument of its listen(2) (now {now}; net.core.somaxconn allows \
             {somaxconn})"
        ),
        (SetBy::Somaxconn, Some(Application { name, setting, reload, .. })) => format!(
            "raise net.core.somaxconn (now {now}; for a value: tcpguard tune) and {setting}, then {}",
            apply(name, reload)
        ),
        (SetBy::Somaxconn, None) => format!(
            "raise net.core.somaxconn (now {now}; for a value: tcpguard tune), then restart the \
             application"
        ),
        (SetBy::TcpMaxSynBacklog, _) => "sysctl -w net.ipv4.tcp_syncookies=1, or raise \
             net.ipv4.tcp_max_syn_backlog (for a value: tcpguard tune)"
            .to_owned(),
        (SetBy::Earlier | SetBy::Unknown, _) => format!(
            "raise net.core.somaxconn (now {somaxconn}) and the application's own limit, then \
             restart it"
        ),
    }
}

/// The action that makes a changed setting effective.
fn apply(name: &str, reload: Option<&str>) -> String {
    reload.map_or_else(|| format!("restart {name}"), |command| format!("apply it: {command}"))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::time::Duration;

    use tcpguard_engine::TcpExt;

    use super::super::judge::tests::{bare, socket};
    use super::super::{Earlier, judge};
    use super::*;
    use crate::linux::{Owners, Process};
    use crate::obstacle::Obstacle;

    fn codes(facts: &ListenerFacts) -> Vec<(&'static str, Severity)> {
        let code = |finding: Finding| (&*finding.code.leak(), finding.severity);
        let codes = judge(facts).findings.into_iter().map(code);
        codes.filter(|(code, _)| !Obstacle::CODES.contains(code)).collect()
    }

    fn hint(facts: &ListenerFacts) -> String {
        judge(facts).findings.first().and_then(|finding| finding.hint.clone()).unwrap_or_default()
    }

    /// The processes that hold socket 1.
    fn held_by(comm: &str, number: u32) -> Owners {
        let process = |pid| Process { pid, comm: comm.to_owned(), ..Process::default() };
        Owners::new((0..number).map(|worker| (process(900 + worker), vec![1])), false)
    }

    fn with(sockets: Vec<ListeningSocket>) -> ListenerFacts {
        ListenerFacts { sockets, owners: held_by("nginx", 1), ..bare() }
    }

    #[test]
    fn the_accept_queue_is_full_when_more_wait_than_may() {
        use Severity::{Critical, Warning};
        for (accept, backlog, expected) in [
            (0, 0, Some(("small_backlog", Warning))),
            (1, 0, Some(("accept_queue_full", Critical))),
            (95, 128, None),
            (96, 128, Some(("accept_queue_nearly_full", Warning))),
            (128, 128, Some(("accept_queue_nearly_full", Warning))),
            (129, 128, Some(("accept_queue_full", Critical))),
            (u32::MAX, u32::MAX, Some(("accept_queue_nearly_full", Warning))),
        ] {
            let found = codes(&with(vec![socket(1, accept, backlog)]));
            let found: Vec<_> =
                found.into_iter().filter(|(code, _)| *code != "somaxconn_lowered").collect();
            assert_eq!(found, expected.into_iter().collect::<Vec<_>>(), "{accept}/{backlog}");
        }
    }

    #[test]
    fn a_small_backlog_of_the_application_is_reported_where_others_reach_it() {
        use Severity::{Notice, Warning};
        for (backlog, lost, addr, expected) in [
            (15, 0, [0; 4], Some(Warning)),
            (16, 0, [0; 4], Some(Notice)),
            (127, 0, [0; 4], Some(Notice)),
            (127, 12, [0; 4], Some(Warning)),
            (128, 12, [0; 4], None),
            (5, 12, [127, 0, 0, 1], None),
        ] {
            let mut facts =
                with(vec![ListeningSocket { addr: addr.into(), ..socket(1, 0, backlog) }]);
            facts.tcp_ext = Some(TcpExt { listen_overflows: lost, ..TcpExt::default() });
            let expected = expected.map(|severity| ("small_backlog", severity));
            assert_eq!(codes(&facts), expected.into_iter().collect::<Vec<_>>(), "{backlog} {lost}");
        }
        let facts = with(vec![socket(1, 0, 5)]);
        assert!(
            hint(&facts)
                .starts_with("raise `listen … backlog=` in nginx.conf (now 5, default 511;")
        );
    }

    #[test]
    fn of_a_group_the_fullest_queue_counts() {
        let facts = with(vec![socket(1, 3, 511), socket(2, 512, 511), socket(3, 400, 511)]);
        let report = judge(&facts);
        let expected = "0.0.0.0:80: 1 of 3 accept queues full (512 of 511). nginx (900) accepts too \
                        slowly, and new connections are dropped.";
        assert_eq!(report.findings[0].text, expected);
        assert_eq!(report.findings.len(), 1);
    }

    #[test]
    fn a_full_queue_that_resets_clients_says_which() {
        let mut facts = with(vec![socket(1, 512, 511)]);
        facts.tcp.abort_on_overflow = Some(1);
        let expected = "new connections are dropped, and those already answered are reset \
                        (tcp_abort_on_overflow).";
        let text = &judge(&facts).findings[0].text;
        assert!(text.ends_with(expected), "{text}");
    }

    #[test]
    fn what_limits_is_what_is_to_be_raised() {
        for (comm, backlog, expected) in [
            (
                "nginx",
                511,
                "raise `listen … backlog=` in nginx.conf (now 511, default 511; \
                 net.core.somaxconn allows 4096) and apply it: nginx -s reload",
            ),
            (
                "redis-server",
                128,
                "raise `tcp-backlog` in redis.conf (now 128, default 511; net.core.somaxconn \
                 allows 4096) and restart Redis",
            ),
            (
                "something",
                16,
                "raise the backlog argument of its listen(2) (now 16; net.core.somaxconn allows \
                 4096)",
            ),
            (
                "nginx",
                4096,
                "raise net.core.somaxconn (now 4096; for a value: tcpguard tune) and \
                 `listen … backlog=` in nginx.conf, then apply it: nginx -s reload",
            ),
            (
                "something",
                4096,
                "raise net.core.somaxconn (now 4096; for a value: tcpguard tune), then restart the \
                 application",
            ),
            (
                "nginx",
                8192,
                "raise net.core.somaxconn (now 4096) and the application's own limit, then \
                 restart it",
            ),
        ] {
            let mut facts = with(vec![socket(1, backlog + 1, backlog)]);
            facts.owners = held_by(comm, 1);
            let expected = format!(
                "check {comm} (900) (tcpguard states --queues); if the load comes in bursts, {expected}"
            );
            assert_eq!(hint(&facts), expected);
        }
    }

    #[test]
    fn several_processes_that_share_a_socket_are_one_name() {
        let mut facts = with(vec![socket(1, 512, 511)]);
        facts.owners = held_by("nginx", 5);
        assert!(hint(&facts).starts_with("check nginx (900 and 4 more) "));
        facts.owners = Owners::default();
        assert!(hint(&facts).starts_with("check the application "));
    }

    #[test]
    fn a_full_syn_queue_is_worse_without_cookies() {
        use Severity::{Critical, Notice, Warning};
        for (syncookies, half_open, expected) in [
            (Some(1), 95, None),
            (Some(1), 96, Some(("syn_queue_nearly_full", Notice))),
            (Some(1), 128, Some(("syn_queue_full", Warning))),
            (Some(2), 129, Some(("syn_queue_full", Warning))),
            (Some(0), 128, Some(("syn_queue_full", Critical))),
            (None, 128, Some(("syn_queue_full", Critical))),
        ] {
            let mut facts = with(vec![socket(1, 0, 128)]);
            facts.tcp.syncookies = syncookies;
            facts.half_open =
                BTreeMap::from([(([0; 4].into(), 80, 0), vec![Duration::ZERO; half_open])]);
            let expected: Vec<_> = expected.into_iter().collect();
            assert_eq!(codes(&facts), expected, "{syncookies:?} {half_open}");
        }
    }

    #[test]
    fn without_cookies_tcp_max_syn_backlog_is_to_be_raised_where_it_is_less() {
        let mut facts = with(vec![socket(1, 0, 4096)]);
        facts.tcp.syncookies = Some(0);
        facts.half_open = BTreeMap::from([(([0; 4].into(), 80, 0), vec![Duration::ZERO; 768])]);
        let expected = "check for an attack (tcpguard status); if there is none, sysctl -w \
                        net.ipv4.tcp_syncookies=1, or raise net.ipv4.tcp_max_syn_backlog (for a \
                        value: tcpguard tune)";
        assert_eq!(hint(&facts), expected);
    }

    #[test]
    fn drops_of_old_are_worth_less_than_those_that_go_on() {
        let dropped = |drops| ListeningSocket { drops, ..socket(1, 0, 511) };
        let earlier =
            |drops| Some(Earlier::new(&with(vec![dropped(Some(drops))]), Duration::from_secs(1)));
        for (drops, earlier, expected) in [
            (None, None, None),
            (Some(0), None, None),
            (Some(9), None, Some(("listener_has_dropped", Severity::Notice))),
            (Some(9), earlier(9), None),
            (Some(9), earlier(4), Some(("listener_drops", Severity::Warning))),
        ] {
            let facts = ListenerFacts { earlier, ..with(vec![dropped(drops)]) };
            assert_eq!(codes(&facts), expected.into_iter().collect::<Vec<_>>(), "{facts:?}");
        }
        // Its full queue says more.
        let full = ListeningSocket { accept: 512, ..dropped(Some(9)) };
        assert_eq!(codes(&with(vec![full])), [("accept_queue_full", Severity::Critical)]);
    }

    #[test]
    fn all_listeners_that_would_get_less_after_a_restart_are_one_finding() {
        let other = ListeningSocket { port: 8080, ..socket(2, 0, 512) };
        let mut facts = with(vec![socket(1, 0, 4096), other]);
        facts.tcp.somaxconn = Some(512);
        let text = |facts: &ListenerFacts| judge(facts).findings[0].text.clone();
        let because = "at the next restart, because net.core.somaxconn was lowered to";
        for (somaxconn, expected) in [
            (512, format!("the backlog of 0.0.0.0:80 (4096) shrinks {because} 512")),
            (64, format!("the backlogs of 0.0.0.0:80 (4096) and 1 more shrink {because} 64")),
        ] {
            facts.tcp.somaxconn = Some(somaxconn);
            assert_eq!(codes(&facts), [("somaxconn_lowered", Severity::Notice)]);
            assert_eq!(
                (text(&facts), hint(&facts)),
                (expected, "tcpguard tune (net.core.somaxconn)".to_owned())
            );
        }
    }
}
