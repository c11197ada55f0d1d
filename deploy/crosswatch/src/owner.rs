//! Files that a tool leaves for the stages. Under systemd these run as a user of their own, and root is who calls a tool: what root
//! made there they could neither read nor remove.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use nix::unistd::{Gid, Uid, getegid, geteuid, getgroups, setegid, seteuid, setgroups};

/// Does something as the user whose the folder is, where root calls and the folder is not root's; for the whole process, and
/// for that long. As that user and not for it: root would follow links that the user may have put there.
///
/// # Errors
/// What it does; or root may not become another user. No folder is no error: then nothing is another's.
pub(crate) fn as_owner_of<T>(folder: &Path, act: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
    let owner = fs::metadata(folder).ok().filter(|folder| folder.uid() != 0 && geteuid().is_root());
    let Some(owner) = owner else { return act() };
    let (group, groups) = (getegid(), getgroups()?);
    setgroups(&[])?;
    setegid(Gid::from_raw(owner.gid()))?;
    seteuid(Uid::from_raw(owner.uid()))?;
    let done = act();
    seteuid(Uid::from_raw(0))?;
    setegid(group)?;
    setgroups(&groups)?;
    done
}
