//! The iPXE script of each node, rendered with minijinja.
//!
//! The script is where a boot survives a restart of the server: a fetch that fails is repeated for
//! ever, with a wait that grows by a second each time up to [`MAX_WAIT_SECS`], and from the script on,
//! so that a boot that was armed anew meanwhile is the one that happens. The first wait differs
//! between nodes: a thousand of them must not come back in the same instant.

use std::{
    hash::{DefaultHasher, Hash as _, Hasher as _},
    net::SocketAddrV4,
};

use minijinja::{Environment, ErrorKind, UndefinedBehavior, Value};

use crate::{
    arch::Arch,
    hosts::{BootPlan, Host},
    report::FOREIGN,
};

/// The longest wait between attempts.
pub const MAX_WAIT_SECS: u32 = 30;
/// The first wait is between one second and this.
const MAX_FIRST_WAIT_SECS: u64 = 4;
/// A script longer than this is a template gone wrong.
pub const MAX_SCRIPT_BYTES: usize = 64 * 1024;
/// The template that is used where none is given.
pub const DEFAULT_TEMPLATE: &str = include_str!("default.ipxe.j2");
const DEFAULT_NAME: &str = "default.ipxe.j2";

/// What a template can name.
const VARIABLES: &str = "node, hostname, mac, address, netmask, gateway, server, boot_id, arch, \
    foreign_builds, cmdline, kernel_url, initramfs_url, seed_url, script_url, report_url, \
    first_wait_secs, max_wait_secs";

/// Why there is no script.
#[derive(Debug, thiserror::Error)]
pub enum ScriptError {
    /// The template is not one.
    #[error("boot template {file}{}: {detail}", line_of(.line))]
    Syntax {
        /// Its name.
        file: String,
        /// The line.
        line: Option<usize>,
        /// What is wrong with it.
        detail: String,
    },
    /// The template cannot be rendered for this node.
    #[error("boot template {file}{} for node {node}: {detail}", line_of(.line))]
    Render {
        /// Its name.
        file: String,
        /// The line.
        line: Option<usize>,
        /// Whose script it would have been.
        node: String,
        /// What is missing or wrong, with the variable.
        detail: String,
    },
    /// The node is not expected to boot.
    #[error("node {node} is not expected to boot now")]
    Idle {
        /// Who.
        node: String,
    },
}

fn line_of(line: &Option<usize>) -> String {
    line.map(|line| format!(", line {line}")).unwrap_or_default()
}

/// Renders the scripts of all nodes from one template.
#[derive(Debug)]
pub struct Scripts {
    environment: Environment<'static>,
    file: String,
    server: SocketAddrV4,
    tftp_port: u16,
}

impl Scripts {
    /// With the template built in; `server` is where HTTP is served.
    pub fn built_in(server: SocketAddrV4) -> Result<Self, ScriptError> {
        Self::new(server, DEFAULT_NAME, DEFAULT_TEMPLATE)
    }

    /// With a template of the site's own; its name stands in errors.
    pub fn new(server: SocketAddrV4, file: &str, template: &str) -> Result<Self, ScriptError> {
        let mut environment = Environment::new();
        environment.set_undefined_behavior(UndefinedBehavior::Strict);
        environment.set_debug(true);
        environment.add_template_owned(file.to_owned(), template.to_owned()).map_err(|error| {
            ScriptError::Syntax {
                file: file.to_owned(),
                line: error.line(),
                detail: describe(&error),
            }
        })?;
        Ok(Self { environment, file: file.to_owned(), server, tftp_port: 69 })
    }

    /// The same, where TFTP is served on another port.
    #[must_use]
    pub fn with_tftp_port(self, tftp_port: u16) -> Self {
        Self { tftp_port, ..self }
    }

    /// The script of a node that is armed.
    pub fn render(&self, host: &Host) -> Result<String, ScriptError> {
        let node = &host.node;
        let BootPlan::Armed { boot_id, cmdline, .. } = &host.plan else {
            return Err(ScriptError::Idle { node: node.to_string() });
        };
        let variables = self.variables(host, &boot_id.0, cmdline);
        let failed = |line, detail| ScriptError::Render {
            file: self.file.clone(),
            line,
            node: node.to_string(),
            detail,
        };
        let mut script = self
            .environment
            .get_template(&self.file)
            .and_then(|template| template.render(variables))
            .map_err(|error| failed(error.line(), describe(&error)))?;
        // minijinja drops the last line break; iPXE wants every line ended.
        script.push('\n');
        if script.len() > MAX_SCRIPT_BYTES {
            let detail = format!("{} bytes; at most {MAX_SCRIPT_BYTES} are allowed", script.len());
            return Err(failed(None, detail));
        }
        Ok(script)
    }

