//! Signatures in a form that hosts of every version read.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tcpguard_common::abi::{Fingerprint, Mask, layout, quirk};

use super::describe::{codes, compared, kinds, layout_of, quirk_names, quirks_of};

/// A signature by its fields, independent of the layout of the kernel's tables. A field that the mask does not compare
/// is left out. Each signature has exactly one such form.
#[derive(Clone, Debug, Deserialize, Eq, JsonSchema, Ord, PartialEq, PartialOrd, Serialize)]
pub struct SharedSignature {
    /// Name of the mask, see [`Mask::name`].
    pub mask: String,
    /// Names of the TCP options in order, with commas between them, as `opts=` of a signature in words. Empty: none.
    pub options: String,
    /// Maximum segment size in bytes; 0 without the option.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mss: Option<u16>,
    /// Window, unscaled.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub window: Option<u16>,
    /// Window scale; 255 without the option.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wscale: Option<u8>,
    /// TTL or hop limit, as received. It depends on the distance of the receiver.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ttl: Option<u8>,
    /// IPv4 identification.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ip_id: Option<u16>,
    /// Names of the quirks, with commas between them, in the order of a signature in words. Empty: none.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub quirks: String,
}

impl SharedSignature {
    /// Returns the form of a signature.
    pub fn of(mask: Mask, fingerprint: &Fingerprint) -> Self {
        let print = fingerprint.masked(mask);
        let compared = compared(mask);
        Self {
            mask: mask.name().to_owned(),
            options: kinds(print.options).join(","),
            mss: (compared.mss != 0).then_some(print.mss),
            window: (compared.window != 0).then_some(print.window),
            wscale: (compared.wscale != 0).then_some(print.wscale),
            ttl: (compared.ttl != 0).then_some(print.ttl),
            ip_id: (compared.ip_id != 0).then_some(print.ip_id),
            quirks: quirk_names(print.quirks).collect::<Vec<_>>().join(","),
        }
    }

    /// Returns the signature with this form; `None` where no signature has it.
    pub fn parsed(&self) -> Option<(Mask, Fingerprint)> {
        let mask = Mask::ALL.into_iter().find(|mask| mask.name() == self.mask)?;
        let print = Fingerprint {
            options: layout_of(names(&self.options))?,
            mss: self.mss.unwrap_or_default(),
            window: self.window.unwrap_or_default(),
            ip_id: self.ip_id.unwrap_or_default(),
            quirks: quirks_of(names(&self.quirks))?,
            wscale: self.wscale.unwrap_or_default(),
            ttl: self.ttl.unwrap_or_default(),
            pad: [0; 6],
        };
        // Neither more nor fewer fields than the mask compares, and names in their order.
        (Self::of(mask, &print) == *self).then_some((mask, print))
    }

    /// Length of its SYNs in bytes, IP header included; `None` where it is not fixed.
    pub fn length(&self) -> Option<u16> {
        self.parsed().and_then(|(_, print)| syn_length(&print))
    }
}

/// The names in a list with commas.
fn names(list: &str) -> impl Iterator<Item = &str> {
    list.split(',').filter(|name| !name.is_empty())
}

/// Length of SYNs with a fingerprint in bytes, IP header included; `None` for SYNs with data, options of IP, or
/// options of TCP without a fixed length.
pub(crate) fn syn_length(print: &Fingerprint) -> Option<u16> {
    const LONGER: u16 =
        quirk::PAYLOAD | quirk::IP_OPTIONS | quirk::BAD_OPTIONS | quirk::MANY_OPTIONS;
    if print.quirks & LONGER != 0 {
        return None;
    }
    let length = |code| match code {
        layout::END | layout::NOP => Some(1_u16),
        layout::MSS => Some(4),
        layout::WSCALE => Some(3),
        layout::SACK_OK => Some(2),
        layout::TIMESTAMP => Some(10),
        _ => None,
    };
    let options: u16 = codes(print.options).map(length).sum::<Option<u16>>()?;
    let ip = if print.quirks & quirk::IPV6 != 0 { 40 } else { 20 };
    Some(ip + 20 + options.next_multiple_of(4))
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINUX: Fingerprint = Fingerprint {
        options: layout::MSS
            | layout::SACK_OK << 4
            | layout::TIMESTAMP << 8
            | layout::NOP << 12
            | layout::WSCALE << 16,
        mss: 1460,
        window: 64240,
        ip_id: 4242,
        quirks: quirk::DF | quirk::ECN,
        wscale: 7,
        ttl: 57,
        pad: [0; 6],
    };
    const BARE: Fingerprint = Fingerprint {
        options: 0,
        mss: 0,
        window: 512,
        ip_id: 54321,
        quirks: quirk::IPV6,
        wscale: 255,
        ttl: 244,
        pad: [0; 6],
    };

    #[test]
    fn a_signature_has_one_form_from_which_it_is_read_again() {
        for print in [LINUX, BARE] {
            for mask in Mask::ALL {
                let shared = SharedSignature::of(mask, &print);
                assert_eq!(shared.parsed(), Some((mask, print.masked(mask))), "{shared:?}");
            }
        }
        let shared = SharedSignature::of(Mask::NoTtl, &LINUX);
        assert_eq!((shared.options.as_str(), &*shared.quirks), ("mss,sok,ts,nop,ws", "df,ecn"));
        assert_eq!((shared.ttl, shared.window, shared.ip_id), (None, Some(64240), None));
    }

    #[test]
    fn another_form_is_no_signature() {
        let good = SharedSignature::of(Mask::NoTtl, &LINUX);
        let text = |text: &str| text.to_owned();
        for bad in [
            SharedSignature { mask: text("none"), ..good.clone() },
            SharedSignature { ttl: Some(57), ..good.clone() },
            SharedSignature { window: None, ..good.clone() },
            SharedSignature { options: text("mss,,sok"), ..good.clone() },
            SharedSignature { options: text("mss,unknown"), ..good.clone() },
            SharedSignature { options: ["nop"; 17].join(","), ..good.clone() },
            SharedSignature { quirks: text("ecn,df"), ..good.clone() },
            SharedSignature { quirks: text("df,df"), ..good },
        ] {
            assert_eq!(bad.parsed(), None, "{bad:?}");
            assert_eq!(bad.length(), None);
        }
    }

    /// Lengths of typical SYNs: without options, Windows, Linux, and Linux over IPv6.
    #[test]
    fn a_length_is_that_of_headers_and_options() {
        let length = |print: &Fingerprint| SharedSignature::of(Mask::Shape, print).length();
        let windows = layout::MSS
            | layout::NOP << 4
            | layout::WSCALE << 8
            | layout::NOP << 12
            | layout::NOP << 16
            | layout::SACK_OK << 20;
        let over_ipv4 = Fingerprint { quirks: 0, ..BARE };
        assert_eq!(length(&over_ipv4), Some(40));
        assert_eq!(length(&Fingerprint { options: windows, ..over_ipv4 }), Some(52));
        assert_eq!(length(&LINUX), Some(60));
        assert_eq!(length(&Fingerprint { quirks: quirk::IPV6, ..LINUX }), Some(80));
        assert_eq!(length(&Fingerprint { options: layout::AUTH, ..LINUX }), None);
        assert_eq!(length(&Fingerprint { quirks: quirk::PAYLOAD, ..LINUX }), None);
    }
}
