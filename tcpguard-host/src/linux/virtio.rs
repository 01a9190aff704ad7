//! The features that a virtio network card and its driver have agreed on, by their bits in "Virtual I/O Device (VIRTIO)
//! Version 1.3", section 5.1.3.

use std::fs;
use std::path::Path;

use super::Interface;

/// `VIRTIO_NET_F_CTRL_GUEST_OFFLOADS`: the guest may switch the offloads below.
const CTRL_GUEST_OFFLOADS: usize = 2;
/// `VIRTIO_NET_F_GUEST_CSUM`, `…_TSO4`, `…_TSO6`, `…_ECN`, `…_UFO`, `…_USO4` and `…_USO6`.
const GUEST_OFFLOADS: [usize; 7] = [1, 7, 8, 9, 10, 54, 55];

/// Returns whether the host merges or checks packets for a virtio card and does not let the guest switch that off. The
/// driver then refuses native XDP (`virtnet_xdp_set`, drivers/net/virtio_net.c). `None` for other cards, and where
/// sysfs does not show the interface.
///
/// `class` is [`NET_CLASS`](super::device_queues::NET_CLASS).
pub fn has_fixed_offloads(class: &Path, interface: &Interface) -> Option<bool> {
    let directory = interface.sysfs(class)?;
    let driver = fs::read_link(directory.join("device/driver")).ok()?;
    if driver.file_name()? != "virtio_net" {
        return None;
    }
    Some(are_fixed(&fs::read_to_string(directory.join("device/features")).ok()?))
}

/// Judges the features: a digit for each bit, the first for bit 0.
fn are_fixed(features: &str) -> bool {
    let has = |bit: usize| features.as_bytes().get(bit) == Some(&b'1');
    !has(CTRL_GUEST_OFFLOADS) && GUEST_OFFLOADS.into_iter().any(has)
}

#[cfg(test)]
mod tests {
    use super::super::interfaces;
    use super::*;

    #[test]
    fn offloads_are_fixed_where_the_guest_cannot_switch_them() {
        let with = |bits: &[usize]| -> String {
            (0..64).map(|bit| if bits.contains(&bit) { '1' } else { '0' }).chain(['\n']).collect()
        };
        for (bits, expected) in [
            (&[][..], false),
            (&[0, 1, 5, 15, 32], true),
            (&[0, 1, 2, 7, 8, 32], false),
            (&[0, 5, 11, 32], false),
            (&[55], true),
        ] {
            assert_eq!(are_fixed(&with(bits)), expected, "{bits:?}");
        }
        assert!(!are_fixed(""));
    }

    #[test]
    fn only_a_virtio_card_has_such_features() {
        let class = tempfile::tempdir().expect("temporary directory");
        let lo = interfaces::by_name("lo").expect("lo");
        let device = class.path().join("lo/device");
        fs::create_dir_all(&device).expect("directory");
        fs::write(class.path().join("lo/ifindex"), format!("{}\n", lo.index)).expect("file");
        fs::write(device.join("features"), "11\n").expect("file");
        assert_eq!(has_fixed_offloads(class.path(), &lo), None);
        let driver = "../../../bus/virtio/drivers/virtio_net";
        std::os::unix::fs::symlink(driver, device.join("driver")).expect("link");
        assert_eq!(has_fixed_offloads(class.path(), &lo), Some(true));
    }
}
