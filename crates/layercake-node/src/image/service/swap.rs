//! Stopping the old and starting the new, with as little between the two as can be.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use layercake_sys::signal_process;

use super::super::launch::Launched;
use super::super::objects::BuildError;
use super::super::record::{
    ContainerState, InstanceId, InstanceRecord, Status, monotonic_ns, read_record,
};
use super::super::{ImageSpec, watch};
use super::state::Known;
use super::{Failures, Inner, Report, ServiceError, Started, lock};

/// How long the kernel and a monitor may take to end after everything in a container was killed.
const KILL_LIMIT: Duration = Duration::from_secs(20);

/// A container that is ready to start.
struct Prepared {
    id: InstanceId,
    record: InstanceRecord,
    launched: Launched,
}

impl Inner {
    /// Makes the wanted containers run, each for itself. A container is prepared before the one that it replaces is
    /// stopped; one whose name is not wanted any more is stopped only when what may replace it could be prepared.
    pub(super) async fn swap(
        self: &Arc<Self>,
        want: &[ImageSpec],
        failures: &mut Failures,
        report: &mut Report,
    ) {
        let mut prepared = Vec::new();
        for spec in want.iter().cloned() {
            if failures.of.contains_key(&spec.name) {
                continue;
            }
            let current = self.containers.get(&spec.name);
            if current.as_ref().is_some_and(|known| is_as_wanted(known, &spec)) {
                report.kept.push(spec.name);
                continue;
            }
            match self.prepare(&spec, current.as_ref()).await {
                Ok(ready) => prepared.push(ready),
                Err(error) => failures.add(spec.name, error),
            }
        }
        let is_wanted = |known: &Known| want.iter().any(|spec| spec.name == known.id.name);
        let mut unwanted = self.containers.all();
        unwanted.retain(|known| !is_wanted(known));
        let names = |all: &[Known]| all.iter().map(|known| known.id.name.clone()).collect();
        let wanted = want.iter().map(|spec| spec.name.clone()).collect();
        let is_spared = {
            let mut replacements = lock(&self.replacements);
            replacements.note(wanted, &names(&unwanted));
            replacements.spared(|name| failures.of.contains_key(name))
        };
        let mut stopped = Vec::new();
        for known in unwanted {
            if known.is_up() && is_spared.contains(&known.id.name) {
                failures.spared.push(known.id.name);
                continue;
            }
            match self.stop(&known).await {
                Ok(_) => stopped.push(known),
                Err(error) => failures.add(known.id.name, error),
            }
        }
        for ready in prepared {
            let name = ready.id.name.clone();
            match self.replace(ready).await {
                Ok(started) => report.started.push(started),
                Err(error) => failures.add(name, error),
            }
        }
        // Unmounting is not part of the time in which nothing runs.
        for known in stopped {
            match self.remove(&known).await {
                Ok(()) => report.stopped.push(known.id.name),
                Err(error) => failures.add(known.id.name, error),
            }
        }
    }

    async fn prepare(
        &self,
        spec: &ImageSpec,
        current: Option<&Known>,
    ) -> Result<Prepared, ServiceError> {
        let id = self.containers.next_id(&spec.name);
        let same = current.filter(|known| known.record.spec == *spec);
        let record = InstanceRecord {
            spec: spec.clone(),
            restarts: same.map_or(0, |known| known.record.restarts.saturating_add(1)),
            previous: match (same, current) {
                (Some(same), _) => same.record.previous,
                (None, Some(other)) => Some(other.record.spec.digest),
                (None, None) => None,
            },
            last_exit: same.and_then(|known| known.observation().reason),
        };
        let work = {
            let (id, record) = (id.clone(), record.clone());
            move |objects: &mut super::Objects| objects.prepare(&id, &record)
        };
        match self.blocking(work).await? {
            Ok(launched) => Ok(Prepared { id, record, launched }),
            Err(source) => Err(ServiceError::Prepare { name: spec.name.clone(), source }),
        }
    }

    /// Takes a prepared container away again because the one that it replaces cannot be stopped.
    async fn discard(&self, prepared: Prepared) {
        let Prepared { id, record, launched } = prepared;
        let work = move |objects: &mut super::Objects| {
            drop(launched);
            objects.take_down(&id, record.spec.digest)
        };
        // The failure that led here is the one to tell; leftovers are swept next time.
        let _ = self.blocking(work).await;
    }

