//! The services of a node: the image service, in its agent.

use crate::machine::{Layercake, Machine, Stage, set};
use kraken_model::Change;
use kraken_plan::Service;
use kraken_plan::service::{Ask, ERROR, RUNNING, STOPPED};
use kraken_sim::{Deeds, Side, Task};
use layercake_schema::module;
use std::time::Duration;

/// One attempt in so many to start a service fails on a day that is judged. Where people look at the
/// machines through a server nothing fails unless they, or chaos, ask for it.
const FAILS: u64 = 10;

/// How the image service of a node is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ImageService {
    Stopped,
    Running,
    Broken,
}

impl Machine {
    pub(crate) fn service_changes(&self) -> Vec<Change> {
        let (state, reason) = match self.service {
            ImageService::Stopped => (STOPPED, None),
            ImageService::Running => (RUNNING, None),
            ImageService::Broken => (ERROR, Some("it panicked".into())),
        };
        let path = |of| Service::path(module::IMAGE, of);
        vec![set(path("state").as_str(), state), Change { path: path("reason"), value: reason }]
    }
}

impl Layercake {
    /// Says how the service is, and with it how the images are.
    fn report_service(&self, machine: &mut Machine, deeds: &mut Deeds<'_>) {
        let mut found = machine.service_changes();
        found.extend(self.images_found(machine));
        deeds.find(Side::Node, found, &self.names().image);
    }

    /// The image service breaks off, and what it was doing with it.
    pub(crate) fn break_service(&self, machine: &mut Machine, deeds: &mut Deeds<'_>) {
        if machine.stage == Stage::Up && machine.service == ImageService::Running {
            machine.service = ImageService::Broken;
            self.report_service(machine, deeds);
        }
    }

    /// Carries out an order about the service. Images do not notice.
    pub(crate) fn serve(&self, machine: &mut Machine, task: Task<'_>, deeds: &mut Deeds<'_>) {
        let Some((ask, _)) = Ask::of(task.mutation) else { return };
        if task.stage == 0 && ask != Ask::Discover {
            // One that broke off rests before it is started again.
            let least = if ask == Ask::Restart { 500 } else { 10 };
            let takes = Duration::from_millis(deeds.random.within(least, least * 20));
            deeds.go_on(machine.takes(takes), 1);
            return;
        }
        match ask {
            Ask::Discover => {}
            Ask::Start | Ask::Restart if !self.is_served() && deeds.random.below(FAILS) == 0 => {
                machine.service = ImageService::Broken;
                self.report_service(machine, deeds);
                deeds.answer(task.order, Err("it cannot be opened"));
                return;
            }
            Ask::Start | Ask::Restart => machine.service = ImageService::Running,
            Ask::Stop | Ask::Clear => machine.service = ImageService::Stopped,
        }
        self.report_service(machine, deeds);
        deeds.answer(task.order, Ok(()));
    }
}
