//! Settings of applications that become the second argument of `listen`, the backlog.

use schemars::JsonSchema;
use serde::Serialize;

use crate::linux::Process;

/// Application with a known setting for the backlog of its listeners.
#[derive(Clone, Copy, Debug, Eq, JsonSchema, PartialEq, Serialize)]
pub struct Application {
    /// Name of the application.
    pub name: &'static str,
    /// Name of the setting, and the file or call in which it stands.
    pub setting: &'static str,
    /// Default of the setting, in connections; `null` where that depends on other settings or on the host.
    pub default: Option<u32>,
    /// Command after which a changed value takes effect; `null` if the application must be restarted.
    pub reload: Option<&'static str>,
}

const fn application(
    name: &'static str,
    setting: &'static str,
    default: Option<u32>,
) -> Application {
    Application { name, setting, default, reload: None }
}

/// Applications by the name of their program. Sources: the manual of each, at the named directive.
const PROGRAMS: [(&str, Application); 14] = [
    ("nginx", NGINX),
    ("redis-server", application("Redis", "`tcp-backlog` in redis.conf", Some(511))),
    ("valkey-server", application("Valkey", "`tcp-backlog` in valkey.conf", Some(511))),
    ("keydb-server", application("KeyDB", "`tcp-backlog` in keydb.conf", Some(511))),
    ("apache2", application("Apache", "`ListenBacklog` in apache2.conf", Some(511))),
    ("httpd", application("Apache", "`ListenBacklog` in httpd.conf", Some(511))),
    ("haproxy", application("HAProxy", "`backlog`, else `maxconn`, in haproxy.cfg", None)),
    ("mysqld", application("MySQL", "`back_log` in my.cnf", None)),
    ("mariadbd", application("MariaDB", "`back_log` in my.cnf", None)),
    ("memcached", application("memcached", "`-b` on its command line", Some(1024))),
    ("node", application("Node.js", "`backlog` of server.listen()", Some(511))),
    ("php-fpm", application("PHP-FPM", "`listen.backlog` of the pool", Some(511))),
    ("gunicorn", application("Gunicorn", "`backlog`, or `--backlog`", Some(2048))),
    ("systemd", application("systemd", "`Backlog=` of the socket unit", None)),
];

/// nginx. It calls `listen` again on its sockets where `backlog=` has changed (tried: SIGHUP, 16 to 300).
const NGINX: Application = Application {
    reload: Some("nginx -s reload"),
    ..application("nginx", "`listen … backlog=` in nginx.conf", Some(511))
};
/// Tomcat 9 to 11.
const TOMCAT: Application =
    application("Tomcat", "`acceptCount` of the Connector in server.xml", Some(100));
/// Netty 4. It takes `net.core.somaxconn` as it finds it when it starts.
const NETTY: Application = application("Netty", "ChannelOption.SO_BACKLOG", None);
/// `java.net.ServerSocket` and `java.nio.channels.ServerSocketChannel`.
const JAVA: Application = application("Java", "`backlog` of ServerSocket or bind()", Some(50));

/// Returns the application that made a socket which these processes share. Where systemd holds the socket
/// too, systemd made it and handed it to the application.
pub fn of<'a>(processes: impl Iterator<Item = &'a Process> + Clone) -> Option<Application> {
    let by_systemd = processes.clone().find(|process| process.pid == 1);
    by_systemd.into_iter().chain(processes).find_map(of_process)
}

fn of_process(process: &Process) -> Option<Application> {
    let program = process.cmdline.first().map_or("", |path| file_name(path));
    let known = PROGRAMS.iter().find(|(name, _)| {
        // A program may call itself what it likes, and Debian calls php-fpm by its version.
        process.comm == *name || program == *name || is_version_of(&process.comm, name)
    });
    if let Some((_, application)) = known {
        return Some(*application);
    }
    (process.comm == "java" || program == "java" || process.comm == "jsvc").then(|| java(process))
}

/// Returns whether `comm` is `name` and a version, as in `php-fpm8.2`.
fn is_version_of(comm: &str, name: &str) -> bool {
    let version = comm.strip_prefix(name).unwrap_or_default();
    !version.is_empty() && version.chars().all(|char| char.is_ascii_digit() || char == '.')
}