    /// Stops the old container of a name, starts the new one, and only then takes the old down:
    /// unmounting is not part of the gap.
    async fn replace(self: &Arc<Self>, ready: Prepared) -> Result<Started, ServiceError> {
        let name = ready.id.name.clone();
        let digest = ready.record.spec.digest;
        let old = self.containers.get(&name);
        let stopped = match &old {
            Some(known) => match self.stop(known).await {
                Ok(stopped) => stopped,
                Err(error) => {
                    self.discard(ready).await;
                    return Err(error);
                }
            },
            None => None,
        };
        let status = self.start(ready).await;
        if let Some(old) = &old {
            let removed = self.remove_objects(old).await;
            if status.is_err() {
                self.containers.remove(&old.id);
            }
            removed?;
        }
        let status = status?;
        let gap =
            |stopped: &Stopped| Some(status.started_monotonic_ns?.saturating_sub(stopped.ended_ns));
        Ok(Started {
            name,
            digest,
            replaced: stopped.as_ref().and(old.as_ref()).map(|old| old.record.spec.digest),
            stop_ns: stopped.as_ref().map(|s| s.ended_ns.saturating_sub(s.asked_ns)),
            gap_ns: stopped.as_ref().and_then(gap),
        })
    }

    async fn start(self: &Arc<Self>, ready: Prepared) -> Result<Status, ServiceError> {
        let Prepared { id, record, launched } = ready;
        let work = {
            let (id, digest) = (id.clone(), record.spec.digest);
            move |objects: &mut super::Objects| {
                launched.start().map_err(|error| {
                    let _ = objects.take_down(&id, digest);
                    BuildError::from(error)
                })
            }
        };
        match self.blocking(work).await? {
            Ok(status) => {
                self.note(id, record, status.clone());
                Ok(status)
            }
            Err(source) => Err(ServiceError::Start { name: id.name, source }),
        }
    }

    /// Asks a container to stop, waits as long as it may take, then kills it. `None` when it did
    /// not run any more.
    async fn stop(&self, known: &Known) -> Result<Option<Stopped>, ServiceError> {
        let still = self.containers.get(&known.id.name).filter(|now| now.id == known.id);
        if !still.is_some_and(|now| now.is_up()) {
            return Ok(None);
        }
        let stop_error = |source| ServiceError::Stop {
            name: known.id.name.clone(),
            source: BuildError::Step { step: "stop", path: known.id.to_string().into(), source },
        };
        self.containers.update(&known.id, |status| status.state = ContainerState::Stopping);
        self.changed();
        let asked_ns = monotonic_ns();
        if let Some(main) =
            known.status.main.map(|main| main.open()).transpose().map_err(stop_error)?.flatten()
        {
            match signal_process(&main, known.record.spec.stop_signal()) {
                // It ended in this moment.
                Ok(()) | Err(rustix::io::Errno::SRCH) => {}
                Err(error) => return Err(stop_error(error.into())),
            }
        }
        let patience = known.record.spec.stop_timeout();
        let ended = tokio::time::timeout(patience, watch::end_of(known.status.monitor)).await;
        if ended.is_err() {
            self.kill(known).await?;
        }
        let ended_ns = self.ended_at(known).unwrap_or_else(monotonic_ns);
        Ok(Some(Stopped { asked_ns, ended_ns }))
    }

    async fn kill(&self, known: &Known) -> Result<(), ServiceError> {
        let stop_error = |source| ServiceError::Stop { name: known.id.name.clone(), source };
        let id = known.id.clone();
        self.blocking(move |objects| objects.kill(&id)).await?.map_err(stop_error)?;
        let ended = tokio::time::timeout(KILL_LIMIT, watch::end_of(known.status.monitor)).await;
        if ended.is_err() {
            let error = io::Error::new(io::ErrorKind::TimedOut, "its monitor does not end");
            let step =
                BuildError::Step { step: "kill", path: known.id.to_string().into(), source: error };
            return Err(stop_error(step));
        }
        Ok(())
    }

    fn ended_at(&self, known: &Known) -> Option<u64> {
        let path = self.config.instance_dir(&known.id).status();
        read_record::<Status>(&path).ok()?.exited_monotonic_ns
    }

    async fn remove(&self, known: &Known) -> Result<(), ServiceError> {
        let removed = self.remove_objects(known).await;
        self.containers.remove(&known.id);
        self.changed();
        removed
    }

    async fn remove_objects(&self, known: &Known) -> Result<(), ServiceError> {
        let (id, digest) = (known.id.clone(), known.record.spec.digest);
        let work = move |objects: &mut super::Objects| objects.take_down(&id, digest);
        let taken = self.blocking(work).await?;
        taken.map_err(|source| ServiceError::Stop { name: known.id.name.clone(), source })
    }
}

fn is_as_wanted(known: &Known, spec: &ImageSpec) -> bool {
    known.record.spec == *spec && known.observation().is_satisfied()
}

/// When a container was asked to stop, and when its main process ended.
struct Stopped {
    asked_ns: u64,
    ended_ns: u64,
}
