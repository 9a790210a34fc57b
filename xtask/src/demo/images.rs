//! The system images of the demo: two that are a static busybox and a page, and a Debian with systemd.

use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::error::Error;
use crate::interrupt;
use crate::run::check;

/// What is imported into the store: from where, under which name, and what it runs.
pub(super) struct Source {
    pub(super) path: PathBuf,
    pub(super) name: &'static str,
    /// Empty for an image with systemd.
    pub(super) command: &'static [&'static str],
}

/// What the pages of the images say, before the name of the image.
pub(super) const GREETING: &str = "This is ";
/// What kills the main process of a web image, as a crash would: a page, because that is the way into an
/// image that everybody has.
pub(super) const CRASH_PAGE: &str = "/cgi-bin/crash";

const HTTPD: &[&str] = &["/bin/httpd", "-f", "-p", "80", "-h", "/www"];
const BUSYBOX: &str = "/bin/busybox";

/// The main process is the one child of the container's first; it answers each request in a child of
/// its own, so this script outlives it for a moment.
const CRASH: &str = "#!/bin/sh
printf 'Content-Type: text/plain\\r\\n\\r\\nkilling the main process\\n'
read -r main others < /proc/1/task/1/children
kill -9 \"$main\"
";

/// Debian's packages in the login image, beside those that every Debian has.
const LOGIN_PACKAGES: &str = "usr-is-merged,systemd-sysv,dbus,busybox-static";
/// What nobody reads on a node is not carried to it.
const LEFT_OUT: &[&str] =
    &["/usr/share/man/*", "/usr/share/locale/*", "/usr/share/doc/*", "/usr/share/info/*"];
/// Makes `/bin` a link to `/usr/bin` before anything is unpacked, which spares the package that converts it
/// afterwards, and the whole of Perl with it.
const MERGED_USR_HOOK: &str = "/usr/share/mmdebstrap/hooks/merged-usr";
/// Done in the finished tree, whose path is `$1`: a web page that systemd serves, and no services for
/// hardware and terminals that a container does not have.
const LOGIN_HOOK: &str = r#"set -eu
units="$1/etc/systemd/system"
mkdir -p "$1/srv/www" "$units/multi-user.target.wants"
echo 'This is login:1, started by systemd.' > "$1/srv/www/index.html"
printf '%s\n' '[Unit]' 'Description=A page that says that systemd runs' \
    '[Service]' 'ExecStart=/bin/busybox httpd -f -p 80 -h /srv/www' \
    '[Install]' 'WantedBy=multi-user.target' > "$units/page.service"
ln -s ../page.service "$units/multi-user.target.wants/page.service"
for unit in getty.target console-getty.service systemd-firstboot.service systemd-pstore.service \
    fstrim.timer dpkg-db-backup.timer; do
    ln -sf /dev/null "$units/$unit"
done
rm -f "$1/etc/machine-id" "$1/etc/hostname"
rm -rf "$1/var/cache/debconf" "$1/usr/share/bash-completion"
"#;

/// Makes the small image of web:1 alone.
pub(super) fn make_web_only(dir: &Path) -> Result<Vec<Source>, Error> {
    fs::create_dir_all(dir).map_err(Error::file("create", dir))?;
    let path = dir.join("web-1");
    make_web(&path, "web:1")?;
    Ok(vec![Source { path, name: "web:1", command: HTTPD }])
}

/// Makes the images that are not there yet below `dir` and says where they are.
pub(super) fn make(dir: &Path) -> Result<Vec<Source>, Error> {
    fs::create_dir_all(dir).map_err(Error::file("create", dir))?;
    let web = |path, name| Source { path, name, command: HTTPD };
    let (one, two) = (dir.join("web-1"), dir.join("web-2"));
    make_web(&one, "web:1")?;
    make_web(&two, "web:2")?;
    interrupt::check()?;
    let login = make_login(dir)?;
    Ok(vec![
        web(one, "web:1"),
        web(two, "web:2"),
        Source { path: login, name: "login:1", command: &[] },
    ])
}

fn make_web(dir: &Path, name: &str) -> Result<(), Error> {
    if dir.exists() {
        fs::remove_dir_all(dir).map_err(Error::file("remove", dir))?;
    }
    let build = || {
        fs::create_dir_all(dir.join("bin"))?;
        fs::create_dir_all(dir.join("www/cgi-bin"))?;
        fs::copy(BUSYBOX, dir.join("bin/busybox"))?;
        for applet in ["httpd", "sh"] {
            symlink("busybox", dir.join("bin").join(applet))?;
        }
        fs::write(dir.join("www/index.html"), format!("{GREETING}{name}.\n"))?;
        let crash = dir.join("www").join(CRASH_PAGE.trim_start_matches('/'));
        fs::write(&crash, CRASH)?;
        fs::set_permissions(&crash, fs::Permissions::from_mode(0o755))
    };
    build().map_err(Error::file("make the image in", dir))
}

