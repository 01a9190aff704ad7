//! Cookies as clients and attackers meet them.

extern crate std;

use std::vec::Vec;

use super::*;
use crate::abi::Addr;
use crate::model::cookie_secret;

const TICK: u64 = 40 * SLOT_TICKS + 12_345;

fn v4() -> FlowKey {
    FlowKey {
        client: Addr::from_v4([203, 0, 113, 9]),
        server: Addr::from_v4([192, 0, 2, 1]),
        client_port: 50_000u16.to_be_bytes(),
        server_port: 443u16.to_be_bytes(),
    }
}

fn v6() -> FlowKey {
    FlowKey {
        client: Addr::from_v6_words([0x2001_0db8, 0, 0, 9]),
        server: Addr::from_v6_words([0x2001_0db8, 0, 0, 1]),
        ..v4()
    }
}

fn both() -> [FlowKey; 2] {
    [v4(), v6()]
}

fn of(flow: &FlowKey) -> Handshake<'_> {
    Handshake { flow, client_isn: 0x1234_5678 }
}

/// A client without timestamps, as Windows is by default.
fn windows() -> Offer {
    Offer::new(1440, 8, option::WSCALE | option::SACK)
}

fn linux() -> Offer {
    Offer::new(1440, 10, option::WSCALE | option::SACK | option::ECN | option::TIMESTAMPS)
}

fn make(secret: &CookieSecret, handshake: &Handshake<'_>, tick: u64, offer: &Offer) -> Cookie {
    super::make(secret, handshake, tick, &Choice::new(offer, is_v6(handshake.flow)))
}

fn echo(offer: &Offer, cookie: &Cookie) -> Option<u32> {
    offer.has(option::TIMESTAMPS).then_some(cookie.timestamp)
}

#[test]
fn every_entry_of_both_tables_decodes_to_what_was_agreed() {
    let secret = cookie_secret(1);
    for flow in both() {
        let v6 = is_v6(&flow);
        for index in 0..ENTRIES as u32 {
            let offer = table::from_joint(index, v6);
            let choice = Choice::new(&offer, v6);
            // Below the floor of a family several entries mean the same.
            assert_eq!(choice.agreed(), offer);
            let cookie = make(&secret, &of(&flow), TICK, &offer);
            assert_eq!(check(&secret, &of(&flow), TICK, cookie.isn, None), Some(offer));

            let mss = table::from_mss(index, v6);
            for bits in 0..8 {
                for wscale in 0..=MAX_WSCALE {
                    let options = (bits & 3) | (bits & 4) << 1 | option::TIMESTAMPS;
                    let offer = Offer::new(mss, wscale, options);
                    assert_eq!(Choice::new(&offer, v6).agreed(), offer);
                    let cookie = make(&secret, &of(&flow), TICK, &offer);
                    let back = check(&secret, &of(&flow), TICK, cookie.isn, Some(cookie.timestamp));
                    assert_eq!(back, Some(offer));
                }
            }
        }
    }
}

#[test]
fn a_cookie_is_good_for_one_slot_at_least_and_two_at_most() {
    let secret = cookie_secret(2);
    let flow = v4();
    for offer in [windows(), linux()] {
        for made in (39 * SLOT_TICKS..41 * SLOT_TICKS).step_by(509) {
            let cookie = make(&secret, &of(&flow), made, &offer);
            let good =
                |at| check(&secret, &of(&flow), at, cookie.isn, echo(&offer, &cookie)).is_some();
            // A timestamp may be up to 63 ticks old when it is sent.
            assert!(good(made) && good(made + SLOT_TICKS - 64), "made at {made}");
            assert!(!good(made + 2 * SLOT_TICKS), "made at {made}");
            assert!(!good(made - 2 * SLOT_TICKS), "made at {made}");
        }
    }
}

