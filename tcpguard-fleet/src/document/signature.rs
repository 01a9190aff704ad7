//! `tcpguard.fleet.signature/1`: a signature of a flood, as one host sees it.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tcpguard_common::abi::{Fingerprint, Mask};
use tcpguard_engine::{IncidentClass, SharedSignature};

use super::check;
use super::envelope::Envelope;
use super::error::DocumentError;
use super::id::Id;

/// A signature of a flood, as one host sees it.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
pub struct Signature {
    /// The sender.
    #[serde(flatten)]
    pub envelope: Envelope,
    /// Its evidence.
    #[serde(flatten)]
    pub evidence: SignatureEvidence,
}

/// One host's evidence about a signature.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
pub struct SignatureEvidence {
    /// Local port to which the SYNs go.
    pub port: u16,
    /// Name of the signature: a hash of its fields.
    pub id: Id,
    /// The signature, in the form in which the agent reports it, and without its TTL.
    pub signature: SharedSignature,
    /// Class of the flood.
    pub class: IncidentClass,
    /// SYNs of the flood per second over the last second, whatever their signature.
    pub syn_pps: f64,
    /// Share of the failed handshakes that have the signature, 0 to 1.
    pub share: f64,
    /// Share of the attack indicators that hold, 0 to 1.
    pub confidence: f64,
    /// Clients with this signature that completed a handshake at the host within the last 10 minutes.
    pub clients_like_it: u64,
    /// SYNs with this signature at the host so far.
    pub hits: u64,
}

impl SignatureEvidence {
    pub(super) fn check(&self) -> Result<(), DocumentError> {
        check::within("port", self.port, 1..=u16::MAX)?;
        if without_ttl(&self.signature).as_ref() != Some(&self.signature) {
            return check::wrong("signature", "it is none, or its TTL counts");
        }
        let id = signature_id(&self.signature);
        if self.id != id {
            return check::wrong("id", format!("{} ({id} by its fields)", self.id));
        }
        if !self.class.is_flood() {
            return check::wrong("class", format!("{} is no flood", self.class.name()));
        }
        check::rate("syn_pps", self.syn_pps)?;
        check::share("share", self.share)?;
        check::share("confidence", self.confidence)?;
        check::whole("clients_like_it", self.clients_like_it)?;
        check::whole("hits", self.hits)
    }
}

/// The signature as hosts share it: SYNs of one flood arrive at each host over another distance, so the TTL does not
/// count. `None` where it is no signature.
pub fn without_ttl(signature: &SharedSignature) -> Option<SharedSignature> {
    let (mask, fingerprint) = signature.parsed()?;
    Some(shared(mask, &fingerprint))
}

/// Name of a signature by its fields, in text and in a fixed order. It depends on no layout of the kernel's tables.
pub fn signature_id(signature: &SharedSignature) -> Id {
    let SharedSignature { mask, options, mss, window, wscale, ttl, ip_id, quirks } = signature;
    let number = |field: Option<u16>| field.map_or_else(String::new, |number| number.to_string());
    let fields = [
        mask.clone(),
        options.clone(),
        number(*mss),
        number(*window),
        number(wscale.map(u16::from)),
        number(ttl.map(u16::from)),
        number(*ip_id),
        quirks.clone(),
    ];
    Id::of("signature", fields.join("|").as_bytes())
}

/// The fields of a fingerprint that this mask compares, without the TTL.
pub(super) fn shared(mask: Mask, fingerprint: &Fingerprint) -> SharedSignature {
    let mask = match mask {
        Mask::Full => Mask::NoTtl,
        Mask::NoWindow => Mask::NoWindowTtl,
        Mask::NoWindowMss => Mask::NoWindowMssTtl,
        other => other,
    };
    SharedSignature::of(mask, fingerprint)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Of hping3: no options, a window of 512.
    const BARE: Fingerprint = Fingerprint {
        options: 0,
        mss: 0,
        window: 512,
        ip_id: 7,
        quirks: 0,
        wscale: 255,
        ttl: 64,
        pad: [0; 6],
    };

    fn id(mask: Mask, fingerprint: &Fingerprint) -> Id {
        signature_id(&shared(mask, fingerprint))
    }

    #[test]
    fn equal_signatures_have_equal_names_whatever_does_not_count() {
        let other = Fingerprint { ttl: 51, ip_id: 8, ..BARE };
        assert_eq!(id(Mask::Full, &BARE), id(Mask::Full, &other), "from another distance");
        assert_eq!(id(Mask::Full, &BARE), id(Mask::NoTtl, &other));
        assert_ne!(id(Mask::IpId, &BARE), id(Mask::IpId, &other));
        let mut ids: Vec<_> = Mask::ALL.map(|mask| id(mask, &BARE)).into();
        ids.sort_unstable();
        ids.dedup();
        assert_eq!(ids.len(), 5, "a mask without TTL is part of the signature");
    }

    #[test]
    fn each_field_is_part_of_the_name() {
        let signature = shared(Mask::NoTtl, &BARE);
        let text = |text: &str| text.to_owned();
        let changed = [
            SharedSignature { mask: text("shape"), ..signature.clone() },
            SharedSignature { options: text("mss"), ..signature.clone() },
            SharedSignature { mss: Some(1), ..signature.clone() },
            SharedSignature { window: None, ..signature.clone() },
            SharedSignature { wscale: Some(7), ..signature.clone() },
            SharedSignature { ttl: Some(64), ..signature.clone() },
            SharedSignature { ip_id: Some(7), ..signature.clone() },
            SharedSignature { quirks: text("df"), ..signature.clone() },
        ];
        for other in changed {
            assert_ne!(signature_id(&other), signature_id(&signature), "{other:?}");
        }
    }

    #[test]
    fn the_ttl_of_an_agents_signature_is_left_out() {
        for mask in Mask::ALL {
            let of_agent = SharedSignature::of(mask, &BARE);
            let shared = without_ttl(&of_agent).expect("a signature");
            assert_eq!(shared.ttl, None, "{mask:?}");
            assert_eq!(without_ttl(&shared), Some(shared));
        }
        let none = SharedSignature { mask: "odd".to_owned(), ..shared(Mask::Shape, &BARE) };
        assert_eq!(without_ttl(&none), None);
    }
}