/// Making it takes half a minute and a few dozen packages, so it is kept until its recipe changes.
fn make_login(dir: &Path) -> Result<PathBuf, Error> {
    let recipe = login_recipe()?;
    let mut hasher = DefaultHasher::new();
    recipe.hash(&mut hasher);
    let tar = dir.join(format!("login-{:016x}.tar", hasher.finish()));
    if tar.exists() {
        return Ok(tar);
    }
    remove_older(dir)?;
    let draft = dir.join("login.draft.tar");
    check(
        Command::new("mmdebstrap")
            .args(&recipe.options)
            .arg(&recipe.suite)
            .arg(&draft)
            .args(&recipe.mirrors),
    )?;
    fs::rename(&draft, &tar).map_err(Error::file("rename", &draft))?;
    Ok(tar)
}

fn remove_older(dir: &Path) -> Result<(), Error> {
    let entries = fs::read_dir(dir).map_err(Error::file("list", dir))?;
    for entry in entries.flatten() {
        let name = entry.file_name();
        let name = name.to_string_lossy();
        if name.starts_with("login") && name.ends_with(".tar") {
            fs::remove_file(entry.path()).map_err(Error::file("remove", entry.path()))?;
        }
    }
    Ok(())
}

/// Everything that the login image follows from.
#[derive(Hash)]
struct Recipe {
    options: Vec<String>,
    suite: String,
    mirrors: Vec<String>,
}

fn login_recipe() -> Result<Recipe, Error> {
    let os =
        fs::read_to_string("/etc/os-release").map_err(Error::file("read", "/etc/os-release"))?;
    let mut options = vec!["--quiet".to_owned(), "--variant=essential".to_owned()];
    options.push(format!("--include={LOGIN_PACKAGES}"));
    options.push("--aptopt=APT::Install-Recommends \"false\"".to_owned());
    options.extend(LEFT_OUT.iter().map(|path| format!("--dpkgopt=path-exclude={path}")));
    if Path::new(MERGED_USR_HOOK).exists() {
        options.push(format!("--hook-dir={MERGED_USR_HOOK}"));
    }
    options.push(format!("--customize-hook={LOGIN_HOOK}"));
    let suite = os_field(&os, "VERSION_CODENAME").unwrap_or_else(|| "sid".to_owned());
    let id = os_field(&os, "ID").unwrap_or_else(|| "debian".to_owned());
    Ok(Recipe { options, suite, mirrors: mirrors(Path::new("/etc/apt"), &id)? })
}

fn os_field(os_release: &str, key: &str) -> Option<String> {
    let value = os_release.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('='))?;
    Some(value.trim_matches('"').to_owned())
}

/// Where this machine gets its packages from, as mmdebstrap's arguments: the distribution's own list, and
/// not those of others, which have no place in an image.
fn mirrors(etc_apt: &Path, id: &str) -> Result<Vec<String>, Error> {
    let sources = etc_apt.join(format!("sources.list.d/{id}.sources"));
    if sources.exists() {
        return Ok(vec![sources.to_string_lossy().into_owned()]);
    }
    let list = etc_apt.join("sources.list");
    let lines = deb_lines(&fs::read_to_string(&list).unwrap_or_default());
    if lines.is_empty() {
        return Err(Error::Refused(format!(
            "cannot tell where this machine gets its packages from: there is no {}, and no `deb` line in {}",
            sources.display(),
            list.display()
        )));
    }
    Ok(lines)
}

/// The lines of a sources.list(5) that can be used unattended.
fn deb_lines(list: &str) -> Vec<String> {
    let lines = list.lines().map(str::trim);
    lines
        .filter(|line| line.starts_with("deb ") && !line.contains("cdrom:"))
        .map(str::to_owned)
        .collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn packages_come_from_where_the_machine_gets_its_own() {
        let etc = tempfile::tempdir().unwrap();
        fs::create_dir(etc.path().join("sources.list.d")).unwrap();
        assert!(mirrors(etc.path(), "debian").is_err());
        let list = "# deb http://old/ x main\n deb http://a/debian x main\ndeb cdrom:[Debian] x main\n\
                    deb-src http://a/debian x main\n";
        fs::write(etc.path().join("sources.list"), list).unwrap();
        assert_eq!(mirrors(etc.path(), "debian").unwrap(), ["deb http://a/debian x main"]);
        let sources = etc.path().join("sources.list.d/debian.sources");
        fs::write(&sources, "").unwrap();
        assert_eq!(mirrors(etc.path(), "debian").unwrap(), [sources.to_str().unwrap()]);
    }

    #[test]
    fn fields_of_os_release_come_without_quotes() {
        let os = "NAME=\"X\"\nVERSION_CODENAME=bookworm\nID=\"debian\"\nID_LIKE=y\n";
        assert_eq!(os_field(os, "VERSION_CODENAME").as_deref(), Some("bookworm"));
        assert_eq!(os_field(os, "ID").as_deref(), Some("debian"));
        assert_eq!(os_field(os, "BUILD_ID"), None);
    }

    #[test]
    fn a_web_image_says_which_one_it_is_and_can_be_crashed() {
        let dir = tempfile::tempdir().unwrap();
        let image = dir.path().join("web");
        make_web(&image, "web:7").unwrap();
        make_web(&image, "web:8").unwrap();
        assert_eq!(fs::read_to_string(image.join("www/index.html")).unwrap(), "This is web:8.\n");
        let crash = fs::metadata(image.join("www/cgi-bin/crash")).unwrap();
        assert_eq!(crash.permissions().mode() & 0o111, 0o111);
        assert!(image.join("bin/httpd").exists());
    }
}
