//! The image service on the real kernel: loop devices, squashfs, overlay, namespaces, cgroups.
//!
//! Needs root, `mksquashfs` and a static busybox (Debian: `squashfs-tools`, `busybox-static`), and
//! a mounted cgroup2; without them the tests fail and say so. Each test has a directory and a
//! cgroup of its own and removes them.
#![allow(clippy::unwrap_used)]

mod causes;
mod faults;
mod identity;
mod independence;
mod leftovers;
mod lifecycle;
mod rig;
mod server;
mod transfer;
