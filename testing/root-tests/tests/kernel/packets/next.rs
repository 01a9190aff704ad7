//! The next program gets every frame that passes, whatever its reason, and no other.

use std::path::Path;

use anyhow::Result;
use tcpguard::bpf::{Dataplane, Features, Load, NextProgram, Object, PIN_DIR, Pins};
use tcpguard_common::abi::{ABI_VERSION, Config, Mode, Reason, maps};
use tcpguard_host::hint::Hint as _;
use tcpguard_kit::daemon::next_program::{self, Hook};
use tcpguard_kit::measure::clock::boot_ns;
use tcpguard_kit::net::foreign::Verdict;
use tcpguard_kit::net::netns::Netns;

use super::cases::cases;

// `enum xdp_action`
const XDP_DROP: u32 = 1;
const XDP_PASS: u32 = 2;

/// Slot of an interface that is not attached, as that of test runs.
const SLOT: u8 = 0;
/// Name of the pin.
const NAME: &str = "balancer";

/// A mode in which some frames are dropped: those beyond a bound, and segments with illegal flags.
fn config() -> Config {
    Config {
        abi_version: ABI_VERSION,
        mode: Mode::Enforce as u8,
        heartbeat_ns: boot_ns(),
        heartbeat_limit_ns: u64::MAX,
        drop_illegal: 1,
        drop_beyond_bounds: Reason::EVERY_BOUND,
        ..Config::default()
    }
}

#[test]
fn every_frame_that_passes_goes_on_to_the_next_program() {
    // An ARP request, and a frame of a protocol that nothing knows.
    let others = [[8, 6], [0x88, 0xb5]].map(|protocol| {
        let mut frame = vec![0; 60];
        frame[12..14].copy_from_slice(&protocol);
        frame
    });
    let frames: Vec<Vec<u8>> =
        cases().into_iter().flat_map(|case| case.frames).chain(others).collect();
    let host = Netns::new("next").unwrap();
    let next = next_program::NextProgram::load(Hook::XdpFrags, Verdict::Drop).unwrap();
    next.pin(&host, NAME).unwrap();
    host.run(|| {
        let pins = Pins::open(Path::new(PIN_DIR), maps::RULES)?;
        let mut object = Object::load(Load::default())?;
        let dataplane = Dataplane::of(&object)?;
        for configured in [false, true] {
            if configured {
                dataplane.set_config(&config())?;
            }
            assert_eq!(dataplane.next_program(SLOT)?, None);
            let alone = frames.iter().map(|frame| Ok(object.test_ingress(frame, 1)?.0));
            let alone = alone.collect::<Result<Vec<u32>>>()?;
            let program = NextProgram::open(&pins, NAME)?;
            dataplane.set_next_program(SLOT, &program)?;
            assert_eq!(dataplane.next_program(SLOT)?, Some(program.id()));
            for (frame, alone) in frames.iter().zip(&alone) {
                let before = next.packets()?;
                let (action, _) = object.test_ingress(frame, 1)?;
                let passes = *alone == XDP_PASS;
                assert_eq!(next.packets()? - before, u64::from(passes), "{frame:02x?}");
                assert_eq!(action, if passes { XDP_DROP } else { *alone }, "{frame:02x?}");
            }
            assert!(alone.contains(&XDP_PASS));
            assert_eq!(alone.contains(&XDP_DROP), configured, "{alone:?}");
            assert!(dataplane.remove_next_program(SLOT)?);
            assert!(!dataplane.remove_next_program(SLOT)?, "it is empty");
            let counted = next.packets()?;
            object.test_ingress(&frames[0], 1)?;
            assert_eq!(next.packets()?, counted, "it is no longer handed on");
        }
        Ok(())
    })
    .unwrap();
}

/// An agent on such a kernel finds the pinned array of one with tail calls, when the JIT was turned off meanwhile.
#[test]
fn without_tail_calls_packets_pass_and_the_next_program_is_refused() {
    let host = Netns::new("next").unwrap();
    let next = next_program::NextProgram::load(Hook::XdpFrags, Verdict::Drop).unwrap();
    next.pin(&host, NAME).unwrap();
    host.run(|| {
        let pins = Pins::open(Path::new(PIN_DIR), maps::RULES)?;
        let maps = pins.maps();
        let load = Load { maps: Some(&maps), ..Load::default() };
        let program = NextProgram::open(&pins, NAME)?;
        let whole = Object::load(load)?;
        let dataplane = Dataplane::of(&whole)?;
        dataplane.require_tail_calls()?;
        dataplane.set_next_program(SLOT, &program)?;

        let features = Features { tail_calls: false, ..load.features };
        let mut object = Object::load(Load { features, ..load })?;
        let dataplane = Dataplane::of(&object)?;
        let refused = dataplane.require_tail_calls().unwrap_err().with_hint();
        assert!(
            ["the BPF JIT", "bpf_jit_enable=1"].iter().all(|words| refused.contains(words)),
            "{refused}"
        );
        assert_eq!(dataplane.next_program(SLOT)?, None, "its array is another one");
        assert_eq!(object.test_ingress(&[0; 60], 1)?.0, XDP_PASS);
        assert_eq!(next.packets()?, 0);
        Ok(())
    })
    .unwrap();
}

/// A program behind one that takes frames in one buffer must do so as well.
#[test]
fn without_multi_buffer_xdp_the_next_program_has_none_either() {
    let host = Netns::new("next").unwrap();
    host.run(|| {
        let pins = Pins::open(Path::new(PIN_DIR), maps::RULES)?;
        let features = Features { multi_buffer: false, ..Features::of_running_kernel() };
        let mut object = Object::load(Load { features, ..Load::default() })?;
        let dataplane = Dataplane::of(&object)?;
        for (hook, refusal) in [
            (Hook::XdpFrags, Some("it is declared xdp.frags, and tcpguard's is not")),
            (Hook::Xdp, None),
        ] {
            let next = next_program::NextProgram::load(hook, Verdict::Drop)?;
            next.pin(&host, NAME)?;
            let set = dataplane.set_next_program(SLOT, &NextProgram::open(&pins, NAME)?);
            match (refusal, set) {
                (None, set) => set?,
                (Some(words), set) => {
                    let text = set.unwrap_err().to_string();
                    assert!(text.contains(words), "{text}");
                    continue;
                }
            }
            assert_eq!(object.test_ingress(&[0; 60], 1)?.0, XDP_DROP);
            assert_eq!(next.packets()?, 1);
        }
        Ok(())
    })
    .unwrap();
}