#[test]
fn timestamps_are_never_ahead_of_the_clock_and_go_on_from_there() {
    let secret = cookie_secret(3);
    let flow = v4();
    for tick in TICK..TICK + 200 {
        for wscale in 0..=MAX_WSCALE {
            let cookie = make(&secret, &of(&flow), tick, &Offer { wscale, ..linux() });
            let behind = timestamp(&secret, tick).wrapping_sub(cookie.timestamp);
            assert!(behind < 64, "{behind} ticks");
        }
    }
}

/// A cookie is refused after any change of address, port, sequence numbers, options, key or time.
#[test]
fn whatever_is_changed_the_cookie_is_refused() {
    let secret = cookie_secret(4);
    for flow in both() {
        for offer in [windows(), linux()] {
            let cookie = make(&secret, &of(&flow), TICK, &offer);
            let stamp = echo(&offer, &cookie);
            let refused = |secret: &CookieSecret, handshake: Handshake<'_>, isn, stamp| {
                assert_eq!(check(secret, &handshake, TICK, isn, stamp), None);
            };
            let other = Addr::from_v4([203, 0, 113, 10]);
            for changed in [
                FlowKey { client_port: [1, 2], ..flow },
                FlowKey { server_port: [1, 2], ..flow },
                FlowKey { client: flow.server, server: flow.client, ..flow },
                FlowKey { client: other, server: Addr::from_v4([192, 0, 2, 1]), ..flow },
                FlowKey { server: Addr::from_v6_words([0x2001_0db8, 0, 0, 2]), ..v6() },
            ] {
                refused(&secret, of(&changed), cookie.isn, stamp);
            }
            refused(&secret, Handshake { client_isn: 7, ..of(&flow) }, cookie.isn, stamp);
            for bit in 0..32 {
                refused(&secret, of(&flow), cookie.isn ^ 1 << bit, stamp);
                if let Some(stamp) = stamp {
                    refused(&secret, of(&flow), cookie.isn, Some(stamp ^ 1 << bit));
                }
            }
            refused(&cookie_secret(5), of(&flow), cookie.isn, stamp);
            // Neither kind passes for the other.
            let swapped = if stamp.is_some() { None } else { Some(timestamp(&secret, TICK)) };
            refused(&secret, of(&flow), cookie.isn, swapped);
        }
    }
}

/// Timestamps come round after 2^32 ticks, 52 days, slots after 2^32 of them.
#[test]
fn a_cookie_is_not_good_again_when_its_timestamp_has_come_round() {
    let secret = cookie_secret(6);
    let flow = v4();
    for (offer, round) in [(linux(), 1 << 32), (windows(), 1 << 32)] {
        let cookie = make(&secret, &of(&flow), TICK, &offer);
        for times in [1, 2, 64, 1 << 18] {
            let (later, stamp) = (TICK + times * round, echo(&offer, &cookie));
            assert_eq!(check(&secret, &of(&flow), later, cookie.isn, stamp), None, "{times}");
        }
    }
}

/// Deterministic noise (xorshift64*, Vigna 2014).
fn noise(state: &mut u64) -> u32 {
    *state ^= *state >> 12;
    *state ^= *state << 25;
    *state ^= *state >> 27;
    (state.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 32) as u32
}

/// ACKs out of nowhere: how many of `guesses` are taken when only `bits` of the MAC are compared. Each
/// has other numbers; with timestamps one that could have been sent.
fn taken(guesses: u32, bits: u32, flow: &FlowKey, stamped: bool) -> u32 {
    let secret = cookie_secret(7);
    let mut state = 0x9e37_79b9_7f4a_7c15 + u64::from(bits);
    let compared = (1 << bits) - 1;
    let guess = |_: &u32| {
        let handshake = Handshake { flow, client_isn: noise(&mut state) };
        let echo = stamped.then(|| timestamp(&secret, TICK - u64::from(noise(&mut state) % 9999)));
        let isn = noise(&mut state);
        check_bits(&secret, &handshake, TICK, isn, echo, compared).is_some()
    };
    (0..guesses).filter(guess).count() as u32
}

