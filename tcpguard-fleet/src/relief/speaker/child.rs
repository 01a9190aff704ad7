//! A speaker as a child that dies with its parent, however the parent ends.
//!
//! Its routes are gone at the router less than 10 ms after the parent was killed (measured with GoBGP).

use std::io;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Command, Stdio};

use rustix::io::Errno;
use rustix::process::{Signal, getpid, getppid, set_parent_process_death_signal};

use super::SpeakerError;

/// A speaker's process. It is killed when this is dropped.
#[derive(Debug)]
pub struct Child(tokio::process::Child);

impl Child {
    /// Starts a program with an environment of these variables only. Its log goes where that of this process goes.
    ///
    /// The child lives as long as the *thread* that starts it, so this has to be one that lives as long as the
    /// process: the only thread of the runtime.
    ///
    /// # Errors
    /// When the program cannot be started.
    pub fn start(
        program: &Path,
        arguments: &[&str],
        variables: &[(&str, &str)],
    ) -> Result<Self, SpeakerError> {
        let mut command = Command::new(program);
        command
            .args(arguments)
            .env_clear()
            .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
            .envs(variables.iter().copied())
            .stdin(Stdio::null());
        die_with_parent(&mut command);
        let child = tokio::process::Command::from(command).kill_on_drop(true).spawn();
        child.map(Self).map_err(|cause| {
            let program = program.display().to_string();
            SpeakerError::Start { program, cause }
        })
    }

    /// Waits for the end of the process.
    ///
    /// # Errors
    /// When the process cannot be waited for.
    pub async fn wait(&mut self) -> io::Result<()> {
        self.0.wait().await.map(drop)
    }
}

/// Has the kernel kill a child when its parent ends.
#[expect(unsafe_code, reason = "the signal is set between fork and exec")]
fn die_with_parent(command: &mut Command) {
    let parent = getpid();
    let set_signal = move || -> io::Result<()> {
        set_parent_process_death_signal(Some(Signal::KILL))?;
        // The parent may have ended before.
        match getppid() == Some(parent) {
            true => Ok(()),
            false => Err(Errno::SRCH.into()),
        }
    };
    // SAFETY: after the fork `set_signal` makes two system calls. It allocates nothing and takes no lock.
    unsafe {
        command.pre_exec(set_signal);
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::ExitStatusExt as _;
    use std::thread;
    use std::time::Duration;

    use super::*;

    /// Starts a program in a thread that ends, and returns its signal if it ends soon after.
    fn outlive_starter(prepare: fn(&mut Command)) -> Option<i32> {
        let starter = thread::spawn(move || {
            let mut command = Command::new("sleep");
            command.arg("60").stdin(Stdio::null());
            prepare(&mut command);
            command.spawn().expect("sleep is there")
        });
        let mut child = starter.join().expect("it was started");
        for _ in 0..100 {
            if let Some(status) = child.try_wait().expect("it can be waited for") {
                return status.signal();
            }
            thread::sleep(Duration::from_millis(20));
        }
        child.kill().expect("it can be killed");
        child.wait().expect("it can be waited for");
        None
    }

    #[test]
    fn a_speaker_ends_with_its_starter_and_another_child_does_not() {
        assert_eq!(outlive_starter(die_with_parent), Some(9));
        assert_eq!(outlive_starter(|_| {}), None);
    }

    #[tokio::test]
    async fn a_program_that_is_missing_is_named() {
        let error = Child::start(Path::new("/no/such/gobgpd"), &[], &[]).unwrap_err();
        assert!(error.to_string().starts_with("cannot start /no/such/gobgpd: "), "{error}");
    }

    #[tokio::test]
    async fn a_speaker_has_no_variables_but_its_own() {
        let script = "test \"$own\" = 1 && test -z \"$HOME\" && exit 0; exit 1";
        let own = [("own", "1")];
        let mut child = Child::start(Path::new("/bin/sh"), &["-c", script], &own).unwrap();
        let status = child.0.wait().await.unwrap();
        assert!(status.success(), "{status}");
    }
}
