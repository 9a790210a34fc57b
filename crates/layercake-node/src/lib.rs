//! Layer 0: init, network, agent and image service in one static binary.
//!
//! *In:* a machine's kernel with this binary as its first program, and the seed that the parent
//! put beside it. *Out:* a node that is on the network, has joined its parent, and runs the system
//! images that it is told to run.
//!
//! One binary plays several roles, each a process of its own:
//!
//! | role | started by | what it does |
//! |---|---|---|
//! | `init` (as process 1) | the kernel | mounts, kernel modules, the agent, orphans; never ends |
//! | `agent` | init | network, join, state, [`image::ImageService`] |
//! | `monitor` | the image service | parent of one container; keeps its output and its end |
//! | `container` | a monitor | becomes the container |
//! | `network` | a person in the debug shell | brings up the network of the seed |
//! | `shell` | init, if the kernel was told `layercake.shell` | the debug shell on the console |
//! | `poweroff`, `reboot` | a person or the agent | asks init for an orderly end |
//!
//! *Promises:* no role but the agent has a second thread. A container survives the death of the
//! agent. Nothing that comes from outside (seed, specification, module tables, images) makes a
//! role panic.

pub mod agent;
pub mod container;
pub mod image;
pub mod init;
pub mod modules;
pub mod monitor;
pub mod network;
pub mod seed;
