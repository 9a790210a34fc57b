//! What an image finds of its node, and what becomes of links where something is mounted.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use layercake_node::image::{Kind, machine_id};

use crate::rig::{Rig, lines_until_end};

/// What a script prints in an image that is furnished like this.
async fn printed(
    rig: &Rig,
    version: &str,
    script: &str,
    furnish: impl FnOnce(&Path),
) -> Vec<String> {
    let service = rig.service();
    let mut lines = service.follow_logs().unwrap();
    let script = format!("{script}; echo end; busybox sleep 1000000");
    let mut spec = rig.image_with(version, furnish).script("web", &script);
    spec.hostname = Some("n1".to_owned());
    service.reconcile(&[spec]).await.unwrap();
    let seen = lines_until_end(&mut lines).await;
    service.reconcile(&[]).await.unwrap();
    seen
}

const WHO: &str = "busybox cat /etc/hosts /etc/hostname /etc/machine-id /etc/resolv.conf";

fn own() -> Vec<String> {
    let hosts = "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n10.7.0.11\tn1";
    let id = machine_id("lab", "n1");
    let all = format!("{hosts}\nn1\n{id}\nnameserver 192.0.2.53");
    all.lines().map(str::to_owned).collect()
}

#[tokio::test]
async fn every_image_finds_the_nodes_name_addresses_and_machine_id_whatever_it_brings() {
    let rig = Rig::new().await;
    let foreign_id = "0123456789abcdef0123456789abcdef\n";
    let bare = printed(&rig, "bare", WHO, |_| {}).await;
    assert_eq!(bare, own());
    let empty = printed(&rig, "empty", WHO, |root| {
        fs::create_dir_all(root.join("etc")).unwrap();
        for name in ["hosts", "hostname", "machine-id", "resolv.conf"] {
            fs::write(root.join("etc").join(name), "").unwrap();
        }
    });
    assert_eq!(empty.await, own());
    let directories = printed(&rig, "directories", WHO, |root| {
        for name in ["hosts", "hostname", "machine-id", "resolv.conf"] {
            fs::create_dir_all(root.join("etc").join(name)).unwrap();
        }
    });
    assert_eq!(directories.await, own());
    let links = printed(&rig, "links", WHO, |root| {
        symlink("usr/etc", root.join("etc")).unwrap();
        fs::create_dir_all(root.join("usr/etc")).unwrap();
        for (name, target) in [
            ("hosts", "../run/hosts"),
            ("hostname", "hostname"),
            ("machine-id", "/var/lib/dbus/machine-id"),
            ("resolv.conf", "../run/systemd/resolve/stub-resolv.conf"),
        ] {
            symlink(target, root.join("usr/etc").join(name)).unwrap();
        }
    });
    assert_eq!(links.await, own());
    let built_elsewhere = printed(
        &rig,
        "elsewhere",
        "busybox cat /etc/machine-id /var/lib/dbus/machine-id",
        |root| {
            for dir in ["etc", "var/lib/dbus"] {
                fs::create_dir_all(root.join(dir)).unwrap();
                fs::write(root.join(dir).join("machine-id"), foreign_id).unwrap();
            }
        },
    );
    let id = machine_id("lab", "n1");
    assert_eq!(built_elsewhere.await, [id.clone(), id]);
}

#[tokio::test]
async fn a_hosts_file_that_says_something_stays_and_what_cannot_be_written_is_said_where_it_is_missed()
 {
    let rig = Rig::new().await;
    let script = "busybox cat /etc/hosts; busybox ls /etc/resolv.conf";
    let seen = printed(&rig, "own", script, |root| {
        fs::create_dir_all(root.join("etc/resolv.conf/kept")).unwrap();
        fs::write(root.join("etc/hosts"), "127.0.0.1 localhost\n192.0.2.1 theirs\n").unwrap();
    });
    let mut seen = seen.await;
    let lack = seen.iter().position(|line| line.starts_with("layercake: ")).unwrap();
    let lack = seen.remove(lack);
    assert_eq!(
        lack,
        "layercake: cannot write /etc/resolv.conf, so names may not resolve: \
         /etc/resolv.conf in the image is a directory with files in it"
    );
    assert_eq!(seen, ["127.0.0.1 localhost", "192.0.2.1 theirs", "kept"]);
}

