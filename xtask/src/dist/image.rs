//! The OCI image, as an archive that podman, docker and skopeo read: one layer with the program, its C library
//! out of Debian's archive, and nothing else that runs.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use tcpguard_support::contents::Format;

use super::{HOMEPAGE, ISO_8601, Release, VERSION, place, tarball};
use crate::libc::{self, CLibrary, Needs};
use crate::process;

/// The image as manifests and units name it.
const REPOSITORY: &str = "ghcr.io/tcpguard/tcpguard";
/// Directories of the root that are links to those below `/usr`.
const MERGED: [&str; 2] = ["lib", "lib64"];
/// Directories for mounts, with their modes.
const MOUNT_POINTS: [(&str, u32); 2] = [("run/tcpguard", 0o755), ("var/lib/tcpguard", 0o750)];

/// Makes the image and returns its path.
pub fn build(release: &Release<'_>) -> Result<PathBuf> {
    let root = release.fresh("image")?;
    release.stage(Format::Image, &root)?;
    add_libc(release, &root)?;
    for (path, mode) in MOUNT_POINTS {
        fs::create_dir_all(root.join(path))?;
        fs::set_permissions(root.join(path), fs::Permissions::from_mode(mode))?;
    }

    let layout = Layout { directory: release.fresh("oci")? };
    fs::create_dir_all(layout.directory.join("blobs/sha256"))?;
    let layer = release.work.join("layer.tar");
    tarball::pack(&root, &["."], &layer, &release.epoch)?;
    let unpacked = digest(&layer)?;
    let layer = layout.add(&tarball::compress(&layer)?, "layer.v1.tar+gzip")?;
    let time = release.time(ISO_8601)?;
    let config = layout.add_json("config.v1+json", &configuration(release, &time, &unpacked))?;
    let mut manifest = layout.add_json(
        "manifest.v1+json",
        &json!({
            "schemaVersion": 2,
            "mediaType": media_type("manifest.v1+json"),
            "config": config,
            "layers": [layer],
        }),
    )?;
    let name = format!("{REPOSITORY}:{VERSION}");
    manifest["platform"] = json!({ "architecture": release.platform.debian(), "os": "linux" });
    manifest["annotations"] =
        json!({ "org.opencontainers.image.ref.name": name, "io.containerd.image.name": name });
    let index = json!({
        "schemaVersion": 2,
        "mediaType": media_type("index.v1+json"),
        "manifests": [manifest],
    });
    fs::write(layout.directory.join("index.json"), index.to_string())?;
    fs::write(layout.directory.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#)?;

    let name = format!("tcpguard-{VERSION}-{}.oci.tar", release.platform.debian());
    let archive = release.directory.join(name);
    let entries = ["oci-layout", "index.json", "blobs"];
    tarball::pack(&layout.directory, &entries, &archive, &release.epoch)?;
    Ok(archive)
}

/// The libraries that the program needs, their licence, and the record of the package by which scanners know it.
fn add_libc(release: &Release<'_>, root: &Path) -> Result<()> {
    let library = CLibrary::get(release.workspace, release.platform)?;
    for (path, from) in library.files(&Needs::of(&release.program)?)? {
        place(root, &path, &fs::read(&from)?, 0o755)?;
    }
    for directory in MERGED.iter().filter(|it| root.join("usr").join(it).is_dir()) {
        symlink(format!("usr/{directory}"), root.join(directory))?;
    }
    let copyright = format!("usr/share/doc/{}/copyright", libc::PACKAGE);
    place(root, &format!("/{copyright}"), &fs::read(library.root.join(&copyright))?, 0o644)?;
    let control = process::output(Command::new("dpkg-deb").arg("--field").arg(&library.package))?;
    let record = format!("/var/lib/dpkg/status.d/{}", libc::PACKAGE);
    place(root, &record, control.as_bytes(), 0o644)?;
    let (_, number) = libc::SUITE;
    let release =
        format!("ID=debian\nVERSION_ID=\"{number}\"\nPRETTY_NAME=\"tcpguard {VERSION}\"\n");
    place(root, "/etc/os-release", release.as_bytes(), 0o644)?;
    super::open_directories(root)
}

fn configuration(release: &Release<'_>, time: &str, layer: &str) -> Value {
    json!({
        "architecture": release.platform.debian(),
        "os": "linux",
        "created": time,
        "config": {
            "Entrypoint": ["/usr/bin/tcpguard"],
            "Cmd": ["run"],
            "Env": ["PATH=/usr/bin"],
            "Labels": {
                "org.opencontainers.image.title": "tcpguard",
                "org.opencontainers.image.description": release.package.summary,
                "org.opencontainers.image.version": VERSION,
                "org.opencontainers.image.source": HOMEPAGE,
                "org.opencontainers.image.licenses": "MIT OR Apache-2.0",
                "org.opencontainers.image.created": time,
            },
        },
        "rootfs": { "type": "layers", "diff_ids": [layer] },
        "history": [{ "created": time, "created_by": "cargo xtask dist" }],
    })
}

/// The directory of an image: blobs, each named by its digest.
struct Layout {
    directory: PathBuf,
}

impl Layout {
    /// Moves a file into the layout and returns its descriptor.
    fn add(&self, file: &Path, kind: &str) -> Result<Value> {
        let digest = digest(file)?;
        let (_, name) = digest.split_once(':').context("a digest")?;
        let size = fs::metadata(file)?.len();
        fs::rename(file, self.directory.join("blobs/sha256").join(name))?;
        Ok(json!({ "mediaType": media_type(kind), "digest": digest, "size": size }))
    }

    fn add_json(&self, kind: &str, document: &Value) -> Result<Value> {
        let file = self.directory.join("document");
        fs::write(&file, document.to_string())?;
        self.add(&file, kind)
    }
}

fn media_type(kind: &str) -> String {
    format!("application/vnd.oci.image.{kind}")
}

fn digest(file: &Path) -> Result<String> {
    let line = process::output(Command::new("sha256sum").arg("--").arg(file))?;
    let sum = line.split(' ').next().unwrap_or_default();
    ensure!(sum.len() == 64, "sha256sum wrote {line:?}");
    Ok(format!("sha256:{sum}"))
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use saphyr::{LoadableYamlNode as _, Yaml};

    use super::*;
    use crate::workspace::Workspace;

    /// A demand on the runtime of containers.
    #[derive(Debug, Default, Eq, PartialEq)]
    struct Demands {
        image: String,
        capabilities: BTreeSet<String>,
        /// Paths in the container with those on the host, and whether they are only read.
        mounts: BTreeMap<String, (Option<String>, bool)>,
    }

    fn read(path: &str) -> String {
        let root = Workspace::locate().unwrap().root;
        fs::read_to_string(root.join(path)).unwrap()
    }

    /// Those of the command in the unit. Each option must be one that is known here.
    fn of_unit() -> Demands {
        let unit = read("packaging/container/tcpguard-container.service").replace("\\\n", " ");
        let line = unit.lines().find_map(|line| line.strip_prefix("ExecStart=")).unwrap();
        let words: Vec<&str> = line.split_whitespace().collect();
        for word in ["--network=host", "--cap-drop=ALL", "--read-only"] {
            assert!(words.contains(&word), "{word} in {line}");
        }
        for option in ["seccomp=unconfined", "no-new-privileges"] {
            assert!(words.contains(&format!("--security-opt={option}").as_str()), "{option}");
        }
        let mut demands = Demands { image: (*words.last().unwrap()).to_owned(), ..<_>::default() };
        for word in words {
            if let Some(capability) = word.strip_prefix("--cap-add=") {
                demands.capabilities.insert(capability.to_owned());
            }
            if let Some(volume) = word.strip_prefix("--volume=") {
                let parts: Vec<&str> = volume.split(':').collect();
                let source = Some(parts[0].to_owned());
                demands.mounts.insert(parts[1].to_owned(), (source, parts.get(2) == Some(&"ro")));
            }
        }
        demands
    }

    fn text(node: &Yaml<'_>) -> String {
        node.as_str().unwrap_or_else(|| panic!("{node:?} is no text")).to_owned()
    }

    fn list<'a>(node: &'a Yaml<'a>) -> impl Iterator<Item = &'a Yaml<'a>> {
        node.as_vec().unwrap_or_else(|| panic!("{node:?} is no list")).iter()
    }

    /// Those of the manifest, and its configuration.
    fn of_manifest() -> (Demands, String) {
        let manifest = read("packaging/kubernetes/daemonset.yaml");
        let documents = Yaml::load_from_str(&manifest).unwrap();
        let of_kind = |kind: &str| {
            let mut found = documents.iter().filter(|it| it["kind"].as_str() == Some(kind));
            found.next().unwrap_or_else(|| panic!("no {kind}"))
        };
        let configuration = text(&of_kind("ConfigMap")["data"]["tcpguard.toml"]);
        let pod = &of_kind("DaemonSet")["spec"]["template"]["spec"];
        assert_eq!(pod["hostNetwork"].as_bool(), Some(true));
        let container = list(&pod["containers"]).next().unwrap();
        let security = &container["securityContext"];
        assert_eq!(security["seccompProfile"]["type"].as_str(), Some("Unconfined"));
        assert_eq!(security["allowPrivilegeEscalation"].as_bool(), Some(false));
        assert_eq!(security["readOnlyRootFilesystem"].as_bool(), Some(true));
        assert_eq!(list(&security["capabilities"]["drop"]).map(text).collect::<Vec<_>>(), ["ALL"]);

        let volume = |name: &str| {
            let mut found = list(&pod["volumes"]).filter(|it| it["name"].as_str() == Some(name));
            let volume = found.next().unwrap_or_else(|| panic!("no volume {name}"));
            volume.as_mapping_get("hostPath").map(|host| text(&host["path"]))
        };
        let mounts = list(&container["volumeMounts"]).map(|mount| {
            let only_read = mount.as_mapping_get("readOnly").and_then(Yaml::as_bool) == Some(true);
            (text(&mount["mountPath"]), (volume(&text(&mount["name"])), only_read))
        });
        let demands = Demands {
            image: text(&container["image"]),
            capabilities: list(&security["capabilities"]["add"]).map(text).collect(),
            mounts: mounts.collect(),
        };
        (demands, configuration)
    }

    #[test]
    fn unit_and_manifest_ask_for_the_same_image_capabilities_and_mounts() {
        let unit = of_unit();
        let (mut manifest, configuration) = of_manifest();
        // A ConfigMap in place of a directory of the host.
        let own = manifest.mounts.get_mut("/etc/tcpguard").unwrap();
        assert_eq!(own.0.replace("/etc/tcpguard".to_owned()), None);
        assert_eq!(unit, manifest);
        assert_eq!(unit.image, format!("{REPOSITORY}:{VERSION}"));

        let service = read("packaging/systemd/tcpguard.service");
        let bounds = service.lines().find_map(|it| it.strip_prefix("CapabilityBoundingSet="));
        let bounds = bounds.unwrap().split(' ').map(|it| it.trim_start_matches("CAP_").to_owned());
        assert_eq!(unit.capabilities, bounds.collect());
        let documented = read("packaging/README.md");
        for path in unit.mounts.keys() {
            assert!(documented.contains(&format!("| `{path}")), "{path} in packaging/README.md");
        }
        let configuration: toml::Table = toml::from_str(&configuration).unwrap();
        assert!(configuration["interfaces"]["names"].is_array());
        assert_eq!(configuration["mode"].as_str(), Some("observe"));
    }

    #[test]
    fn a_blob_is_named_by_its_digest() {
        let directory = tempfile::tempdir().unwrap();
        fs::create_dir_all(directory.path().join("blobs/sha256")).unwrap();
        let layout = Layout { directory: directory.path().to_owned() };
        let descriptor = layout.add_json("config.v1+json", &json!({})).unwrap();
        let sum = "44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a";
        assert_eq!(descriptor["digest"], format!("sha256:{sum}"));
        assert_eq!(descriptor["size"], 2);
        let blob = directory.path().join("blobs/sha256").join(sum);
        assert_eq!(fs::read_to_string(blob).unwrap(), "{}");
    }
}
