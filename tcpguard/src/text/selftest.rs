//! Result of the self-test: the SYN-cookie backends that work on a host.

use std::fmt::{self, Write};

use super::incidents::paragraph;
use super::table::{Cell, Table};
use super::view::{Tone, View};
use crate::documents::selftest::{Backend, CookieBackend, Hook, SelfTest, Trial};

/// The best back end, the ones that do not work and why, and each connection.
pub fn selftest(out: &mut impl Write, selftest: &SelfTest, view: &View) -> fmt::Result {
    let works = selftest.backends.iter().any(|backend| backend.works);
    let (sign, tone) = if works { ("●", Tone::Good) } else { ("✗", Tone::Bad) };
    writeln!(out, "{}", view.paint(tone, &format!("{sign} {}", selftest_in_a_line(selftest))))?;
    for backend in &selftest.backends {
        if let Some(reason) = &backend.reason {
            paragraph(out, view, "Failed", &format!("{}: {reason}", backend.backend.name()))?;
        }
    }
    if let Some(why) = &selftest.nat {
        paragraph(out, view, "Not used", &format!("{}: {why}", CookieBackend::Own.name()))?;
    }
    if selftest.backends.iter().all(|backend| backend.trials.is_empty()) {
        return Ok(());
    }
    writeln!(out)?;
    let mut table = Table::new(["BACK END", "XDP", "FAMILY", "CLIENT", "RESULT", "TIME", "AGREED"]);
    for backend in &selftest.backends {
        for trial in &backend.trials {
            table.row(row(backend, trial));
        }
    }
    table.write(out, view)
}

/// `Linux 6.18.1: own cookies work (native, generic)`.
pub fn selftest_in_a_line(selftest: &SelfTest) -> String {
    let beside =
        |backend: &&Backend| selftest.nat.is_none() || backend.backend != CookieBackend::Own;
    let best = selftest.backends.iter().filter(beside).find(|backend| backend.works);
    let verdict = match best {
        Some(backend) => {
            let hooks: Vec<&str> = [Hook::Native, Hook::Generic]
                .into_iter()
                .filter(|hook| selftest.verdict(backend.backend, *hook).is_ok())
                .map(Hook::name)
                .collect();
            format!("{} work ({})", backend.backend.name(), hooks.join(", "))
        }
        None => "no SYN cookies work".to_owned(),
    };
    format!("Linux {}: {verdict}; tried in {}ms", selftest.host.kernel, selftest.took_ms)
}

fn row(backend: &Backend, trial: &Trial) -> [Cell; 7] {
    let (result, tone) = match &trial.reason {
        None => ("works", Tone::Good),
        Some(_) => ("failed", Tone::Bad),
    };
    [
        backend.backend.name().into(),
        trial.hook.map_or("-", Hook::name).into(),
        trial.family.name().into(),
        if trial.timestamps { "with ts" } else { "no ts" }.into(),
        Cell::toned(result, tone),
        format!("{}ms", trial.took_ms).into(),
        trial.client.as_ref().map_or_else(String::new, ToString::to_string).into(),
    ]
}
