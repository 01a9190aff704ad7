//! Result of the self-test: the SYN-cookie backends that work on a host.

use std::fmt::{self, Write};

use super::incidents::paragraph;
use super::view::{Tone, View};
use crate::documents::selftest::{CookieBackend, Hook, SelfTest};

/// The best backend, and the ones that do not work, with the reason.
pub fn selftest(out: &mut impl Write, selftest: &SelfTest, view: &View) -> fmt::Result {
    let works = selftest.results.iter().any(|one| one.reason.is_none());
    let (sign, tone) = if works { ("●", Tone::Good) } else { ("✗", Tone::Bad) };
    writeln!(out, "{}", view.paint(tone, &format!("{sign} {}", selftest_in_a_line(selftest))))?;
    for one in &selftest.results {
        if let Some(reason) = &one.reason {
            let hook = one.hook.map(|hook| format!(" ({})", hook.name())).unwrap_or_default();
            paragraph(out, view, "Failed", &format!("{}{hook}: {reason}", one.backend.name()))?;
        }
    }
    if let Some(why) = &selftest.nat {
        paragraph(out, view, "Not used", &format!("{}: {why}", CookieBackend::Own.name()))?;
    }
    Ok(())
}

/// `Linux 6.18.1: own cookies work (native, generic)`.
pub fn selftest_in_a_line(selftest: &SelfTest) -> String {
    let of = |backend: CookieBackend| {
        let works = |hook: &Hook| selftest.verdict(backend, *hook).is_ok();
        let hooks = [Hook::Native, Hook::Generic].into_iter().filter(works);
        (backend, hooks.map(Hook::name).collect::<Vec<_>>().join(", "))
    };
    let beside = |backend: &CookieBackend| selftest.nat.is_none() || *backend != CookieBackend::Own;
    let mut all = CookieBackend::ALL.into_iter().filter(beside).map(of);
    let verdict = match all.find(|(_, hooks)| !hooks.is_empty()) {
        Some((backend, hooks)) => format!("{} work ({hooks})", backend.name()),
        None => "no SYN cookies work".to_owned(),
    };
    format!("Linux {}: {verdict}; tried in {}ms", selftest.host.kernel, selftest.took_ms)
}
