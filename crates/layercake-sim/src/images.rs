//! The image service of a node.

use crate::machine::{Layercake, Machine, Stage, set};
use crate::power::REASON;
use crate::services::ImageService;
use kraken_model::{Change, Path};
use kraken_sim::{Deeds, Side, Task};
use layercake_schema::image_state;
use std::time::Duration;

impl Layercake {
    /// Says how the images are, in view of what the node's cfg wants.
    pub(crate) fn report_images(&self, machine: &Machine, deeds: &mut Deeds<'_>) {
        if machine.stage == Stage::Up && machine.service == ImageService::Running {
            deeds.find(Side::Node, self.images_found(machine), &self.names().image);
        }
    }

    /// How the images are, or that nobody looks after them.
    pub(crate) fn images_found(&self, machine: &Machine) -> Vec<Change> {
        const TOLD: [&str; 2] = ["images.web.state", "images.web.digest"];
        if machine.service != ImageService::Running {
            return TOLD.map(|path| Change::remove(Path::known(path))).into();
        }
        let wanted = machine.cfg.text("images.web.digest");
        let running = machine.images.as_deref();
        let state = match (running, wanted) {
            (None, None) => image_state::IDLE,
            (None, Some(_)) if machine.has_failed => image_state::ERROR,
            (None, Some(_)) => image_state::IDLE,
            (Some(running), Some(wanted)) if running == wanted => image_state::ACTIVE,
            (Some(_), _) => image_state::UPDATE,
        };
        let mut found = vec![set(image_state::PATH, state)];
        for (path, value) in TOLD.into_iter().zip(["running", running.unwrap_or("")]) {
            found.push(match running {
                Some(_) => set(path, value),
                None => Change::remove(Path::known(path)),
            });
        }
        if machine.boasts {
            found.push(set(REASON, "a node knows nothing of that"));
        }
        found
    }

    /// Carries out an order about images.
    pub(crate) fn change_images(
        &self,
        machine: &mut Machine,
        task: Task<'_>,
        deeds: &mut Deeds<'_>,
    ) {
        if machine.service != ImageService::Running {
            deeds.answer(task.order, Err("the image service does not run"));
            return;
        }
        if task.mutation == "image.discover" {
            self.report_images(machine, deeds);
            deeds.answer(task.order, Ok(()));
            return;
        }
        if task.stage == 0 {
            let takes = Duration::from_millis(deeds.random.within(2_000, 20_000));
            deeds.go_on(machine.takes(takes), 1);
            return;
        }
        machine.images = match task.mutation {
            "image.start" | "image.swap" | "image.restart" => {
                task.order.cfg.text("images.web.digest").map(Into::into)
            }
            _ => None,
        };
        machine.has_failed = false;
        self.report_images(machine, deeds);
        deeds.answer(task.order, Ok(()));
    }
}
