//! The keys of a fleet on its bus, in a file.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use nkeys::{KeyPair, KeyPairType};
use ring::hmac;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tcpguard_host::hint::Failure;
use tcpguard_host::{durable, json};

use super::jwt::{self, Claims};
use crate::cli::args::Part;
use crate::document::HostId;
use crate::hook::secret::Secret;

/// The keys of a fleet: an operator of NATS, who signs an account, and a key of the account for each part that a host
/// may have. The permissions of a part are bound to its key.
#[derive(Deserialize, Serialize)]
pub(super) struct Authority {
    /// Name and version of the document.
    schema: String,
    /// Public key of the account.
    account: String,
    /// Public key of the system account, which JetStream needs.
    system: String,
    operator_jwt: String,
    account_jwt: String,
    system_jwt: String,
    /// Seed of the operator, to change the account with tools of NATS.
    operator_seed: String,
    /// Seed of the account.
    account_seed: String,
    /// Seeds of the keys for each part.
    parts: BTreeMap<String, String>,
    /// Number of times that the credentials of a host were revoked.
    revoked: BTreeMap<HostId, u32>,
}

impl Authority {
    const SCHEMA: &str = "tcpguard.fleet.authority/1";

    /// The keys in this file, which is made if it does not exist.
    ///
    /// # Errors
    /// When it is none, or can be read by others.
    pub fn read_or_make(path: &Path, now: jiff::Timestamp) -> Result<Self, Failure> {
        if path.symlink_metadata().is_ok() {
            return Self::read(path);
        }
        let made = Self::make(now)?;
        made.write(path)?;
        log::info!("new keys of a fleet are in {}: keep it off the hosts", path.display());
        Ok(made)
    }

