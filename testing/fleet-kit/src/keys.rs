//! Identities on the bus, as NATS has them in operator mode: an operator vouches for the account of the fleet, and the
//! account's signing keys vouch for its users. The server knows no user by name: each key has a template of permissions
//! into which the server writes the name of the user (<https://github.com/nats-io/jwt>).

use anyhow::{Context, Result};
use data_encoding::BASE64URL_NOPAD;
use nkeys::KeyPair;
use serde_json::{Value, json};

/// Part of a user in the fleet.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Role {
    /// A protected host.
    Host,
    /// A collector.
    Collector,
    /// A controller of routers.
    Controller,
    /// An operator who stores rules.
    Operator,
    /// The owner of the bus. It may do everything.
    Owner,
}

/// An operator, its account, and a signing key for each role.
pub struct Keys {
    operator: KeyPair,
    account: KeyPair,
    /// The server's own account.
    system: KeyPair,
    roles: Vec<(Role, KeyPair)>,
}

/// A user of the bus.
pub struct User {
    /// Name of the user: a token without dots.
    pub name: String,
    jwt: String,
    key: KeyPair,
}

impl Role {
    const ALL: [Self; 5] =
        [Self::Host, Self::Collector, Self::Controller, Self::Operator, Self::Owner];

    const fn name(self) -> &'static str {
        match self {
            Self::Host => "host",
            Self::Collector => "collector",
            Self::Controller => "controller",
            Self::Operator => "operator",
            Self::Owner => "owner",
        }
    }

    /// The template of its permissions.
    fn template(self) -> Value {
        let inbox = "_INBOX.{{name()}}.>";
        let (publish, subscribe, subscriptions, payload) = match self {
            Self::Host => (
                json!({ "allow": [
                    "tg.1.sig.*.{{name()}}",
                    "tg.1.inc.{{name()}}",
                    "tg.1.host.{{name()}}",
                    "tg.1.relief.{{name()}}",
                    "$JS.API.DIRECT.GET.KV_rule",
                ] }),
                json!({ "allow": ["tg.1.sig.>", "tg.1.rule.>", "tg.1.announced.>", inbox] }),
                16,
                4096,
            ),
            Self::Collector => {
                (json!({ "deny": [">"] }), json!({ "allow": ["tg.1.>", inbox] }), 16, 4096)
            }
            Self::Controller => (
                json!({ "allow": ["tg.1.announced.{{name()}}"] }),
                json!({ "allow": ["tg.1.relief.*", inbox] }),
                16,
                4096,
            ),
            Self::Operator => (
                json!({ "allow": ["$KV.rule.>", "$JS.API.DIRECT.GET.KV_rule"] }),
                json!({ "allow": ["tg.1.>", inbox] }),
                16,
                4096,
            ),
            Self::Owner => (json!({}), json!({}), -1, -1),
        };
        json!({
            "pub": publish,
            "sub": subscribe,
            "subs": subscriptions,
            "data": -1,
            "payload": payload,
        })
    }
}

impl Default for Keys {
    fn default() -> Self {
        Self {
            operator: KeyPair::new_operator(),
            account: KeyPair::new_account(),
            system: KeyPair::new_account(),
            roles: Role::ALL.map(|role| (role, KeyPair::new_account())).into(),
        }
    }
}

