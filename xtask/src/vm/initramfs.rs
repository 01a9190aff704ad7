//! The archive that a kernel unpacks as its first file system: cpio's "newc" format.
//!
//! Documentation/driver-api/early-userspace/buffer-format.rst in the kernel's source: each entry
//! is a header of the magic number and 13 fields of 8 hexadecimal digits, the name with its NUL
//! padded to 4 bytes, and the data padded to 4 bytes; the last entry is named `TRAILER!!!`.

const DIRECTORY: u32 = 0o040_755;
const PROGRAM: u32 = 0o100_755;

/// An archive in the making.
#[derive(Default)]
pub struct Initramfs {
    bytes: Vec<u8>,
    entries: u32,
}

impl Initramfs {
    /// Adds a directory. Its parent must have been added before.
    pub fn directory(&mut self, name: &str) {
        self.entry(name, DIRECTORY, &[]);
    }

    /// Adds a file that may be read and executed.
    pub fn file(&mut self, name: &str, content: &[u8]) {
        self.entry(name, PROGRAM, content);
    }

    /// The complete archive, uncompressed.
    pub fn finish(mut self) -> Vec<u8> {
        self.entry("TRAILER!!!", 0, &[]);
        self.bytes
    }

    fn entry(&mut self, name: &str, mode: u32, content: &[u8]) {
        self.entries += 1;
        let (owner, group, links, modified) = (0, 0, 1, 0);
        let (device, special_device) = ([0, 0], [0, 0]);
        let (size, name_size) = (length(content.len()), length(name.len() + 1));
        let checksum = 0;
        let fields = [
            self.entries,
            mode,
            owner,
            group,
            links,
            modified,
            size,
            device[0],
            device[1],
            special_device[0],
            special_device[1],
            name_size,
            checksum,
        ];
        self.bytes.extend_from_slice(b"070701");
        for field in fields {
            self.bytes.extend_from_slice(format!("{field:08x}").as_bytes());
        }
        self.bytes.extend_from_slice(name.as_bytes());
        self.bytes.push(0);
        self.pad();
        self.bytes.extend_from_slice(content);
        self.pad();
    }

    fn pad(&mut self) {
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }
}

fn length(length: usize) -> u32 {
    u32::try_from(length).expect("nothing that goes into an initramfs has 4 GiB")
}
