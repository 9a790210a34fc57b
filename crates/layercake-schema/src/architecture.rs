//! Architectures of processors, and what is built for which.

/// The architectures of nodes, as uname(1) calls them.
pub const ARCHITECTURES: &[&str] = &["x86_64", "aarch64"];

/// Architectures whose programs run on another one too, as far as its kernel is built for that: which, and on which.
const ALSO_RUN: &[(&str, &str)] = &[("i386", "x86_64"), ("arm", "aarch64")];

/// One name for each architecture: uname's, also of those that Debian and Docker call otherwise.
#[must_use]
pub fn architecture(name: &str) -> &str {
    match name {
        "amd64" | "x86-64" => "x86_64",
        "arm64" => "aarch64",
        "i486" | "i586" | "i686" | "386" => "i386",
        "armel" | "armhf" | "armv6l" | "armv7l" => "arm",
        other => other,
    }
}

/// Whether programs that are built for one architecture can run on a machine of another.
#[must_use]
pub fn runs_on(built_for: &str, machine: &str) -> bool {
    let (built_for, machine) = (architecture(built_for), architecture(machine));
    built_for == machine || ALSO_RUN.contains(&(built_for, machine))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_run_on_their_own_kind_of_machine_whatever_it_is_called() {
        for (built_for, machine, expected) in [
            ("x86_64", "x86_64", true),
            ("amd64", "x86_64", true),
            ("i686", "x86_64", true),
            ("x86_64", "i386", false),
            ("aarch64", "x86_64", false),
            ("arm64", "aarch64", true),
            ("armhf", "aarch64", true),
            ("riscv64", "riscv64", true),
            ("riscv64", "aarch64", false),
        ] {
            assert_eq!(runs_on(built_for, machine), expected, "{built_for} on {machine}");
        }
    }
}
