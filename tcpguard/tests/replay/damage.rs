//! Captures that end too early, and captures that lie.

use tcpguard::replay::capture::CaptureError;
use tcpguard_engine::Mode;
use tcpguard_host::hint::Hint;

use super::files::*;
use super::packets::*;
use super::run;

/// Two connections of 5 packets each.
fn two_visits() -> Vec<Stamped> {
    (0..2)
        .flat_map(|number| {
            let at = BEGIN + u64::from(number) * SECOND;
            connection(at, client(number), addr(SERVER), Shows::Both)
        })
        .collect()
}

fn pcapng() -> Vec<u8> {
    let mut file = PcapNg::new(Order::Little);
    file.interface(ETHERNET, 0, None);
    for (at, packet) in two_visits() {
        let frame = on_link(ETHERNET, Order::Little, &packet);
        file.enhanced(0, in_units(None, at), &frame);
    }
    file.bytes
}

/// Returns the error for a file that is no capture.
fn refused(capture: &[u8]) -> String {
    let error = run(capture, Mode::Observe).expect_err("no capture");
    assert!(error.is::<CaptureError>());
    error.to_string()
}

/// Returns the offset and the reason of the damage in a capture, and the number of packets before it.
fn damage(capture: &[u8]) -> (u64, String, u64) {
    let outcome = run(capture, Mode::Observe).expect("a capture");
    match outcome.damage {
        Some(CaptureError::Damaged { record, reason, .. }) => {
            (record, reason, outcome.replay.packets)
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn cut_at_every_byte_a_capture_shows_what_it_held_and_where_it_ends() {
    // A section header and an interface description; a pcap header.
    for (file, header) in [(PCAP.write(&two_visits()), 24), (pcapng(), 28)] {
        let mut packets = 0;
        for length in 0..file.len() {
            let cut = &file[..length];
            if length < header {
                let reason = refused(cut);
                assert!(reason.contains("at byte 0"), "{reason}");
                continue;
            }
            let outcome = run(cut, Mode::Observe).expect("a capture");
            assert!(outcome.damage.is_none(), "{length}: {:?}", outcome.damage);
            let replay = outcome.replay;
            assert!(replay.packets >= packets, "{length}: no fewer than before");
            packets = replay.packets;
            let place = format!("at byte {length},");
            let reported = replay.notes.iter().any(|note| note.contains(&place));
            assert_eq!(reported, replay.skipped.contains_key("cut_off"), "{length}");
            // A cut exactly between two records cannot be detected.
            assert_eq!(reported, !ends_with_a_record(&file, header, length), "{length}");
        }
        assert_eq!(packets, 9);
    }
}

fn ends_with_a_record(file: &[u8], header: usize, length: usize) -> bool {
    let number = |at: usize| u32::from_le_bytes(file[at..at + 4].try_into().unwrap()) as usize;
    let mut at = header;
    while at < length {
        at += if header == 24 { 16 + number(at + 8) } else { number(at + 4) };
    }
    at == length
}

#[test]
fn cut_at_every_byte_a_compressed_capture_shows_what_it_held() {
    // In two frames, as a parallel compressor writes them.
    let file = PCAP.write(&two_visits());
    for compress in COMPRESSIONS {
        let file = file.chunks(700).map(compress).collect::<Vec<_>>().concat();
        let mut read = 0;
        for length in 0..file.len() {
            if let Ok(outcome) = run(&file[..length], Mode::Observe) {
                assert!(outcome.damage.is_none(), "{length}: {:?}", outcome.damage);
                read += outcome.replay.packets;
            }
        }
        assert!(read > 0, "some packets could be read");
    }
}

#[test]
fn a_flood_is_recognised_in_a_capture_that_is_cut() {
    let file = PCAP.write(&flood(BEGIN, 2, 500, Shows::Arriving, any_address));
    let outcome = run(&file[..file.len() - 1], Mode::Observe).unwrap();
    assert_eq!(outcome.replay.incidents[0].class.name(), "random_spoofed");
    assert_eq!(outcome.replay.skipped["cut_off"], 1);
}

#[test]
fn what_is_no_capture_is_refused_with_the_reason() {
    for (file, expected) in [
        (&b""[..], "at byte 0: it is empty"),
        (&b"\x1f\x8b\x08"[..], "at byte 0 of the uncompressed capture: it is empty"),
        (&PCAP.write(&[])[..20], "it ends within its header, after 20 bytes"),
        (&b"#!/bin/sh\necho hello\n"[..], "neither pcap nor pcapng"),
        (&gzip(b"#!/bin/sh\necho hello\n")[..], "neither pcap nor pcapng"),
        (&b"\x0a\x0d\x0d\x0a\x1c\0\0\0\x4d\x3c\x2b\x1b\x01\0\0\0"[..], "byte order"),
    ] {
        let reason = refused(file);
        assert!(reason.contains(expected), "{reason}");
        assert_eq!(reason.lines().count(), 1);
    }
}

#[test]
fn another_format_is_named_with_what_converts_it() {
    let editcap = "convert it: editcap -F pcapng FILE OUT";
    for (start, format, command) in [
        (&b"\xfd7zXZ\0"[..], "compressed with xz", "xz -dc FILE | tcpguard replay -"),
        (b"BZh91AY", "compressed with bzip2", "bzip2 -dc FILE | tcpguard replay -"),
        (b"PK\x03\x04", "a zip archive", "unzip -p FILE | tcpguard replay -"),
        (b"snoop\0\0\0", "a capture of snoop", editcap),
        (b"\x34\xcd\xb2\xa1", "pcap as modified by Kuznetzov (0xa1b2cd34)", editcap),
        (b"GMBU", "a capture of Network Monitor", editcap),
        (b"TRSNIFF data", "a capture of Sniffer", editcap),
        (b"text", "neither pcap nor pcapng, plain or in gzip, zstd or lz4", editcap),
    ] {
        for file in [start.to_vec(), gzip(start)] {
            let error = run(&file, Mode::Observe).expect_err("no capture");
            let error: CaptureError = error.downcast().unwrap();
            assert_eq!(error.to_string(), format!("cannot read capture: it is {format}"));
            assert_eq!(error.hint(), command);
        }
    }
}

#[test]
fn pcap_with_longer_record_headers_is_named() {
    let file = PCAP.write(&two_visits());
    let (header, records) = file.split_at(24);
    for more in [4, 8] {
        let mut longer = header.to_vec();
        let mut left = records;
        while !left.is_empty() {
            let captured = u32::from_le_bytes(left[8..12].try_into().unwrap()) as usize;
            longer.extend_from_slice(&left[..16]);
            longer.resize(longer.len() + more, 0);
            longer.extend_from_slice(&left[16..16 + captured]);
            left = &left[16 + captured..];
        }
        let outcome = run(&longer, Mode::Observe).expect("a capture");
        let error = outcome.damage.expect("longer headers").to_string();
        assert!(error.contains("nokiapcap, rh6_1pcap"), "{more}: {error}");
    }
}

#[test]
fn a_record_longer_than_any_packet_is_damage_and_takes_no_memory() {
    let mut file = PCAP.write(&two_visits());
    let end = file.len() as u64;
    file.extend_from_slice(&[0; 8]);
    file.extend_from_slice(&u32::MAX.to_le_bytes());
    file.extend_from_slice(&[0; 100]);
    let (record, reason, packets) = damage(&file);
    assert_eq!((record, packets), (end, 10), "what came before was read");
    assert!(reason.contains("4294967295 bytes"), "{reason}");
}

#[test]
fn blocks_that_lie_about_lengths_are_damage() {
    let good = pcapng();
    let end = good.len() as u64;
    let number = |value: u32| value.to_le_bytes();
    let block = |kind: u32, length: u32, body: &[u32], again: u32| {
        let mut bytes = [number(kind), number(length)].concat();
        bytes.extend(body.iter().flat_map(|value| value.to_le_bytes()));
        bytes.extend_from_slice(&number(again));
        bytes
    };
    // Interface, time, captured, length.
    let packet = |interface, captured| [interface, 0, 0, captured, 60];
    for (bytes, expected) in [
        (block(6, 0, &[], 0), "a block of 0 bytes"),
        (block(6, 11, &[], 11), "a block of 11 bytes"),
        (block(6, 33, &packet(0, 0), 33), "a block of 33 bytes"),
        (block(6, 28, &[0; 4], 28), "a packet block with 16 bytes"),
        (block(6, 32, &packet(1, 0), 32), "interface 1, where 1 are described"),
        (block(2, 32, &packet(7, 0), 32), "interface 7, where 1 are described"),
        (block(6, 32, &packet(0, 1), 32), "a packet of 1 bytes in a block with 0 left"),
        (block(6, 0xffff_fffc, &packet(0, 0xffff_0000), 0), "more than the 262144"),
        (block(6, 32, &packet(0, 0), 36), "a block of 32 bytes that ends as one of 36"),
        (block(5, 12, &[], 16), "a block of 12 bytes that ends as one of 16"),
        (block(3, 12, &[], 12), "a simple packet block with 0 bytes"),
        (block(1, 16, &[1], 16), "an interface description of 4 bytes"),
        (block(1, 0xffff_fffc, &[1, 1], 0), "an interface description of 4294967280 bytes"),
        (block(0x0a0d_0d0a, 16, &[0x1a2b_3c4d], 16), "a section header of 16 bytes"),
        (block(0x0a0d_0d0a, 28, &[0x1a2b_3c4d, 9, 0, 0], 28), "pcapng of version 9"),
        (block(0x0a0d_0d0a, 28, &[1, 1, 0, 0], 28), "byte order"),
    ] {
        let (record, reason, packets) = damage(&[&good[..], &bytes].concat());
        assert!(reason.contains(expected), "{reason}");
        assert_eq!((record, packets >= 10), (end, true), "{reason}");
    }
}

#[test]
fn an_unknown_block_may_be_longer_than_the_capture() {
    let mut file = pcapng();
    file.extend_from_slice(&[99_u32.to_le_bytes(), 0xffff_fffc_u32.to_le_bytes()].concat());
    let outcome = run(&file, Mode::Observe).unwrap();
    assert!(outcome.damage.is_none());
    assert_eq!((outcome.replay.packets, outcome.replay.skipped["cut_off"]), (10, 1));
}

#[test]
fn interfaces_without_number_take_no_memory_without_bound() {
    let mut file = PcapNg::new(Order::Little);
    for _ in 0..70_000 {
        file.interface(ETHERNET, 0, None);
    }
    let (_, reason, _) = damage(&file.bytes);
    assert!(reason.contains("more than 65536 interfaces"), "{reason}");
}

#[test]
fn any_byte_may_be_wrong() {
    let compressed = COMPRESSIONS.map(|compress| compress(&pcapng()));
    for file in [PCAP.write(&two_visits()), pcapng()].into_iter().chain(compressed) {
        for at in 0..file.len() {
            for wrong in [0, 1, 0x7f, 0xff] {
                let mut file = file.clone();
                file[at] ^= wrong;
                if let Ok(outcome) = run(&file, Mode::Enforce) {
                    assert!(outcome.replay.packets <= 20, "byte {at}");
                }
            }
        }
    }
}

#[test]
fn random_bytes_behind_a_header_are_read_to_some_end() {
    let mut dice = Dice(3);
    for header in [PCAP.write(&[]), PcapNg::new(Order::Big).bytes] {
        for _ in 0..2000 {
            let mut file = header.clone();
            file.extend((0..dice.next() % 200).map(|_| dice.next() as u8));
            let _ = run(&file, Mode::Observe);
        }
    }
}
