//! A command as target: it gets the document on its standard input.

use std::io;
use std::path::PathBuf;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group};
use tcpguard_host::hint::Failure;
use tokio::io::AsyncWriteExt as _;
use tokio::process::Child;

use super::dispatch::{DeliveryError, Target};
use super::document::Hook;

/// Time for the command.
const LIMIT: Duration = Duration::from_secs(10);
/// Exit status by which a command asks for another try: `EX_TEMPFAIL` of sysexits.h. It may have done half of its work,
/// so no other status does.
const TRY_AGAIN: i32 = 75;
/// Time for the kernel to end it after that.
const END: Duration = Duration::from_secs(1);

/// A command that is run for each event, with an empty environment and in a process group of its own. No part of an
/// event is in its arguments.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Command {
    program: PathBuf,
    arguments: Vec<String>,
}

impl Command {
    /// A program by its absolute path, and its arguments.
    ///
    /// # Errors
    /// When there is no path, or it depends on the working directory or on `PATH`.
    pub fn new(words: &[String]) -> Result<Self, Failure> {
        let hint = || "write it as a list: [\"/usr/local/bin/notify\", \"--quiet\"]";
        let Some((program, arguments)) = words.split_first() else {
            return Err(Failure::new("the command of a hook is empty", hint()));
        };
        match program.starts_with('/') {
            true => Ok(Self { program: program.into(), arguments: arguments.to_vec() }),
            false => Err(Failure::new(format!("{program} is not an absolute path"), hint())),
        }
    }

    async fn run(&self, document: &[u8], limit: Duration) -> Result<(), DeliveryError> {
        let program = self.program.display();
        let failed = |why: String| DeliveryError::Permanent(format!("{program}: {why}"));
        let child = tokio::process::Command::new(&self.program)
            .args(&self.arguments)
            .env_clear()
            .current_dir("/")
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .process_group(0)
            .spawn()
            .map_err(|error| failed(error.to_string()))?;
        let mut group = Group(child);
        match tokio::time::timeout(limit, feed(&mut group.0, document)).await {
            Ok(Ok(status)) if status.success() => Ok(()),
            Ok(Ok(status)) if status.code() == Some(TRY_AGAIN) => {
                Err(DeliveryError::Temporary(format!("{program}: {status}")))
            }
            Ok(Ok(status)) => Err(failed(status.to_string())),
            Ok(Err(error)) => Err(failed(error.to_string())),
            Err(_) => {
                group.kill();
                // The runtime waits for it if it takes the kernel longer.
                let _ = tokio::time::timeout(END, group.0.wait()).await;
                Err(failed(format!("killed after {}s", limit.as_secs())))
            }
        }
    }
}

impl Target for Command {
    async fn deliver(&self, hook: &Hook) -> Result<(), DeliveryError> {
        self.run(&hook.to_json(), LIMIT).await
    }
}

/// Writes the document and waits for the end.
async fn feed(child: &mut Child, document: &[u8]) -> io::Result<ExitStatus> {
    if let Some(mut input) = child.stdin.take() {
        match input.write_all(document).await {
            // A command need not read its input.
            Err(error) if error.kind() != io::ErrorKind::BrokenPipe => return Err(error),
            _ => {}
        }
    }
    child.wait().await
}

/// A command and its children. If it has not ended when this is dropped, it is killed with them: the end of the
/// process that started it ends it too.
struct Group(Child);

impl Group {
    fn kill(&self) {
        // A command that was waited for no longer has an id, which may be another's.
        let leader = self.0.id().and_then(|id| Pid::from_raw(id.try_into().ok()?));
        if let Some(leader) = leader {
            // The only error is that they are gone.
            let _ = kill_process_group(leader, Signal::KILL);
        }
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        self.kill();
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;
    use std::time::Instant;

    use super::super::document::EventKind;
    use super::super::document::tests::hook;
    use super::*;

    fn shell(script: &str) -> Command {
        let words = ["/bin/sh", "-c", script].map(str::to_owned);
        Command::new(&words).expect("an absolute path")
    }

    #[test]
    fn a_command_is_an_absolute_path_with_arguments() {
        for words in [vec![], vec!["notify".to_owned()], vec!["./notify".to_owned()]] {
            Command::new(&words).expect_err("it depends on the environment");
        }
        assert_eq!(shell("true").arguments, ["-c", "true"]);
    }

    #[tokio::test]
    async fn the_document_is_the_input_and_the_environment_is_empty() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("seen");
        let script = format!("test -z \"$HOME\" && exec /bin/cat > {}", file.display());
        let hook = hook(EventKind::Start, 7);
        shell(&script).deliver(&hook).await.unwrap();
        assert_eq!(fs::read(&file).unwrap(), hook.to_json());
    }

    #[tokio::test]
    async fn a_command_that_reads_nothing_succeeds() {
        // More than a pipe holds.
        shell("exit 0").run(&[b'x'; 1 << 20], LIMIT).await.unwrap();
    }

    #[tokio::test]
    async fn a_command_is_tried_again_if_it_asks_for_that() {
        let hook = hook(EventKind::Start, 7);
        let error = shell("exit 75").deliver(&hook).await.unwrap_err();
        assert_eq!(error, DeliveryError::Temporary("/bin/sh: exit status: 75".to_owned()));
        let error = shell("exit 3").deliver(&hook).await.unwrap_err();
        assert_eq!(error, DeliveryError::Permanent("/bin/sh: exit status: 3".to_owned()));
        let missing = Command::new(&["/no/such/program".to_owned()]).unwrap();
        assert!(matches!(missing.deliver(&hook).await, Err(DeliveryError::Permanent(_))));
    }

    /// A command that waits for its child, and the file with the child's id.
    fn parent(directory: &Path) -> (Command, PathBuf) {
        let file = directory.join("pid");
        let script = format!("sleep 60 & echo $! > {}; wait", file.display());
        (shell(&script), file)
    }

    /// Waits until the process with the id in this file has ended.
    async fn ended(file: &Path) {
        let child: u32 = fs::read_to_string(file).unwrap().trim().parse().unwrap();
        let is_gone = || match fs::read_to_string(format!("/proc/{child}/stat")) {
            Ok(stat) => stat.rsplit(')').next().is_some_and(|rest| rest.starts_with(" Z")),
            Err(_) => true,
        };
        for _ in 0..100 {
            if is_gone() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        panic!("the child of the command goes on");
    }

    #[tokio::test]
    async fn a_command_that_hangs_is_killed_with_its_children() {
        let directory = tempfile::tempdir().unwrap();
        let (command, file) = parent(directory.path());
        let start = Instant::now();
        let error = command.run(b"{}", Duration::from_secs(1)).await.unwrap_err();
        assert_eq!(error, DeliveryError::Permanent("/bin/sh: killed after 1s".to_owned()));
        assert!(start.elapsed() < Duration::from_secs(5));
        ended(&file).await;
    }

    #[tokio::test]
    async fn a_command_ends_with_its_delivery() {
        let directory = tempfile::tempdir().unwrap();
        let (command, file) = parent(directory.path());
        let delivery = command.run(b"{}", LIMIT);
        tokio::time::timeout(Duration::from_secs(1), delivery).await.unwrap_err();
        ended(&file).await;
    }
}
