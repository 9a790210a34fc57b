//! The image service of a node.

use crate::machine::{Layercake, Machine, Stage, set};
use crate::power::REASON;
use crate::services::ImageService;
use kraken_model::{Change, Document, Path};
use kraken_sim::{Deeds, Side, Task};
use layercake_schema::{image_state, specification};
use std::sync::Arc;
use std::time::Duration;

/// Images that run, in the order of the names under which they are configured.
pub(crate) type Running = Vec<Image>;

/// An image that runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Image {
    name: Arc<str>,
    digest: Arc<str>,
    specification: Arc<str>,
}

/// The images that a cfg wants.
pub(crate) fn wanted_images(cfg: &Document) -> Running {
    let wanted = cfg.under("images").filter_map(|(path, value)| {
        let name = path.as_str().strip_prefix("images.")?.strip_suffix(".digest")?;
        let specification = specification(cfg, name).into();
        Some(Image { name: name.into(), digest: value.as_text()?.into(), specification })
    });
    wanted.collect()
}

impl Layercake {
    /// Says how the images are, in view of what the node's cfg wants.
    pub(crate) fn report_images(&self, machine: &mut Machine, deeds: &mut Deeds<'_>) {
        if machine.stage == Stage::Up && machine.service == ImageService::Running {
            let found = self.images_found(machine);
            deeds.find(Side::Node, found, &self.names().image);
        }
    }

    /// How the images are, or that nobody looks after them.
    pub(crate) fn images_found(&self, machine: &mut Machine) -> Vec<Change> {
        if machine.service != ImageService::Running {
            let said = std::mem::take(&mut machine.said);
            return said.iter().map(|(path, _)| Change::remove(path.clone())).collect();
        }
        let wanted = wanted_images(&machine.cfg);
        let state = match (machine.images.is_empty(), wanted.is_empty()) {
            (true, true) => image_state::IDLE,
            (true, false) if wanted.iter().any(|image| machine.failed.contains(image)) => {
                image_state::ERROR
            }
            (true, false) => image_state::IDLE,
            (false, _) if machine.images == wanted => image_state::ACTIVE,
            (false, _) => image_state::UPDATE,
        };
        let mut found = vec![set(image_state::PATH, state)];
        let mut said = said_of(&machine.images, "running");
        for (path, value) in said_of(&machine.failed, "failed").iter() {
            said.set(path.clone(), value.clone());
        }
        let gone = machine.said.iter().filter(|(path, _)| said.get(path.as_str()).is_none());
        found.extend(gone.map(|(path, _)| Change::remove(path.clone())));
        found.extend(said.iter().map(|(path, value)| Change::set(path.clone(), value.clone())));
        machine.said = said;
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
            "image.start" | "image.swap" | "image.restart" => wanted_images(&task.order.cfg),
            _ => Running::new(),
        };
        machine.failed.clear();
        if self.is_served() {
            for Image { name, digest, .. } in &machine.images {
                deeds.print(name, format!("runs as if it were {digest}"));
            }
        }
        self.report_images(machine, deeds);
        deeds.answer(task.order, Ok(()));
    }
}

/// What a node says of each of these images.
fn said_of(images: &Running, state: &str) -> Document {
    let mut said = Document::new();
    for Image { name, digest, specification } in images {
        let mut say = |key: &str, value: &Arc<str>| {
            said.set(Path::known(&format!("images.{name}.{key}")), Arc::clone(value));
        };
        say("digest", digest);
        say("specification", specification);
        said.set(Path::known(&format!("images.{name}.state")), state);
    }
    said
}