/// With a MAC of `n` bits a blind guess is right once in `2^n`. The full length follows the same rule:
/// nothing else about a guess depends on it.
#[test]
fn a_shortened_mac_is_guessed_as_often_as_predicted() {
    const GUESSES: u32 = 1_000_000;
    for (flow, stamped, bits) in both()
        .into_iter()
        .flat_map(|flow| [false, true].map(|stamped| (flow, stamped)))
        .flat_map(|(flow, stamped)| [6, 9, 12].map(|bits| (flow, stamped, bits)))
    {
        let missed = 1.0 - 1.0 / f64::from(1 << bits);
        let expected = f64::from(GUESSES) * (1.0 - missed);
        let deviation = (expected * missed).sqrt();
        let right = f64::from(taken(GUESSES, bits, &flow, stamped));
        // Of the twelve numbers one is further off in 1 of 1,300 runs with other seeds.
        let off = (right - expected) / deviation;
        assert!(off.abs() < 4.0, "{bits} bits, stamped {stamped}: {right} of {expected}");
    }
}

/// All bits, as the product compares them: of 10 million guesses, half of them with timestamps, one is
/// right in 1 of 18 runs with other seeds.
#[test]
fn ten_million_random_acks_bring_back_no_cookie() {
    let secret = cookie_secret(9);
    let mut state = 0x2545_f491_4f6c_dd1d;
    for flow in both() {
        for guess in 0..5_000_000 {
            let flow = FlowKey { client_port: (noise(&mut state) as u16).to_be_bytes(), ..flow };
            let handshake = Handshake { flow: &flow, client_isn: noise(&mut state) };
            let stamped = guess % 2 == 0;
            let echo =
                stamped.then(|| timestamp(&secret, TICK - u64::from(noise(&mut state) % 9999)));
            let isn = noise(&mut state);
            assert_eq!(check(&secret, &handshake, TICK, isn, echo), None, "guess {guess}");
        }
    }
}

/// Cookies that an attacker got for his own addresses appear random: each bit is one in half of them,
/// and no two bits are correlated.
#[test]
fn no_bit_of_a_cookie_depends_on_what_an_attacker_can_count_up() {
    const COOKIES: u32 = 20_000;
    let secret = cookie_secret(8);
    let cookies: Vec<u32> = (0..COOKIES)
        .map(|host| {
            let flow = FlowKey { client: Addr::from_v4(host.to_be_bytes()), ..v4() };
            make(&secret, &of(&flow), TICK, &windows()).isn
        })
        .collect();
    let half = f64::from(COOKIES) / 2.0;
    let deviation = (f64::from(COOKIES) / 4.0).sqrt();
    for one in 0..ODD_SHIFT {
        for other in 0..one {
            let ones = cookies.iter().filter(|isn| (*isn >> one ^ *isn >> other) & 1 == 1).count();
            assert!((ones as f64 - half).abs() < 5.0 * deviation, "bits {one} and {other}: {ones}");
        }
    }
}

/// A change here is a change of the cookie format: raise `FORMAT` with it, so that agents of another
/// version do not take over the secret.
#[test]
fn cookies_of_format_1() {
    assert_eq!(FORMAT, 1);
    let secret = cookie_secret(1);
    let made = |flow: &FlowKey, offer| {
        let Cookie { isn, timestamp } = make(&secret, &of(flow), TICK, &offer);
        (isn, timestamp)
    };
    let cookies = both().map(|flow| [made(&flow, windows()), made(&flow, linux())]);
    let expected = [
        [(371_365_296, 0), (1_068_234_569, 3_312_481_235)],
        [(108_195_520, 0), (385_437_720, 3_312_481_235)],
    ];
    assert_eq!(cookies, expected);
    assert_eq!(
        [option::WSCALE, option::SACK, option::TIMESTAMPS, option::ECN],
        [1, 2, 4, 8],
        "what looks of SYN-ACKs hold"
    );
}