    /// Writes the keys to this file.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn write(&self, path: &Path) -> Result<(), Failure> {
        let content = json::bytes(self).map_err(std::io::Error::from);
        let written = content.and_then(|content| durable::replace(path, 0o600, &content));
        written.map_err(|error| {
            let hint = format!("name another file with --authority, or: ls -ld {}", path.display());
            Failure::new(format!("cannot write {}: {error}", path.display()), hint)
        })
    }

    /// The keys in this file.
    ///
    /// # Errors
    /// When it is none, or can be read by others.
    pub fn read(path: &Path) -> Result<Self, Failure> {
        let content = Secret::read_up_to(path, LONGEST)?;
        let wrong = |why: String| {
            let hint = "name another file with --authority: it is made if it does not exist";
            Failure::new(
                format!("{} does not hold the keys of a fleet: {why}", path.display()),
                hint,
            )
        };
        let read: Self =
            serde_json::from_slice(content.bytes()).map_err(|error| wrong(error.to_string()))?;
        match read.schema == Self::SCHEMA {
            true => Ok(read),
            false => Err(wrong(format!("its schema is {:?}", read.schema))),
        }
    }

    fn make(now: jiff::Timestamp) -> Result<Self, Failure> {
        let operator = jwt::make_key(KeyPairType::Operator)?;
        let account = jwt::make_key(KeyPairType::Account)?;
        let system = jwt::make_key(KeyPairType::Account)?.public_key();
        let mut parts = BTreeMap::new();
        for part in Part::ALL {
            let key = jwt::make_key(KeyPairType::Account)?;
            parts.insert(part.name().to_owned(), jwt::seed_of(&key)?);
        }
        let sign = |subject: &str, name: &str, nats| {
            jwt::sign(&operator, Claims { subject, name, at: now, ends: None, nats })
        };
        let operator_key = operator.public_key();
        let operator_jwt = sign(
            &operator_key,
            "tcpguard",
            json!({ "type": "operator", "version": 2, "system_account": system }),
        )?;
        let system_jwt = sign(
            &system,
            "SYS",
            json!({ "type": "account", "version": 2, "limits": limits(0, 0) }),
        )?;
        let mut made = Self {
            schema: Self::SCHEMA.to_owned(),
            account: account.public_key(),
            operator_jwt,
            account_jwt: String::new(),
            system_jwt,
            operator_seed: jwt::seed_of(&operator)?,
            account_seed: jwt::seed_of(&account)?,
            parts,
            system,
            revoked: BTreeMap::new(),
        };
        made.sign_account(now)?;
        Ok(made)
    }

    /// Signs the account, with the permissions of each part and the keys of hosts that are revoked.
    fn sign_account(&mut self, now: jiff::Timestamp) -> Result<(), Failure> {
        let mut scopes = Vec::new();
        for part in Part::ALL {
            scopes.push(json!({
                "kind": "user_scope",
                "key": self.part(part)?.public_key(),
                "role": part.name(),
                "template": part.template(),
            }));
        }
        let mut revocations = BTreeMap::new();
        for (host, times) in &self.revoked {
            for number in 0..*times {
                // Until any time: no later credentials have this key.
                revocations.insert(self.user(host, number)?.public_key(), i64::MAX);
            }
        }
        let claims = Claims {
            subject: &self.account,
            name: "FLEET",
            at: now,
            ends: None,
            nats: json!({
                "type": "account",
                "version": 2,
                // With a single one the server would refuse to make the store a second time, though it is the same.
                "limits": limits(STORAGE, 2),
                "signing_keys": scopes,
                "revocations": revocations,
            }),
        };
        self.account_jwt = jwt::sign(&jwt::read_key(&self.operator_seed)?, claims)?;
        Ok(())
    }

    /// The key that signs credentials for this part.
    fn part(&self, part: Part) -> Result<KeyPair, Failure> {
        let seed = self.parts.get(part.name());
        let seed = seed.ok_or_else(|| {
            let hint = "name another file with --authority: it is made if it does not exist";
            Failure::new(format!("there is no key for an {}", part.name()), hint)
        })?;
        jwt::read_key(seed)
    }

    /// The key of a host after so many revocations. It follows from the account's seed, so that it can be revoked
    /// without a record of what was issued.
    fn user(&self, host: &HostId, revoked: u32) -> Result<KeyPair, Failure> {
        let secret = hmac::Key::new(hmac::HMAC_SHA256, self.account_seed.as_bytes());
        let tag = hmac::sign(&secret, format!("user/{host}/{revoked}").as_bytes());
        let seed = tag.as_ref().try_into().expect("SHA-256 has 32 bytes");
        jwt::key_of(KeyPairType::User, seed)
    }

    /// Revokes all credentials of a host that were issued so far.
    ///
    /// # Errors
    /// When a key cannot be used.
    pub fn revoke(&mut self, host: &HostId, now: jiff::Timestamp) -> Result<(), Failure> {
        *self.revoked.entry(host.clone()).or_default() += 1;
        self.sign_account(now)
    }

    /// Credentials of a host.
    ///
    /// # Errors
    /// When the file lacks the key of its part.
    pub fn credentials(
        &self,
        host: &HostId,
        part: Part,
        now: jiff::Timestamp,
        lifetime: Option<Duration>,
    ) -> Result<String, Failure> {
        let issuer = self.part(part)?;
        let user = self.user(host, self.revoked.get(host).copied().unwrap_or_default())?;
        let ends = lifetime.and_then(|lifetime| now.checked_add(lifetime).ok());
        let subject = user.public_key();
        // The limits are those of the key.
        let nats = json!({ "type": "user", "version": 2, "issuer_account": self.account });
        let claims = Claims { subject: &subject, name: host.as_str(), at: now, ends, nats };
        Ok(jwt::credentials(&jwt::sign(&issuer, claims)?, &jwt::seed_of(&user)?))
    }

    /// Configuration of the server.
    pub fn server_configuration(&self) -> String {
        let Self { account, system, operator_jwt, account_jwt, system_jwt, .. } = self;
        format!(
            "# NATS server of a fleet of tcpguard, by: tcpguard-fleet enroll\n\
             # It is the same for all hosts, and printed anew by --revoke. So keep your own settings in\n\
             # another file that includes this one. Versions: 2.11.16, 2.12.7 or later.\n\
             listen: \"0.0.0.0:4222\"\n\
             # Without TLS everyone on the path can read and change documents.\n\
             #tls {{ cert_file: \"/etc/nats/server.pem\", key_file: \"/etc/nats/server.key\" }}\n\
             jetstream {{ store_dir: \"/var/lib/nats\", max_file_store: {STORAGE} }}\n\
             max_payload: 65536\n\
             max_pending: 8388608\n\
             write_deadline: \"2s\"\n\
             ping_interval: \"20s\"\n\
             operator: {operator_jwt}\n\
             system_account: {system}\n\
             resolver: MEMORY\n\
             resolver_preload: {{\n  {account}: {account_jwt}\n  {system}: {system_jwt}\n}}\n"
        )
    }
}

/// Storage of the account, in bytes: four times the bucket of operators' rules.
const STORAGE: i64 = 64 << 20;
/// Longest file, in bytes: enough for 100,000 revoked hosts.
const LONGEST: u64 = 16 << 20;

