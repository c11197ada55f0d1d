//! The pages of the program's file that a process holds.
//!
//! Whoever touches one page of a file has the kernel map those around it, too, and reading the config, opening files and the
//! first handshakes touch much that is never run again. On a machine with little memory it counts as the process's own.

use std::ffi::c_void;
use std::io;
use std::num::NonZeroUsize;
use std::ops::Range;
use std::ptr::NonNull;
use std::time::Duration;

use nix::sys::mman::{MmapAdvise, madvise};
use tokio_util::sync::CancellationToken;

/// By then all has been done once that is done again.
const STARTED: Duration = Duration::from_secs(60);

/// Lets go of what starting has touched, once it is over. Ends when it is told to.
pub async fn let_go_once_started(stop: CancellationToken) {
    tokio::select! {
        () = stop.cancelled() => return,
        () = tokio::time::sleep(STARTED) => {}
    }
    if let Err(error) = let_go() {
        tracing::debug!(%error, "cannot let go of the program's pages");
    }
    stop.cancelled().await;
}

/// Unmaps the pages of all files whose content the process holds unchanged. Each comes back from the kernel's cache of the
/// file, or from the file, as soon as it is touched.
///
/// # Errors
/// The process's mappings cannot be read, or the kernel refuses.
fn let_go() -> io::Result<()> {
    for pages in unchanged(&std::fs::read_to_string("/proc/self/smaps")?) {
        advise(&pages)?;
    }
    Ok(())
}

#[allow(unsafe_code)]
fn advise(pages: &Range<usize>) -> io::Result<()> {
    let Some(start) = NonZeroUsize::new(pages.start) else {
        return Ok(());
    };
    let start = NonNull::<c_void>::with_exposed_provenance(start);
    // SAFETY: these pages are a file's, nobody may write to them, and none of them is a copy of the process's own. So what
    // is read there afterwards is what was before.
    unsafe { madvise(start, pages.len(), MmapAdvise::MADV_DONTNEED) }.map_err(io::Error::from)
}

/// The mappings of files that nobody may write to and that have no page of the process's own, of those that
/// [`/proc/self/smaps`](https://man7.org/linux/man-pages/man5/proc_pid_smaps.5.html) tells of.
fn unchanged(smaps: &str) -> Vec<Range<usize>> {
    let mut found = Vec::new();
    let mut candidate = None;
    for line in smaps.lines() {
        match line.split_once(':') {
            Some(("Anonymous", own)) if own.trim() == "0 kB" => found.extend(candidate.take()),
            // A mapping's first line: addresses, permissions, offset, device, inode, path.
            _ if line.starts_with(|c: char| matches!(c, '0'..='9' | 'a'..='f')) => candidate = of_file(line),
            _ => {}
        }
    }
    found
}

fn of_file(line: &str) -> Option<Range<usize>> {
    let mut fields = line.split_ascii_whitespace();
    let (start, end) = fields.next()?.split_once('-')?;
    let may_write = fields.next()?.contains('w');
    let is_file = fields.nth(3)?.starts_with('/');
    let address = |hex| usize::from_str_radix(hex, 16).ok();
    (is_file && !may_write).then_some(address(start)?..address(end)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_as_in_its_file_is_let_go_of() {
        let smaps = "\
5564d461e000-5564d514d000 r--p 00000000 fe:00 131 /usr/bin/crosswatch
Size:              11452 kB
Anonymous:             0 kB
VmFlags: rd mr mw me sd
5564d514d000-5564d6016000 r-xp 00b2e000 fe:00 131 /usr/bin/crosswatch
Anonymous:             0 kB
5564d6016000-5564d60ee000 r--p 019f6000 fe:00 131 /usr/bin/crosswatch
Anonymous:           864 kB
5564d60ee000-5564d60ef000 rw-p 01ace000 fe:00 131 /usr/bin/crosswatch
Anonymous:             0 kB
5564e42a5000-5564e4473000 rw-p 00000000 00:00 0 [heap]
Anonymous:          1836 kB
7ff34c000000-7ff34c0ca000 r--p 00000000 00:00 0
Anonymous:             0 kB
ffffffffff600000-ffffffffff601000 --xp 00000000 00:00 0 [vsyscall]
Anonymous:             0 kB
";
        let expected: [Range<usize>; 2] =
            [0x5564_d461_e000..0x5564_d514_d000, 0x5564_d514_d000..0x5564_d601_6000];
        assert_eq!(unchanged(smaps), expected);
    }

    #[test]
    fn the_process_lives_on_with_fewer_pages() {
        let of_files = || {
            let status = std::fs::read_to_string("/proc/self/status").unwrap();
            let line = status.lines().find_map(|line| line.strip_prefix("RssFile:")).unwrap();
            line.trim().trim_end_matches(" kB").parse::<u64>().unwrap()
        };
        let before = of_files();
        let_go().unwrap();
        let after = of_files();
        assert!(after < before, "{before} kB, then {after} kB");
    }
}
