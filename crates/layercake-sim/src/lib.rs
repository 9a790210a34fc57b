//! Layercake for the fleet simulator: machines with power, firmware, a kernel and system images,
//! the controllers that switch them, and what Layercake's modules do to both.
//!
//! The words and the mutations are the real ones (`layercake-schema`). What machines do and how
//! the power, boot and image modules treat them is told again here, as a machine and its modules
//! behave, without hardware. In: orders and time. Out: discoveries and answers.

mod day;
mod images;
mod machine;
mod power;
mod services;

pub use day::{Size, plan, told_day};
pub use machine::{Layercake, Machine, ToldCfg};