/// Limits of an account, in the terms of NATS.
fn limits(disk: i64, streams: i64) -> Value {
    json!({
        "subs": -1, "data": -1, "payload": -1, "imports": -1, "exports": -1,
        "wildcards": true, "conn": -1, "leaf": -1,
        "disk_storage": disk, "streams": streams, "consumer": streams,
    })
}

#[cfg(test)]
mod tests {
    use super::super::jwt::tests::claims;
    use super::*;

    #[test]
    fn keys_are_made_once_and_sign_hosts_for_one_account() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("authority.json");
        let now = "2026-11-20T14:05:31Z".parse().expect("a time");
        let first = Authority::read_or_make(&path, now).expect("made");
        let authority = Authority::read_or_make(&path, now).expect("read");
        assert_eq!(authority.server_configuration(), first.server_configuration());

        let account = claims(&authority.account_jwt);
        let operator = claims(&authority.operator_jwt);
        assert_eq!((&account["iss"], &operator["iss"]), (&operator["sub"], &operator["sub"]));
        let keys = account["nats"]["signing_keys"].as_array().expect("keys");
        assert_eq!(keys.len(), 4);
        let host = "a1b2c3d4".parse().expect("a host");
        for (part, key) in Part::ALL.into_iter().zip(keys) {
            let lifetime = Some(Duration::from_secs(3600));
            let text = authority.credentials(&host, part, now, lifetime).expect("credentials");
            let user = claims(text.lines().nth(1).expect("a JWT"));
            assert_eq!((&user["iss"], &key["role"]), (&key["key"], &part.name().into()));
            assert_eq!(user["nats"]["issuer_account"], account["sub"]);
            assert_eq!(user["name"], "a1b2c3d4");
            assert_eq!(user["exp"].as_i64(), user["iat"].as_i64().map(|at| at + 3600));
            let end =
                crate::bus::Claims::read(&text).and_then(|claims| claims.end()).expect("an end");
            assert_eq!(Some(end.as_second()), user["exp"].as_i64());
            let seed = text.lines().nth(5).expect("a seed");
            let key = jwt::read_key(seed).expect("a key");
            assert_eq!(user["sub"], key.public_key());
        }
        let configuration = authority.server_configuration();
        let secrets = [&authority.operator_seed, &authority.account_seed];
        assert!(
            secrets
                .into_iter()
                .chain(authority.parts.values())
                .all(|seed| !configuration.contains(seed.as_str()))
        );
    }

    #[test]
    fn revoked_credentials_are_those_that_were_issued_before() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("authority.json");
        let now = "2026-11-20T14:05:31Z".parse().expect("a time");
        assert!(Authority::read(&path).is_err(), "no new fleet is made");
        let mut authority = Authority::read_or_make(&path, now).expect("made");
        let host = "a1b2c3d4".parse().expect("a host");
        let key = |authority: &Authority| {
            let text = authority.credentials(&host, Part::Edge, now, None).expect("credentials");
            claims(text.lines().nth(1).expect("a JWT"))["sub"].clone()
        };
        let revoked = |authority: &Authority| {
            let claims = claims(&authority.account_jwt);
            claims["nats"]["revocations"].as_object().expect("an object").clone()
        };
        let first = key(&authority);
        assert_eq!(key(&authority), first);
        assert!(revoked(&authority).is_empty());
        authority.revoke(&host, now).expect("revoked");
        authority.write(&path).expect("written");
        let mut authority = Authority::read(&path).expect("read");
        let second = key(&authority);
        assert_eq!(
            revoked(&authority).keys().collect::<Vec<_>>(),
            [first.as_str().expect("a key")]
        );
        authority.revoke(&host, now).expect("revoked");
        let revoked = revoked(&authority);
        for (key, is_revoked) in [(first, true), (second, true), (key(&authority), false)] {
            assert_eq!(revoked.contains_key(key.as_str().expect("a key")), is_revoked);
        }
    }

    #[test]
    fn a_file_that_holds_no_keys_is_not_replaced() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("authority.json");
        durable::replace(&path, 0o600, b"{}").expect("written");
        let now = "2026-11-20T14:05:31Z".parse().expect("a time");
        let failure = Authority::read_or_make(&path, now).err().expect("no keys");
        assert!(failure.message.contains("does not hold the keys of a fleet"), "{failure}");
        durable::replace(&path, 0o644, b"{}").expect("written");
        let failure = Authority::read_or_make(&path, now).err().expect("for all to read");
        assert_eq!(failure.hint, format!("chmod 600 {}", path.display()));
    }
}
