//! The containers that the service knows, one per name, and how it finds them again.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, Weak};

use tokio::task::AbortHandle;

use super::super::objects::{BuildError, Objects, subdirectories};
use super::super::record::{ContainerState, Exit, InstanceId, InstanceRecord, Status, read_record};
use super::super::watch;
use super::super::{Digest, Ending, ImageName, Observation};
use super::{Inner, ServiceError, lock};

/// One container.
#[derive(Debug, Clone)]
pub(super) struct Known {
    pub(super) id: InstanceId,
    pub(super) record: InstanceRecord,
    pub(super) status: Status,
    /// Ends the task that waits for its end, when the last copy of this entry is gone.
    _watcher: Option<Arc<Watcher>>,
}

#[derive(Debug)]
struct Watcher(AbortHandle);

impl Drop for Watcher {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Known {
    pub(super) fn observation(&self) -> Observation {
        // What was asked to stop has no failure to tell of.
        let exit = self.status.exit.filter(|_| self.status.state != ContainerState::Stopping);
        Observation {
            name: self.id.name.clone(),
            digest: self.record.spec.digest,
            state: self.status.state,
            pid: self.status.main.filter(|_| self.is_up()).map(|main| main.pid),
            started_unix_ms: self.status.started_unix_ms,
            reason: exit.map(|exit| Ending(exit, &self.status.circumstances).to_string()),
            exit,
            restarts: self.record.restarts,
            last_exit: self.record.last_exit.clone(),
            spec: self.record.spec.clone(),
        }
    }

    pub(super) fn is_up(&self) -> bool {
        let is_there =
            matches!(self.status.state, ContainerState::Running | ContainerState::Stopping);
        is_there && self.status.exit.is_none()
    }
}

/// All containers by name.
#[derive(Default)]
pub(super) struct Containers {
    by_name: Mutex<BTreeMap<ImageName, Known>>,
    /// The largest number that an instance had.
    last_number: Mutex<u64>,
}

impl Containers {
    pub(super) fn observe(&self) -> Vec<Observation> {
        lock(&self.by_name).values().map(Known::observation).collect()
    }

    pub(super) fn all(&self) -> Vec<Known> {
        lock(&self.by_name).values().cloned().collect()
    }

    pub(super) fn get(&self, name: &ImageName) -> Option<Known> {
        lock(&self.by_name).get(name).cloned()
    }

    pub(super) fn digests(&self, with_previous: bool) -> Vec<Digest> {
        let known = lock(&self.by_name);
        let previous = known.values().filter(|_| with_previous).filter_map(|k| k.record.previous);
        known.values().map(|k| k.record.spec.digest).chain(previous).collect()
    }

    pub(super) fn next_id(&self, name: &ImageName) -> InstanceId {
        let mut last = lock(&self.last_number);
        *last += 1;
        InstanceId { name: name.clone(), number: *last }
    }

    pub(super) fn remove(&self, id: &InstanceId) {
        let mut known = lock(&self.by_name);
        if known.get(&id.name).is_some_and(|known| known.id == *id) {
            known.remove(&id.name);
        }
    }

    /// Changes the status of a container, if it is still the one of its name.
    pub(super) fn update(&self, id: &InstanceId, change: impl FnOnce(&mut Status)) {
        if let Some(known) = lock(&self.by_name).get_mut(&id.name).filter(|known| known.id == *id) {
            change(&mut known.status);
        }
    }
}

impl Inner {
    /// Notes a running container and waits for its end in the background.
    pub(super) fn note(self: &Arc<Self>, id: InstanceId, record: InstanceRecord, status: Status) {
        let watcher = matches!(status.state, ContainerState::Running).then(|| {
            let task = wait_for_end(Arc::downgrade(self), id.clone(), status.clone());
            Arc::new(Watcher(tokio::spawn(task).abort_handle()))
        });
        let known = Known { id: id.clone(), record, status, _watcher: watcher };
        lock(&self.containers.by_name).insert(id.name, known);
        self.changed();
    }