    fn variables(&self, host: &Host, boot_id: &str, cmdline: &str) -> Value {
        let base = format!("http://{}/boot/{}", self.server, host.node);
        let port =
            if self.tftp_port == 69 { String::new() } else { format!(":{}", self.tftp_port) };
        let report = format!("tftp://{}{port}/report/{}", self.server.ip(), host.node);
        // What iPXE calls the processors of programs that the node's cannot run (`buildarch`).
        let foreign: &[&str] = match host.arch {
            Some(Arch::X86_64) => &["arm64", "arm32"],
            Some(Arch::Aarch64) => &["x86_64", "i386"],
            None => &[],
        };
        Value::from_pairs([
            ("node", Value::from(&*host.node)),
            ("hostname", Value::from(&*host.hostname)),
            ("mac", Value::from(host.mac.to_string())),
            ("address", Value::from(host.address.to_string())),
            ("netmask", Value::from(host.netmask().to_string())),
            ("gateway", Value::from(host.gateway.map(|gateway| gateway.to_string()))),
            ("server", Value::from(self.server.ip().to_string())),
            ("boot_id", Value::from(boot_id)),
            ("arch", Value::from(host.arch.map(Arch::word))),
            ("foreign_builds", foreign.iter().copied().map(Value::from).collect()),
            ("cmdline", Value::from(cmdline)),
            ("kernel_url", Value::from(format!("{base}/kernel"))),
            ("initramfs_url", Value::from(format!("{base}/initramfs"))),
            ("seed_url", Value::from(format!("{base}/seed"))),
            ("script_url", Value::from(format!("{base}/script.ipxe"))),
            ("report_url", Value::from(report)),
            ("foreign_step", Value::from(FOREIGN)),
            ("first_wait_secs", Value::from(first_wait_secs(&host.node))),
            ("max_wait_secs", Value::from(MAX_WAIT_SECS)),
        ])
    }
}

/// The same for a node in every run, and spread over the fleet.
fn first_wait_secs(node: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    node.hash(&mut hasher);
    1 + hasher.finish() % MAX_FIRST_WAIT_SECS
}

/// minijinja's own words; they name the variable.
fn describe(error: &minijinja::Error) -> String {
    let detail = error.detail().map(|detail| format!(": {detail}")).unwrap_or_default();
    let hint = match error.kind() {
        ErrorKind::UndefinedError => format!("; a template can name {VARIABLES}"),
        _ => String::new(),
    };
    format!("{}{detail}{hint}", error.kind())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::hosts::tests::{armed, host};

    const SERVER: &str = "10.77.0.1:8080";

    #[test]
    fn the_built_in_script_fetches_everything_and_repeats_what_failed() {
        let scripts = Scripts::built_in(SERVER.parse().unwrap()).unwrap();
        let script = scripts.render(&host(11, armed())).unwrap();
        assert!(script.starts_with("#!ipxe\n"), "{script}");
        for expected in [
            "kernel --name kernel http://10.77.0.1:8080/boot/n11/kernel ${initrds} console=ttyS0 quiet || goto failed\n",
            "initrd --name initramfs http://10.77.0.1:8080/boot/n11/initramfs || goto failed\n",
            "initrd --name seed http://10.77.0.1:8080/boot/n11/seed?card=${netX/busid:hexraw} || goto failed\n",
            "imgfetch --name report tftp://10.77.0.1/report/n11/${step}/${error} && imgfree report ||\n",
            "chain --autofree --replace http://10.77.0.1:8080/boot/n11/script.ipxe || goto failed\n",
        ] {
            assert!(script.contains(expected), "{expected} in\n{script}");
        }
    }

    #[test]
    fn ipxe_for_another_processor_reports_itself_and_fetches_nothing() {
        let render = |arch| {
            let scripts = Scripts::built_in(SERVER.parse().unwrap()).unwrap().with_tftp_port(6969);
            scripts.render(&Host { arch, ..host(11, armed()) }).unwrap()
        };
        let script = render(Some(Arch::X86_64));
        let at = |text: &str| script.find(text).unwrap_or_else(|| panic!("{text} in\n{script}"));
        assert!(at("iseq x${buildarch} xarm64 && goto foreign ||\n") < at("kernel --name"));
        assert!(
            at(":foreign\n") < at("tftp://10.77.0.1:6969/report/n11/architecture/${buildarch} ")
        );
        assert!(
            render(Some(Arch::Aarch64)).contains("iseq x${buildarch} xi386 && goto foreign ||\n")
        );
        assert!(!render(None).contains("foreign"));
    }

    #[test]
    fn an_undefined_variable_is_named_with_file_line_and_node() {
        let template = "#!ipxe\nkernel {{ kernel_url }}\nimgargs {{ comandline }}\n";
        let scripts = Scripts::new(SERVER.parse().unwrap(), "site.ipxe.j2", template).unwrap();
        let error = scripts.render(&host(11, armed())).unwrap_err().to_string();
        let (place, names) = error.split_once("; ").unwrap();
        assert_eq!(
            place,
            "boot template site.ipxe.j2, line 3 for node n11: undefined value: `comandline` is \
             undefined"
        );
        assert!(names.starts_with("a template can name node, "), "{names}");
        let listed = VARIABLES.split(", ").map(|name| format!("{{{{ {name} }}}}\n"));
        let all = Scripts::new(SERVER.parse().unwrap(), "all", &listed.collect::<String>());
        all.unwrap().render(&host(11, armed())).unwrap();
    }

    #[test]
    fn a_template_with_a_syntax_error_is_refused_when_it_is_loaded() {
        let error = Scripts::new(SERVER.parse().unwrap(), "site.ipxe.j2", "#!ipxe\n{% if %}\n");
        let error = error.unwrap_err().to_string();
        assert!(error.starts_with("boot template site.ipxe.j2, line 2: "), "{error}");
    }

    #[test]
    fn an_idle_node_has_no_script() {
        let scripts = Scripts::built_in(SERVER.parse().unwrap()).unwrap();
        assert!(scripts.render(&host(11, BootPlan::Idle)).is_err());
    }

    #[test]
    fn the_first_waits_of_many_nodes_differ() {
        let waits: std::collections::BTreeSet<_> =
            (0..100).map(|n| first_wait_secs(&format!("n{n}"))).collect();
        assert_eq!(waits.into_iter().collect::<Vec<_>>(), [1, 2, 3, 4]);
    }
}
