//! Building and taking down what the ledger names.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::kernel::{Attachment, Kernel, mounts_below};
use super::launch::{LaunchError, Launched};
use super::ledger::{Ledger, Object};
use super::record::{InstanceId, InstanceRecord, write_record};
use super::service::ServiceConfig;
use super::{Digest, Store};
use crate::container::ContainerSpec;
use crate::monitor::MonitorSpec;

/// Why a container could not be built.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// The kernel refused a step.
    #[error("cannot {step} {path}")]
    Step {
        /// What was tried.
        step: &'static str,
        /// On what.
        path: PathBuf,
        /// Why it failed.
        #[source]
        source: io::Error,
    },
    /// The container's own process failed.
    #[error("cannot bring up the container")]
    Launch(#[from] LaunchError),
}

fn step(step: &'static str, path: &Path) -> impl FnOnce(io::Error) -> BuildError {
    let path = path.to_owned();
    move |source| BuildError::Step { step, path, source }
}

/// The objects of this node. All calls block; the service makes them off its async threads, one
/// at a time.
pub(super) struct Objects {
    pub(super) config: Arc<ServiceConfig>,
    pub(super) kernel: Arc<dyn Kernel>,
    pub(super) store: Store,
    pub(super) ledger: Ledger,
    attachments: BTreeMap<Digest, Attachment>,
}

impl Objects {
    pub(super) fn new(config: Arc<ServiceConfig>, kernel: Arc<dyn Kernel>, store: Store) -> Self {
        let (ledger, attachments) = (Ledger::default(), BTreeMap::new());
        Self { config, kernel, store, ledger, attachments }
    }

    fn cgroup(&self, id: &InstanceId) -> PathBuf {
        self.config.cgroup_root.join(id.name.as_str()).join(id.number.to_string())
    }

    fn mount_point(&self, digest: Digest) -> PathBuf {
        self.config.state_root.join("mounts").join(digest.to_hex())
    }

    /// Prepares a container with everything it needs, or leaves things as they were.
    pub(super) fn prepare(
        &mut self,
        id: &InstanceId,
        record: &InstanceRecord,
    ) -> Result<Launched, BuildError> {
        let container = Object::Container(id.clone(), record.spec.digest);
        let result = self.build_below(&container).and_then(|()| self.launch(id, record));
        match result {
            Ok(launched) => {
                self.ledger.built(container);
                Ok(launched)
            }
            Err(error) => {
                // The first error is the one to tell; an undo that fails is found as a leftover
                // by the next reconcile.
                self.undo_unused();
                let _ = self.forget_instance(id);
                Err(error)
            }
        }
    }

    fn build_below(&mut self, container: &Object) -> Result<(), BuildError> {
        let missing = self.ledger.to_build(container);
        for object in missing.into_iter().filter(|object| object != container) {
            self.build(&object)?;
            self.ledger.built(object);
        }
        Ok(())
    }

    fn build(&mut self, object: &Object) -> Result<(), BuildError> {
        match object {
            Object::Attachment(digest) => {
                let image = self.store.path(*digest);
                let attached = self.kernel.attach(&image);
                let attached = attached.map_err(step("attach the image", &image))?;
                self.attachments.insert(*digest, attached);
            }
            Object::Mount(digest) => {
                let target = self.mount_point(*digest);
                let missing = || io::Error::other("its block device is gone");
                let device = self.attachments.get(digest).ok_or_else(missing);
                device
                    .and_then(|device| self.kernel.mount_image(device, &target))
                    .inspect_err(|_| drop(fs::remove_dir(&target)))
                    .map_err(step("mount the image at", &target))?;
                // From here on the mount holds the device, and the kernel frees it with the mount.
                self.attachments.remove(digest);
            }
            Object::Root(id, digest) => {
                let dir = self.config.instance_dir(id);
                fs::create_dir_all(&dir.0).map_err(step("make", &dir.0))?;
                self.kernel
                    .mount_root(&self.mount_point(*digest), &dir.scratch(), &dir.root())
                    .map_err(step("mount the root at", &dir.root()))?;
            }
            Object::Container(..) => {}
        }
        Ok(())
    }

    fn launch(&self, id: &InstanceId, record: &InstanceRecord) -> Result<Launched, BuildError> {
        let dir = self.config.instance_dir(id);
        write_record(&dir.record(), record).map_err(step("write", &dir.record()))?;
        let group = self.cgroup(id);
        let top = self.config.cgroup_root.parent().unwrap_or(&self.config.cgroup_root);
        let launched = self
            .kernel
            .make_cgroup(top, &group)
            .map_err(step("make the cgroup", &group))
            .and_then(|()| self.launch_in(id, record, &group));
        if launched.is_err() {
            let _ = self.remove_cgroup(id);
        }
        launched
    }