    /// Finds the containers of an earlier service, and removes what it left half-way.
    pub(super) fn adopt(self: &Arc<Self>) -> Result<(), ServiceError> {
        let mut found = BTreeMap::<ImageName, Vec<(InstanceId, InstanceRecord, Status)>>::new();
        for of_name in subdirectories(&self.config.state_root.join("containers")) {
            for dir in subdirectories(&of_name) {
                let Some(id) = instance_of(&dir) else { continue };
                let last = &mut *lock(&self.containers.last_number);
                *last = id.number.max(*last);
                if let Some((record, status)) = self.read_instance(&id) {
                    found.entry(id.name.clone()).or_default().push((id, record, status));
                }
            }
        }
        for (_, mut instances) in found {
            // The one that runs; after a crash in the middle of a swap there may be another, and
            // the younger of them is the one that was wanted last.
            instances.sort_by_key(|(id, _, status)| {
                (status.state == ContainerState::Running, id.number)
            });
            let current = instances.pop();
            let mut objects = lock(&self.objects);
            for (id, record, _) in instances {
                objects.adopt(&id, record.spec.digest);
                objects.take_down(&id, record.spec.digest).map_err(ServiceError::Sweep)?;
            }
            if let Some((id, record, status)) = current {
                objects.adopt(&id, record.spec.digest);
                drop(objects);
                self.note(id, record, status);
            }
        }
        let mut objects = lock(&self.objects);
        objects.sweep().map_err(ServiceError::Sweep)?;
        self.forget_fragments(&objects)
    }

    fn read_instance(&self, id: &InstanceId) -> Option<(InstanceRecord, Status)> {
        let dir = self.config.instance_dir(id);
        let record = read_record(&dir.record()).ok()?;
        let mut status: Status = read_record(&dir.status()).ok()?;
        let monitor_is_alive = matches!(status.monitor.open(), Ok(Some(_)));
        if status.state == ContainerState::Running && !monitor_is_alive {
            // It may have ended between the two looks; what it wrote last counts.
            status = read_record(&dir.status()).ok()?;
            if status.exit.is_none() {
                status.state = ContainerState::Dead;
                status.exit = Some(Exit::Unknown);
            }
        }
        Some((record, status))
    }

    /// Removes the directories of instances that never became one.
    fn forget_fragments(&self, objects: &Objects) -> Result<(), ServiceError> {
        let known: BTreeSet<InstanceId> = self.containers.all().into_iter().map(|k| k.id).collect();
        for of_name in subdirectories(&self.config.state_root.join("containers")) {
            let ids = subdirectories(&of_name).into_iter().filter_map(|dir| instance_of(&dir));
            for id in ids.filter(|id| !known.contains(id)) {
                objects.forget_instance(&id).map_err(ServiceError::Sweep)?;
            }
        }
        Ok(())
    }

    /// What became of a container whose monitor has ended.
    pub(super) fn note_end(&self, id: &InstanceId) -> Result<(), BuildError> {
        let written = read_record::<Status>(&self.config.instance_dir(id).status()).ok();
        let ended = written.filter(|status| status.exit.is_some());
        if ended.is_none() {
            // The monitor was killed before it could write how the program ended. Without it
            // nobody reads the container's output, so the container ends too.
            lock(&self.objects).kill(id)?;
        }
        self.containers.update(id, |status| {
            let was_asked = status.state == ContainerState::Stopping;
            match ended {
                Some(ended) => *status = ended,
                None => {
                    status.state = ContainerState::Dead;
                    status.exit = Some(Exit::Unknown);
                }
            }
            // It stays a part of the change that it was asked to stop for, until that takes it away.
            if was_asked {
                status.state = ContainerState::Stopping;
            }
        });
        self.changed();
        Ok(())
    }
}

async fn wait_for_end(service: Weak<Inner>, id: InstanceId, status: Status) {
    // A process that cannot be watched is looked at like one that has ended: its record is read.
    let _ = watch::end_of(status.monitor).await;
    let Some(service) = service.upgrade() else { return };
    let work = tokio::task::spawn_blocking(move || service.note_end(&id));
    // What could not be killed is found by the next reconcile, which sweeps.
    let _ = work.await;
}

fn instance_of(dir: &std::path::Path) -> Option<InstanceId> {
    let number = dir.file_name()?.to_str()?.parse().ok()?;
    let name = dir.parent()?.file_name()?.to_str()?.parse().ok()?;
    Some(InstanceId { name, number })
}
