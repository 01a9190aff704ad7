//! Frames that arrive as from a network card: in bursts, and without a socket buffer each.
//!
//! Packets sent through a socket reach a virtual interface as socket buffers. Each is converted for native
//! XDP and wakes the receiver up, so that most of a packet's cost is the cable's work. Here the kernel makes
//! the frames itself (BPF_PROG_TEST_RUN on live frames), the program `flood` of `testing/bpf` gives each
//! another sender, and a whole burst lies in the receiver's ring when it wakes up.
#![expect(unsafe_code, reason = "a value of a map crosses to the kernel as bytes")]

use std::error::Error;
use std::path::PathBuf;
use std::thread::sleep;
use std::time::Duration;
use std::{env, io};

use anyhow::{Context, Result, bail, ensure};
use aya::programs::{ProgramError, TestRun, TestRunAttrs, TestRunOptions, Xdp, XdpMode};
use aya::{Ebpf, EbpfLoader, Pod};

use crate::net::netns::Netns;
use crate::traffic::recipe::Recipe;

/// Frames in a burst: the number that a driver takes from its ring in one poll (`NAPI_POLL_WEIGHT`), and a
/// quarter of a virtual interface's ring.
pub const BURST: u32 = 64;
/// Frames in the longest burst that the kernel makes (`TEST_XDP_MAX_BATCH`): a virtual interface's ring full.
/// Each call's page pool keeps as many pages as there are frames in a burst. If the receiver's ring holds
/// more, the kernel makes most frames from scratch, at several times the cost.
const LONGEST_BURST: u32 = 256;

const PROGRAM: &str = "flood";
/// Each call has a page pool of its own, and the kernel a number of 16 bits for each. It looks once a
/// second which of them have got all their pages back.
const NUMBERS_RETURN: Duration = Duration::from_secs(4);
const RETRIES: u32 = 40;
/// `enum xdp_action`.
const XDP_TX: u32 = 3;

// SAFETY: numbers only, without gaps between them.
unsafe impl Pod for Recipe {}

/// The end of a cable, at which SYNs are made.
#[derive(Debug)]
pub struct LiveFrames {
    object: Ebpf,
    /// Input frame, as long as a SYN. Its content is overwritten.
    frame: Vec<u8>,
    /// `struct xdp_md`.
    context: Vec<u8>,
    /// Network namespace in which the program stays attached, and nothing arrives.
    _nowhere: Netns,
}

impl LiveFrames {
    /// Makes SYNs by `recipe`. They leave through `interface` of `host`. The interface at the other end must
    /// poll for frames (NAPI), as it does with an XDP program or with GRO.
    ///
    /// # Errors
    /// Without CAP_BPF and CAP_NET_ADMIN, without `TCPGUARD_BPF_DIR`, or on kernels before 5.18.
    pub fn new(host: &Netns, interface: &str, recipe: &Recipe) -> Result<Self> {
        let frame = vec![0; recipe.length as usize];
        let index = host.read(&format!("/sys/class/net/{interface}/ifindex"))?;
        // data, data_end, data_meta, ingress_ifindex, rx_queue_index, egress_ifindex
        let context = [0, frame.len() as u32, 0, index.trim().parse()?, 0, 0];
        let path = object("flood")?;
        let mut object = EbpfLoader::new()
            .override_global("RECIPE", recipe, true)
            .load_file(&path)
            .with_context(|| format!("cannot load {}", path.display()))?;
        let program: &mut Xdp = object
            .program_mut(PROGRAM)
            .with_context(|| format!("{} has no program {PROGRAM:?}", path.display()))?
            .try_into()?;
        program.load()?;
        // A program that is attached nowhere is put into the kernel's XDP dispatcher for each run
        // and taken out again, and both wait for RCU, 20 ms and more.
        let nowhere = Netns::new("nowhere")?;
        nowhere
            .run(|| program.attach("lo", XdpMode::Skb).context("cannot attach to lo").map(drop))?;
        let context = context.map(u32::to_ne_bytes).concat();
        let frames = Self { object, frame, context, _nowhere: nowhere };
        // Live frames do not show the program's return value.
        let trial = frames
            .program()?
            .test_run(TestRunOptions { data_in: Some(&frames.frame), ..TestRunOptions::new() })?;
        ensure!(trial.return_value == XDP_TX, "no SYN can be made by {recipe:?}");
        Ok(frames)
    }

    /// Sends `count` SYNs, at once or in bursts of `LONGEST_BURST`. The calling thread must be in the
    /// interface's namespace. The receiver's ring may still be too full for some of them: the
    /// interface counts those under `tx_dropped`.
    pub fn send(&self, count: u32) -> Result<()> {
        let options = || TestRunOptions {
            data_in: Some(&self.frame),
            ctx_in: Some(&self.context),
            repeat: count,
            attrs: TestRunAttrs::new().xdp_live_frames(count.min(LONGEST_BURST)),
            ..TestRunOptions::new()
        };
        for _ in 0..RETRIES {
            match self.program()?.test_run(options()) {
                Err(error) if is_out_of_numbers(&error) => sleep(NUMBERS_RETURN / RETRIES),
                result => {
                    result.context("the kernel makes no live frames")?;
                    return Ok(());
                }
            }
        }
        bail!("the kernel has had no page pool for live frames for {NUMBERS_RETURN:?}")
    }

    fn program(&self) -> Result<&Xdp> {
        let program = self.object.program(PROGRAM).context("loaded, and never unloaded")?;
        Ok(program.try_into()?)
    }
}

fn is_out_of_numbers(error: &ProgramError) -> bool {
    let mut source: Option<&dyn Error> = Some(error);
    while let Some(error) = source {
        if let Some(error) = error.downcast_ref::<io::Error>() {
            return error.raw_os_error() == Some(libc::ENOSPC);
        }
        source = error.source();
    }
    false
}

/// A BPF object of the kit's own.
///
/// # Errors
/// Without `TCPGUARD_BPF_DIR`, or when it does not hold the object.
pub(crate) fn object(name: &str) -> Result<PathBuf> {
    const HOW: &str = "build it with `cargo xtask build` and set TCPGUARD_BPF_DIR=target/bpf \
                       (`cargo xtask test` does both)";
    let directory = env::var_os("TCPGUARD_BPF_DIR")
        .with_context(|| format!("TCPGUARD_BPF_DIR is not set: {HOW}"))?;
    let path = PathBuf::from(directory).join(format!("{name}.o"));
    path.canonicalize().with_context(|| format!("{} is missing: {HOW}", path.display()))
}
