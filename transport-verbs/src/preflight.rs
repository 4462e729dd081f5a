//! Why this host cannot run verbs://, said before anything is opened: one reason, and what to do about it. Changes
//! nothing.

use std::fmt;
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use rustix::process::{Resource, getrlimit};

use crate::device::{Context, ProtectionDomain, device_names};
use crate::limits::LOCKED_MEMORY_MIN;
use crate::sys::Libraries;

/// What is missing. Its text says what to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Unavailable {
    /// libibverbs or librdmacm is not installed, or too old.
    NoLibrary(String),
    /// The kernel has no RDMA, or a module of it is not loaded. The path is what there should be.
    NoKernelSupport(PathBuf),
    /// There is no RDMA device.
    NoDevice,
    /// There is a device, and libibverbs has no driver for it.
    NoProvider,
    /// A device file may not be opened.
    NoPermission(PathBuf),
    /// A device will not register even a little memory.
    LockedMemoryTooSmall {
        /// The limit, in bytes.
        limit: u64,
    },
    /// Something that has no reason of its own here.
    Other(String),
}

impl fmt::Display for Unavailable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoLibrary(why) => write!(f, "no RDMA library: {why}"),
            Self::NoKernelSupport(path) => {
                write!(f, "no RDMA in the kernel: there is no {}; ", path.display())?;
                f.write_str(match path.file_name().and_then(|name| name.to_str()) {
                    Some("rdma_cm") => "load the module (`modprobe rdma_ucm`)",
                    Some("uverbs0") => "load the module (`modprobe ib_uverbs`)",
                    _ => "load the modules (`modprobe ib_uverbs rdma_ucm` and the device's own), or run on a host whose \
                          kernel has them",
                })?;
                if path.ends_with("infiniband") { Ok(()) } else { f.write_str(IN_A_CONTAINER) }
            }
            Self::NoDevice => f.write_str(
                "no RDMA device: /sys/class/infiniband is empty; load the device's driver, or make a soft-RoCE device on an \
                 Ethernet interface: `modprobe rdma_rxe && rdma link add rxe0 type rxe netdev eth0`",
            ),
            Self::NoProvider => f.write_str(
                "no driver in libibverbs for the RDMA device of this host; `apt-get install ibverbs-providers` on Debian and \
                 Ubuntu, `dnf install libibverbs` on Fedora and RHEL, or the device's vendor's package",
            ),
            Self::NoPermission(path) => write!(
                f,
                "no permission to open {} for reading and writing; `chmod 666` it, as rdma-core's udev rules do",
                path.display()
            ),
            Self::LockedMemoryTooSmall { limit } => write!(
                f,
                "too little memory may be locked (RLIMIT_MEMLOCK is {limit} B, and a device needs {LOCKED_MEMORY_MIN} B to \
                 begin with); {LOCKED_MEMORY_HOW}"
            ),
            Self::Other(why) => f.write_str(why),
        }
    }
}

const IN_A_CONTAINER: &str = "; in a container, pass the host's in with `--device /dev/infiniband`";

const LOCKED_MEMORY_HOW: &str = "raise it by `ulimit -l unlimited`, a line `* - memlock unlimited` in \
                                 /etc/security/limits.conf, LimitMEMLOCK=infinity in a systemd unit, or `--ulimit memlock=-1` \
                                 for a container";

/// What to do when memory cannot be registered.
pub(crate) fn locked_memory_remedy() -> String {
    match getrlimit(Resource::Memlock).current {
        Some(limit) => {
            format!("the limit of locked memory (RLIMIT_MEMLOCK) is {limit} B; {LOCKED_MEMORY_HOW}")
        }
        None => {
            "locked memory is not limited: the host has no more, or the container's memory limit is reached"
                .to_owned()
        }
    }
}

/// Why this host cannot run verbs://; `None` when it can. Opens files, and where memory that may be locked is scarce it
/// registers some for a moment; milliseconds.
pub fn why_unavailable() -> Option<Unavailable> {
    look(Path::new("/")).or_else(try_out)
}

/// What can be told without a library's help, on the host whose root is given; then whether the libraries load.
fn look(root: &Path) -> Option<Unavailable> {
    if let Err(error) = Libraries::load() {
        return Some(Unavailable::NoLibrary(error.to_string()));
    }
    look_at_files(root)
}

fn look_at_files(root: &Path) -> Option<Unavailable> {
    let class = root.join("sys/class/infiniband");
    let Ok(devices) = fs::read_dir(&class) else { return Some(Unavailable::NoKernelSupport(class)) };
    if devices.flatten().next().is_none() {
        return Some(Unavailable::NoDevice);
    }
    let nodes = root.join("dev/infiniband");
    let verbs = fs::read_dir(&nodes).into_iter().flatten().flatten().map(|entry| entry.path());
    let verbs: Vec<_> = verbs
        .filter(|path| path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"uverbs")))
        .collect();
    if verbs.is_empty() {
        return Some(Unavailable::NoKernelSupport(nodes.join("uverbs0")));
    }
    // One device that can be used is enough.
    let manager = may_open(&nodes.join("rdma_cm"));
    let verbs =
        verbs.iter().map(|path| may_open(path)).reduce(|best, next| if best.is_ok() { best } else { next });
    manager.and(verbs.unwrap_or(Ok(()))).err()
}

fn may_open(path: &Path) -> Result<(), Unavailable> {
    match fs::File::options().read(true).write(true).open(path) {
        Ok(_) => Ok(()),
        Err(error) if error.kind() == ErrorKind::PermissionDenied => {
            Err(Unavailable::NoPermission(path.to_owned()))
        }
        // No such file; or a file, and no driver behind it.
        Err(_) => Err(Unavailable::NoKernelSupport(path.to_owned())),
    }
}