/// Returns the application of a Java process, by the libraries that it has open or that its command line
/// names.
fn java(process: &Process) -> Application {
    let arguments = process.cmdline.iter().flat_map(|argument| argument.split(':')).map(file_name);
    let libraries = process.jars.iter().map(String::as_str).chain(arguments);
    let begins = |prefixes: &[&str]| {
        let is = |library: &str| prefixes.iter().any(|prefix| library.starts_with(prefix));
        libraries.clone().any(is)
    };
    let is_tomcat = process.cmdline.iter().any(|word| word.starts_with("org.apache.catalina."));
    if is_tomcat || begins(&["catalina.jar", "tomcat-coyote", "tomcat-embed-core"]) {
        TOMCAT
    } else if begins(&["netty-transport", "netty-all"]) {
        NETTY
    } else {
        JAVA
    }
}

fn file_name(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn process(pid: u32, comm: &str, cmdline: &[&str], jars: &[&str]) -> Process {
        let own = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect();
        Process {
            pid,
            comm: comm.to_owned(),
            cmdline: own(cmdline),
            jars: own(jars),
            ..Process::default()
        }
    }

    #[test]
    fn an_application_is_known_by_its_program_or_its_libraries() {
        for (comm, cmdline, jars, expected) in [
            ("nginx", &["nginx: worker process"][..], &[][..], Some("nginx")),
            ("redis-server", &["/usr/bin/redis-server 127.0.0.1:6379"][..], &[][..], Some("Redis")),
            ("php-fpm8.2", &[][..], &[][..], Some("PHP-FPM")),
            ("php-fpm-exporter", &[][..], &[][..], None),
            ("nginxd", &[][..], &[][..], None),
            ("MainThread", &["/usr/bin/node", "server.js"][..], &[][..], Some("Node.js")),
            ("app", &["/opt/app"][..], &[][..], None),
            ("", &[][..], &[][..], None),
            (
                "java",
                &["java", "-cp", "bootstrap.jar", "org.apache.catalina.startup.Bootstrap"][..],
                &[][..],
                Some("Tomcat"),
            ),
            (
                "java",
                &["java", "-jar", "a.jar"][..],
                &["tomcat-embed-core-10.1.jar"][..],
                Some("Tomcat"),
            ),
            (
                "java",
                &["java", "-jar", "a.jar"][..],
                &["netty-transport-4.1.jar"][..],
                Some("Netty"),
            ),
            ("java", &["java", "-cp", "/a/x.jar:/a/netty-all-4.1.jar"][..], &[][..], Some("Netty")),
            (
                "java",
                &["java"][..],
                &["netty-transport-4.1.jar", "tomcat-embed-core-10.1.jar"][..],
                Some("Tomcat"),
            ),
            ("java", &["java", "-jar", "a.jar"][..], &[][..], Some("Java")),
            ("jsvc", &["jsvc.exec"][..], &["catalina.jar"][..], Some("Tomcat")),
        ] {
            let found = of([process(7, comm, cmdline, jars)].iter());
            assert_eq!(found.map(|it| it.name), expected, "{comm} {cmdline:?} {jars:?}");
        }
    }

    #[test]
    fn the_process_that_made_a_socket_decides_and_not_its_heir() {
        let both = [process(900, "nginx", &[], &[]), process(1, "systemd", &[], &[])];
        assert_eq!(of(both.iter()).map(|it| it.name), Some("systemd"));
        let strange = [process(900, "wrapper", &[], &[]), process(901, "nginx", &[], &[])];
        assert_eq!(of(strange.iter()).map(|it| it.name), Some("nginx"));
        assert_eq!(of([].iter()), None);
    }

    #[test]
    fn the_defaults_are_those_of_the_manuals() {
        for (comm, expected) in
            [("nginx", Some(511)), ("redis-server", Some(511)), ("memcached", Some(1024))]
        {
            assert_eq!(
                of([process(7, comm, &[], &[])].iter()).unwrap().default,
                expected,
                "{comm}"
            );
        }
        assert_eq!((TOMCAT.default, NETTY.default), (Some(100), None));
    }
}
