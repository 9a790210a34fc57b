#![allow(clippy::unwrap_used)]
use super::*;

fn meta(mode: u32) -> Meta {
    Meta { mode, ..untold() }
}

fn apply(tree: &mut Tree, entry: u32, path: &str, kind: Kind) -> Result<(), TarError> {
    tree.apply(&Member { path: path.into(), kind, meta: meta(0o640 + entry) }, entry)
}

/// Applies entries: `d/` is a directory, `l>t` a symbolic link, `h=t` a hard link, all else a file.
fn tree(entries: &[&str]) -> Result<Tree, TarError> {
    let mut tree = Tree::new();
    for (n, text) in (0..).zip(entries) {
        let (path, kind) = if let Some((path, target)) = text.split_once('>') {
            (path, Kind::Symlink(target.into()))
        } else if let Some((path, target)) = text.split_once('=') {
            (path, Kind::HardLink(target.into()))
        } else if let Some(path) = text.strip_suffix('/') {
            (path, Kind::Directory)
        } else {
            (*text, Kind::File(1))
        };
        apply(&mut tree, n, path, kind)?;
    }
    Ok(tree)
}

/// The names that are left, each with the entry that made it, or with the mode of a directory.
fn shown(entries: &[&str]) -> Vec<String> {
    let tree = tree(entries).unwrap();
    let text = |path: &[u8]| String::from_utf8_lossy(path).into_owned();
    let directories = tree.directories();
    let mut shown: Vec<_> =
        directories.map(|(path, meta)| format!("{}/ {:o}", text(&path), meta.mode)).collect();
    let entries = tree.entries().into_iter();
    shown.extend(entries.map(|name| format!("{} {}", text(&tree.path_of(name)), name.entry)));
    shown
}

#[test]
fn the_last_of_a_name_counts() {
    assert_eq!(shown(&["a", "b", "a"]), ["b 1", "a 2"]);
    assert_eq!(shown(&["d/", "d/f", "d/"]), ["d/ 642", "d/f 1"]);
    assert_eq!(shown(&["d/f", "d/"]), ["d/ 641", "d/f 0"], "also of one that nothing told of");
    assert_eq!(shown(&["a", "a/", "a/b"]), ["a/ 641", "a/b 2"]);
    assert_eq!(shown(&["l>x", "l", "m", "m>l"]), ["l 1", "m 3"]);
    assert_eq!(shown(&["d/x/y", "d/z", "k=d/z", "d"]), ["k 1", "d 3"], "a full directory too");
    let remarks = tree(&["a", "b", "a", "d/e", "d"]).unwrap().remarks.lines();
    assert_eq!(remarks.len(), 2, "{remarks:?}");
}

#[test]
fn a_hard_link_keeps_what_its_target_was() {
    assert_eq!(shown(&["a", "b=a", "a"]), ["b 0", "a 2"]);
    assert_eq!(shown(&["a", "b=a", "c=b", "b"]), ["a 0", "c 0", "b 3"]);
    assert_eq!(shown(&["a", "a=a", "b", "b=a"]), ["a 0", "b 0"]);
    assert_eq!(shown(&["l>x", "m=l"]), ["l 0", "m 0"], "the link itself, not where it leads");
    assert_eq!(shown(&["d/", "d=d", "d/f"]), ["d/ 640", "d/f 2"], "the same name already");
    for dead in [&["b=a"][..], &["d/", "b=d"], &["a", "b=a/x"], &["a", "a/"], &["b="]] {
        let dead = [dead, &["z=a"][..]].concat();
        assert!(matches!(tree(&dead), Err(TarError::DeadLink { .. })), "{dead:?}");
    }
    assert_eq!(tree(&["a", "b=a", "d/", "c>a"]).unwrap().counts(), (4, 4));
}

#[test]
fn names_below_links_lie_where_the_links_lead() {
    assert_eq!(shown(&["usr/", "lib>usr", "lib/x"]), ["usr/ 640", "lib 1", "usr/x 2"]);
    assert_eq!(shown(&["usr/", "lib>./usr/", "lib/new/x"])[..2], ["usr/ 640", "usr/new/ 755"]);
    assert_eq!(shown(&["u/a", "l>u", "h=l/a"]), ["u/ 755", "h 0", "u/a 0", "l 1"]);
    assert_eq!(shown(&["u/", "l>u", "l/"]), ["l/ 642", "u/ 640"], "a directory replaces a link");
    for wrong in [
        &["s>/etc", "s/x"][..],
        &["d/s>../d", "d/s/x"],
        &["s>nowhere", "s/x"],
        &["s>s", "s/x"],
        &["a>b", "b>a", "a/x"],
        &["f", "f/x"],
        &["f", "l>f", "l/x"],
    ] {
        assert!(matches!(tree(wrong), Err(TarError::Below { .. })), "{wrong:?}");
    }
}

#[test]
fn the_root_takes_the_mode_of_its_last_entry_and_is_nothing_but_a_directory() {
    let mut root = Tree::new();
    assert_eq!(root.root().mode, 0o755);
    apply(&mut root, 1, "", Kind::Directory).unwrap();
    apply(&mut root, 2, "", Kind::Directory).unwrap();
    assert_eq!(root.root().mode, 0o642);
    let refused = apply(&mut root, 3, "", Kind::File(0));
    assert!(matches!(refused, Err(TarError::CannotHold { .. })), "{refused:?}");
}

#[test]
fn memory_is_bounded_by_the_bytes_of_names_and_targets() {
    let mut tree = Tree { max_bytes: 1 << 20, ..Tree::new() };
    let target = vec![b'x'; crate::tar::MAX_PATH];
    let full = (0..).find_map(|n| apply(&mut tree, n, "same", Kind::Symlink(target.clone())).err());
    assert!(matches!(full, Some(TarError::TooLarge { .. })), "{full:?}");
    assert!(tree.nodes.len() < 300, "{}", tree.nodes.len());
}
