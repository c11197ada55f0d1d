//! How the C library's allocator gives memory back.

#[cfg(target_env = "gnu")]
use nix::libc::{M_ARENA_MAX, M_MMAP_THRESHOLD, M_TRIM_THRESHOLD, c_int, mallopt};

/// glibc's own default for both thresholds, which it raises by itself with the largest block that was ever freed. It no
/// longer does once one was set.
#[cfg(target_env = "gnu")]
const THRESHOLD: c_int = 128 * 1024;

/// Threads share this many heaps: each keeps for itself what was freed in it.
#[cfg(target_env = "gnu")]
const ARENAS: c_int = 2;

/// Holds the process to what it uses: what a config of thousands of probes took while it was read goes back, and is not kept
/// for its like, which never comes. To be called before there is a second thread.
///
/// Source: [mallopt(3)](https://man7.org/linux/man-pages/man3/mallopt.3.html).
#[cfg(target_env = "gnu")]
#[allow(unsafe_code)]
pub fn give_back() {
    for (parameter, value) in
        [(M_TRIM_THRESHOLD, THRESHOLD), (M_MMAP_THRESHOLD, THRESHOLD), (M_ARENA_MAX, ARENAS)]
    {
        // SAFETY: it changes numbers of the allocator, under the allocator's own lock. What it refuses stays as it was.
        unsafe { mallopt(parameter, value) };
    }
}

/// Other C libraries give back by themselves.
#[cfg(not(target_env = "gnu"))]
pub fn give_back() {}