    fn launch_in(
        &self,
        id: &InstanceId,
        record: &InstanceRecord,
        group: &Path,
    ) -> Result<Launched, BuildError> {
        let dir = self.config.instance_dir(id);
        let logs = self.config.state_root.join("logs");
        fs::create_dir_all(&logs).map_err(step("make", &logs))?;
        let spec = MonitorSpec {
            container: ContainerSpec {
                image: record.spec.clone(),
                root: dir.root(),
                cgroup: group.to_owned(),
                // A node without a resolver has images without one.
                resolv_conf: fs::read_to_string(&self.config.resolv_conf).ok(),
                machine_id: self.config.machine_id.clone(),
                addresses: self.config.addresses.clone(),
                console: None,
            },
            record_dir: dir.0,
            log: logs.join(format!("{}.log", id.name)),
            log_limits: self.config.log_limits,
        };
        Ok(self.kernel.launch(&self.config.program, &spec)?)
    }

    /// Takes a container down and everything that only it needed. The first failure is returned;
    /// the rest is taken down all the same.
    pub(super) fn take_down(&mut self, id: &InstanceId, digest: Digest) -> Result<(), BuildError> {
        let gone = self.ledger.to_take_down(&Object::Container(id.clone(), digest));
        let taken = self.take_down_all(gone);
        taken.and(self.forget_instance(id))
    }

    fn undo_unused(&mut self) {
        for object in self.ledger.unused() {
            let gone = self.ledger.to_take_down(&object);
            let _ = self.take_down_all(gone);
        }
    }

    fn take_down_all(&mut self, objects: Vec<Object>) -> Result<(), BuildError> {
        let mut result = Ok(());
        for object in objects {
            let taken = match &object {
                Object::Attachment(digest) => {
                    self.attachments.remove(digest);
                    Ok(())
                }
                Object::Mount(digest) => self.unmount_and_remove(&self.mount_point(*digest)),
                Object::Root(id, _) => {
                    let dir = self.config.instance_dir(id);
                    self.unmount_and_remove(&dir.root())
                        .and(self.unmount_and_remove(&dir.scratch()))
                }
                Object::Container(id, _) => self.remove_cgroup(id),
            };
            self.ledger.taken_down(&object);
            result = result.and(taken);
        }
        result
    }

    fn unmount_and_remove(&self, at: &Path) -> Result<(), BuildError> {
        self.kernel.unmount(at).map_err(step("unmount", at))?;
        match fs::remove_dir(at) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(step("remove the mount point", at)(error))
            }
            _ => Ok(()),
        }
    }

    fn remove_cgroup(&self, id: &InstanceId) -> Result<(), BuildError> {
        let group = self.cgroup(id);
        self.kernel.remove_cgroup(&group).map_err(step("remove the cgroup", &group))?;
        // The group of the name goes with its last container; until then it is not empty.
        if let Some(of_name) = group.parent() {
            let _ = fs::remove_dir(of_name);
        }
        Ok(())
    }

    /// Kills everything in a container.
    pub(super) fn kill(&self, id: &InstanceId) -> Result<(), BuildError> {
        self.remove_cgroup(id)
    }

    pub(super) fn forget_instance(&self, id: &InstanceId) -> Result<(), BuildError> {
        let dir = self.config.instance_dir(id).0;
        // Never removed recursively through a mount that could not be taken away: the content of
        // an image is not ours to delete.
        if mounts_below(&dir).is_ok_and(|mounts| mounts.is_empty()) {
            match fs::remove_dir_all(&dir) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    return Err(step("remove", &dir)(error));
                }
                _ => {}
            }
        }
        if let Some(of_name) = dir.parent() {
            let _ = fs::remove_dir(of_name);
        }
        Ok(())
    }

    /// Takes over a container that an earlier service started.
    pub(super) fn adopt(&mut self, id: &InstanceId, digest: Digest) {
        for object in self.ledger.to_build(&Object::Container(id.clone(), digest)) {
            self.ledger.built(object);
        }
    }

    /// Removes what an earlier service left half-way: mounts, cgroups and directories below ours
    /// that belong to no container in the ledger.
    pub(super) fn sweep(&mut self) -> Result<(), BuildError> {
        let root = self.config.state_root.clone();
        let wanted: Vec<PathBuf> = self.ledger.objects().flat_map(|o| self.paths_of(o)).collect();
        for at in mounts_below(&root).map_err(step("list the mounts below", &root))? {
            if !wanted.contains(&at) {
                self.unmount_and_remove(&at)?;
            }
        }
        self.sweep_cgroups(&wanted)
    }

    fn paths_of(&self, object: &Object) -> Vec<PathBuf> {
        match object {
            Object::Attachment(_) => Vec::new(),
            Object::Mount(digest) => vec![self.mount_point(*digest)],
            Object::Root(id, _) => {
                let dir = self.config.instance_dir(id);
                vec![dir.root(), dir.scratch()]
            }
            Object::Container(id, _) => vec![self.cgroup(id)],
        }
    }

    fn sweep_cgroups(&self, wanted: &[PathBuf]) -> Result<(), BuildError> {
        for of_name in subdirectories(&self.config.cgroup_root) {
            for group in subdirectories(&of_name) {
                if !wanted.contains(&group) {
                    self.kernel.remove_cgroup(&group).map_err(step("remove the cgroup", &group))?;
                }
            }
            let _ = fs::remove_dir(&of_name);
        }
        Ok(())
    }
}

/// The directories in a directory; none where it is not there.
pub(super) fn subdirectories(dir: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    entries.filter(|e| e.file_type().is_ok_and(|t| t.is_dir())).map(|e| e.path()).collect()
}