/// What only shows when a device is used.
fn try_out() -> Option<Unavailable> {
    let libraries = Libraries::load().ok()?;
    let names = match device_names(libraries) {
        Ok(names) => names,
        Err(failure) => return Some(Unavailable::Other(failure.to_string())),
    };
    let Some(name) = names.first() else { return Some(Unavailable::NoProvider) };
    let limit = getrlimit(Resource::Memlock).current.filter(|limit| *limit < LOCKED_MEMORY_MIN as u64)?;
    // A privileged process may lock more than its limit, and whether it counts as one, the kernel alone knows.
    let memory = transport_core::FrameMut::own(LOCKED_MEMORY_MIN)?;
    let registered = Context::open(libraries, name).and_then(|context| {
        let domain = ProtectionDomain::new(&context)?;
        domain.try_register(&memory)
    });
    match registered {
        Ok(()) => None,
        Err(failure) if failure.errno == libc::ENOMEM => Some(Unavailable::LockedMemoryTooSmall { limit }),
        Err(failure) => Some(Unavailable::Other(failure.to_string())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    /// A root directory with some of a host's files.
    struct Host(PathBuf);

    impl Host {
        fn new(name: &str, files: &[&str]) -> Self {
            let root = std::env::temp_dir().join(format!("fabriq-preflight-{}-{name}", std::process::id()));
            for file in files {
                let path = root.join(file);
                if file.ends_with('/') {
                    fs::create_dir_all(&path).unwrap();
                } else {
                    fs::create_dir_all(path.parent().unwrap()).unwrap();
                    fs::write(&path, "").unwrap();
                }
            }
            Self(root)
        }
        fn verdict(&self) -> Option<Unavailable> {
            look_at_files(&self.0)
        }
    }
    impl Drop for Host {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn a_kernel_without_rdma_is_told_by_its_missing_class() {
        let host = Host::new("kernel", &["sys/class/net/", "dev/null"]);
        let verdict = host.verdict().unwrap();
        assert!(
            matches!(&verdict, Unavailable::NoKernelSupport(path) if path.ends_with("sys/class/infiniband"))
        );
        let text = verdict.to_string();
        assert!(
            text.contains("no RDMA in the kernel") && text.contains("modprobe ib_uverbs rdma_ucm"),
            "{text}"
        );
    }

    #[test]
    fn a_host_without_a_device_is_told_how_to_make_one() {
        let host = Host::new("device", &["sys/class/infiniband/", "dev/infiniband/rdma_cm"]);
        let verdict = host.verdict().unwrap();
        assert_eq!(verdict, Unavailable::NoDevice);
        let text = verdict.to_string();
        assert!(text.contains("no RDMA device") && text.contains("rdma link add"), "{text}");
    }

    #[test]
    fn missing_modules_are_named() {
        let host = Host::new("uverbs", &["sys/class/infiniband/rxe0/", "dev/infiniband/rdma_cm"]);
        let verdict = host.verdict().unwrap();
        assert!(matches!(&verdict, Unavailable::NoKernelSupport(path) if path.ends_with("uverbs0")));
        let host = Host::new("ucm", &["sys/class/infiniband/rxe0/", "dev/infiniband/uverbs0"]);
        let text = host.verdict().unwrap().to_string();
        assert!(text.contains("/dev/infiniband/rdma_cm") && text.contains("modprobe rdma_ucm"), "{text}");
    }

    #[test]
    fn a_device_file_that_may_not_be_opened_is_named() {
        let files = ["sys/class/infiniband/rxe0/", "dev/infiniband/rdma_cm", "dev/infiniband/uverbs0"];
        let host = Host::new("permission", &files);
        assert_eq!(host.verdict(), None);
        let path = host.0.join("dev/infiniband/uverbs0");
        let manager = host.0.join("dev/infiniband/rdma_cm");
        fs::set_permissions(manager, fs::Permissions::from_mode(0o666)).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o000)).unwrap();
        let verdict = as_an_ordinary_user(|| host.verdict()).unwrap();
        assert_eq!(verdict, Unavailable::NoPermission(path));
        let text = verdict.to_string();
        assert!(text.contains("no permission to open") && text.contains("chmod 666"), "{text}");
    }

    /// Root may open everything; this thread gives that up for a moment.
    fn as_an_ordinary_user<T>(run: impl FnOnce() -> T) -> T {
        use rustix::process::{Uid, geteuid};
        let (root, was_root) = (Uid::ROOT, geteuid().is_root());
        if was_root {
            rustix::thread::set_thread_res_uid(root, Uid::from_raw(65534), root).unwrap();
        }
        let result = run();
        if was_root {
            rustix::thread::set_thread_res_uid(root, root, root).unwrap();
        }
        result
    }

    #[test]
    fn too_little_locked_memory_names_the_limit_and_the_remedies() {
        let text = Unavailable::LockedMemoryTooSmall { limit: 65536 }.to_string();
        for part in ["65536 B", "ulimit -l unlimited", "limits.conf", "LimitMEMLOCK", "--ulimit memlock=-1"] {
            assert!(text.contains(part), "{part} is not in: {text}");
        }
    }

    #[test]
    fn this_host_gets_a_reason_or_a_device() {
        match why_unavailable() {
            Some(reason) => assert!(!reason.to_string().is_empty()),
            None => assert!(Path::new("/sys/class/infiniband").exists()),
        }
    }
}