impl Keys {
    /// The lines of the server's configuration that name operator and accounts.
    pub fn configuration(&self) -> Result<String> {
        let key = self.operator.public_key();
        let (account, system) = (self.account(), self.system.public_key());
        let claims = json!({ "type": "operator", "version": 2, "system_account": system });
        let operator = token(&self.operator, &key, "tcpguard", claims)?;
        let signing_keys = self.roles.iter().map(|(role, key)| {
            json!({
                "kind": "user_scope",
                "key": key.public_key(),
                "role": role.name(),
                "template": role.template(),
            })
        });
        let signing_keys: Vec<Value> = signing_keys.collect();
        let limits = |storage: i64| {
            json!({
                "subs": -1, "data": -1, "payload": -1,
                "imports": -1, "exports": -1, "wildcards": true, "conn": -1, "leaf": -1,
                "disk_storage": storage, "streams": storage, "consumer": storage,
            })
        };
        let claims = json!({
            "type": "account", "version": 2, "limits": limits(-1), "signing_keys": signing_keys,
        });
        let account_token = token(&self.operator, &account, "fleet", claims)?;
        let claims = json!({ "type": "account", "version": 2, "limits": limits(0) });
        let system_token = token(&self.operator, &system, "system", claims)?;
        Ok(format!(
            "operator: \"{operator}\"\n\
             system_account: {system}\n\
             resolver: MEMORY\n\
             resolver_preload: {{\n  {account}: \"{account_token}\"\n  {system}: \"{system_token}\"\n}}\n"
        ))
    }

    /// Public key of the account.
    pub fn account(&self) -> String {
        self.account.public_key()
    }

    /// A user of this name.
    pub fn user(&self, role: Role, name: &str) -> Result<User> {
        let signer = self.roles.iter().find(|(of, _)| *of == role);
        let (_, signer) = signer.context("there is a key for each role")?;
        let key = KeyPair::new_user();
        let claims = json!({ "type": "user", "version": 2, "issuer_account": self.account() });
        let jwt = token(signer, &key.public_key(), name, claims)?;
        Ok(User { name: name.to_owned(), jwt, key })
    }
}

impl User {
    /// The credentials file of the user.
    pub fn credentials(&self) -> Result<String> {
        let seed = self.key.seed()?;
        Ok(format!(
            "-----BEGIN NATS USER JWT-----\n{}\n------END NATS USER JWT------\n\n\
             -----BEGIN USER NKEY SEED-----\n{seed}\n------END USER NKEY SEED------\n",
            self.jwt
        ))
    }

    /// The token that names the user.
    pub fn token(&self) -> &str {
        &self.jwt
    }

    /// The proof that the user has the key, for this challenge of the server.
    pub fn prove(&self, nonce: &str) -> Result<String> {
        Ok(BASE64URL_NOPAD.encode(&self.key.sign(nonce.as_bytes())?))
    }
}

/// A token in which `signer` says this of the key `subject`.
fn token(signer: &KeyPair, subject: &str, name: &str, claims: Value) -> Result<String> {
    let part = |value: &Value| BASE64URL_NOPAD.encode(value.to_string().as_bytes());
    let header = json!({ "typ": "JWT", "alg": "ed25519-nkey" });
    let body = json!({
        "jti": subject,
        "iat": jiff::Timestamp::now().as_second(),
        "iss": signer.public_key(),
        "sub": subject,
        "name": name,
        "nats": claims,
    });
    let signed = format!("{}.{}", part(&header), part(&body));
    let signature = signer.sign(signed.as_bytes())?;
    Ok(format!("{signed}.{}", BASE64URL_NOPAD.encode(&signature)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_is_signed_by_the_key_of_its_role_and_has_no_permissions_of_its_own() {
        let keys = Keys::default();
        let user = keys.user(Role::Host, "a1b2c301").unwrap();
        let parts: Vec<&str> = user.token().split('.').collect();
        let claims = BASE64URL_NOPAD.decode(parts[1].as_bytes()).unwrap();
        let claims: Value = serde_json::from_slice(&claims).unwrap();
        assert_eq!(claims["name"], "a1b2c301");
        assert_eq!(claims["nats"]["issuer_account"], keys.account().as_str());
        assert_eq!(claims["nats"].get("pub"), None);
        let (_, key) = &keys.roles[0];
        assert_eq!(claims["iss"], key.public_key().as_str());
        let signature = BASE64URL_NOPAD.decode(parts[2].as_bytes()).unwrap();
        let signed = format!("{}.{}", parts[0], parts[1]);
        key.verify(signed.as_bytes(), &signature).unwrap();
        assert!(user.credentials().unwrap().contains("\nSU"));
    }
}
