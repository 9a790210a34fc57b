//! File names of requests, made safe.

/// Longer names are refused; ours are far shorter.
pub const MAX_PATH_BYTES: usize = 255;

/// Why a name is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PathError {
    /// A component `..`.
    #[error("file name with `..`")]
    Parent,
    /// A backslash: a path of another system, or an escape.
    #[error("file name with a backslash")]
    Backslash,
    /// A control character.
    #[error("file name with a control character")]
    Control,
    /// Nothing in it, or more than [`MAX_PATH_BYTES`].
    #[error("file name of {0} bytes")]
    Length(usize),
}

/// The name relative to the root of the virtual tree, without empty components. A leading `/` is what
/// many PXE clients send and means that root, never the file system's.
pub fn normalize(name: &str) -> Result<String, PathError> {
    if name.len() > MAX_PATH_BYTES {
        return Err(PathError::Length(name.len()));
    }
    if name.contains('\\') {
        return Err(PathError::Backslash);
    }
    if name.chars().any(char::is_control) {
        return Err(PathError::Control);
    }
    let mut path = String::with_capacity(name.len());
    for component in name.split('/').filter(|c| !c.is_empty() && *c != ".") {
        if component == ".." {
            return Err(PathError::Parent);
        }
        if !path.is_empty() {
            path.push('/');
        }
        path.push_str(component);
    }
    if path.is_empty() { Err(PathError::Length(0)) } else { Ok(path) }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn names_are_relative_to_the_root_of_the_tree() {
        assert_eq!(normalize("boot/n1.ipxe").unwrap(), "boot/n1.ipxe");
        assert_eq!(normalize("//boot/./n1.ipxe").unwrap(), "boot/n1.ipxe");
        assert_eq!(normalize("/etc/passwd").unwrap(), "etc/passwd");
    }

    #[test]
    fn names_that_leave_the_tree_are_refused() {
        assert_eq!(normalize("../etc/passwd"), Err(PathError::Parent));
        assert_eq!(normalize("/boot/../../etc/passwd"), Err(PathError::Parent));
        assert_eq!(normalize("boot\\..\\x"), Err(PathError::Backslash));
        assert_eq!(normalize("a\nb"), Err(PathError::Control));
        assert_eq!(normalize("/"), Err(PathError::Length(0)));
        assert_eq!(normalize(&"a".repeat(256)), Err(PathError::Length(256)));
    }

    proptest! {
        #[test]
        fn a_name_that_passes_stays_within_the_tree(name in "[a./\\\\]{0,20}|.{0,300}") {
            if let Ok(path) = normalize(&name) {
                prop_assert!(!path.starts_with('/') && !path.is_empty());
                prop_assert!(path.split('/').all(|c| !c.is_empty() && c != "." && c != ".."));
                prop_assert_eq!(normalize(&path), Ok(path));
            }
        }
    }
}