#[tokio::test]
async fn links_where_something_is_mounted_are_followed_inside_the_image_wherever_they_lead() {
    let rig = Rig::new().await;
    // Device numbers tell mounts apart: the directory that a link names is the one in memory.
    let script = "busybox stat -c %d /tmp/ /var/tmp/ | busybox uniq | busybox wc -l;
        busybox stat -c %d /run/ /var/run/ /state/live/run/ | busybox uniq | busybox wc -l;
        echo kept > /tmp/file && busybox cat /var/tmp/file;
        busybox ls -d /run/image 2>/dev/null || echo hidden;
        busybox test -L /proc || busybox test -L /sys || busybox test -L /dev || echo no links;
        busybox test -d /proc/self && busybox test -c /dev/null && busybox test -d /sys/kernel && echo there;
        busybox test -e /elsewhere/self || echo nothing elsewhere";
    let seen = printed(&rig, "links", script, |root| {
        symlink("/var/tmp", root.join("tmp")).unwrap();
        symlink("var/run", root.join("run")).unwrap();
        symlink("../../state/live", root.join("var")).unwrap();
        fs::create_dir_all(root.join("state/live/run/image")).unwrap();
        fs::create_dir(root.join("elsewhere")).unwrap();
        for name in ["proc", "sys", "dev"] {
            symlink("elsewhere", root.join(name)).unwrap();
        }
    });
    let expected = ["1", "1", "kept", "hidden", "no links", "there", "nothing elsewhere"];
    assert_eq!(seen.await, expected);
}

/// An image's version, what makes it, and what is said of it.
type Case<'a> = (&'a str, &'a dyn Fn(&Path), &'a str);

#[tokio::test]
async fn a_link_that_cannot_be_followed_is_named_before_anything_is_stopped() {
    let rig = Rig::new().await;
    let service = rig.service();
    service.reconcile(&[rig.image("one").idle("web")]).await.unwrap();
    let pid = service.observe()[0].pid;
    let circle = |root: &Path| {
        symlink("run", root.join("tmp")).unwrap();
        symlink("tmp", root.join("run")).unwrap();
    };
    let into_proc = |root: &Path| symlink("proc/self", root.join("tmp")).unwrap();
    let file = |root: &Path| fs::write(root.join("run"), "").unwrap();
    let up = |root: &Path| symlink("../..", root.join("tmp")).unwrap();
    let cases: [Case<'_>; 4] = [
        (
            "circle",
            &circle,
            "cannot mount /run: /run in the image is a link that leads in a circle",
        ),
        ("proc", &into_proc, "/tmp in the image is a link to /proc/"),
        ("file", &file, "cannot mount /run: /run in the image is not a directory"),
        ("up", &up, "/tmp in the image is a link to /, so / would be covered"),
    ];
    for (version, furnish, words) in cases {
        let image = rig.image_with(version, furnish);
        let error = service.reconcile(&[image.idle("web")]).await.unwrap_err();
        assert!(error.reason().contains(words), "{version}: {}", error.reason());
        assert_eq!(service.observe()[0].pid, pid);
    }
    service.reconcile(&[]).await.unwrap();
}

#[tokio::test]
async fn the_machine_id_is_the_same_in_the_next_image_and_in_one_of_the_other_kind() {
    let rig = Rig::new().await;
    let plain = printed(&rig, "one", "busybox cat /etc/machine-id", |_| {}).await;
    let service = rig.service();
    let mut lines = service.follow_logs().unwrap();
    let script = "#!/bin/sh\nbusybox cat /etc/machine-id\necho end\nexec busybox sleep 1000000\n";
    let image = rig.image_with("os", |root| {
        use std::os::unix::fs::PermissionsExt;
        fs::create_dir_all(root.join("sbin")).unwrap();
        fs::create_dir_all(root.join("etc")).unwrap();
        fs::write(root.join("etc/machine-id"), "0123456789abcdef0123456789abcdef\n").unwrap();
        fs::write(root.join("sbin/init"), script.replace("busybox", "/bin/busybox")).unwrap();
        fs::set_permissions(root.join("sbin/init"), fs::Permissions::from_mode(0o755)).unwrap();
    });
    let mut spec = image.run("other", &["/sbin/init"]);
    spec.kind = Kind::Systemd;
    spec.stop_timeout_ms = Some(50);
    service.reconcile(&[spec]).await.unwrap();
    assert_eq!(lines_until_end(&mut lines).await, plain);
    service.reconcile(&[]).await.unwrap();
}
