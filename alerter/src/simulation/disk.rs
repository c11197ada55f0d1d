//! The disk: the system's own, through a layer of `SQLite` (<https://www.sqlite.org/vfs.html>) that fails when it is told to.
//!
//! It is in force on the thread that has attached it; on every other thread of the process the layer hands all on.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::ffi::{CStr, OsStr, c_char, c_int, c_void};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Once;
use std::sync::atomic::{AtomicPtr, Ordering};

use rusqlite::ffi;

use super::fate::{Fate, Step};

/// How well the disk is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Health {
    Well,
    /// It takes nothing more.
    Full,
    /// It takes what is written and cannot say that it is safe.
    Failing,
}

/// The disk of the alerter's machine. Clones are one.
#[derive(Clone)]
pub(crate) struct Disk(Rc<Inner>);

struct Inner {
    health: Cell<Health>,
    fate: RefCell<Fate>,
    /// What stood where something was written and is not safe yet, by file, the oldest first.
    unsafe_yet: RefCell<HashMap<PathBuf, Vec<Before>>>,
}

struct Before {
    size: u64,
    at: u64,
    bytes: Vec<u8>,
}

thread_local! {
    static ATTACHED: RefCell<Option<Disk>> = const { RefCell::new(None) };
}

impl Disk {
    /// Of this thread, until it is dropped.
    pub(crate) fn attach() -> Self {
        register();
        let inner = Inner {
            health: Cell::new(Health::Well),
            fate: RefCell::new(Fate::of(None)),
            unsafe_yet: RefCell::default(),
        };
        let disk = Self(Rc::new(inner));
        ATTACHED.with(|attached| attached.replace(Some(disk.clone())));
        disk
    }

    pub(crate) fn detach() {
        ATTACHED.with(|attached| attached.replace(None));
    }

    pub(crate) fn set(&self, health: Health) {
        self.0.health.set(health);
    }

    pub(crate) fn health(&self) -> Health {
        self.0.health.get()
    }

    /// A new life uses it.
    pub(crate) fn used_by(&self, fate: &Fate) {
        *self.0.fate.borrow_mut() = fate.clone();
        self.0.unsafe_yet.borrow_mut().clear();
    }

    /// The power went with the life that has used it: what was not said to be safe is gone. Nobody has the files open.
    pub(crate) fn lose_power(&self) {
        for (path, befores) in self.0.unsafe_yet.borrow_mut().drain() {
            let Ok(file) = std::fs::File::options().write(true).open(&path) else { continue };
            for Before { size, at, bytes } in befores.into_iter().rev() {
                file.write_all_at(&bytes, at).unwrap();
                file.set_len(size).unwrap();
            }
            // Its index is memory.
            let mut index = path.into_os_string();
            if index.as_bytes().ends_with(b"-wal") {
                index = OsStr::from_bytes(index.as_bytes().strip_suffix(b"wal").unwrap()).to_owned();
                index.push("shm");
                let _ = std::fs::remove_file(index);
            }
        }
    }

    fn writes(&self, otherwise: c_int) -> c_int {
        if !self.0.fate.borrow().step(Step::Disk) {
            return ffi::SQLITE_IOERR_WRITE;
        }
        match self.health() {
            Health::Full => otherwise,
            _ => ffi::SQLITE_OK,
        }
    }

    fn syncs(&self) -> c_int {
        let lives = self.0.fate.borrow().step(Step::Disk);
        if lives && self.health() == Health::Well { ffi::SQLITE_OK } else { ffi::SQLITE_IOERR_FSYNC }
    }
}

fn attached() -> Option<Disk> {
    ATTACHED.with(|attached| attached.borrow().clone())
}

/// An open file: `SQLite`'s part, and the system's own, which lies behind it.
#[repr(C)]
struct File {
    base: ffi::sqlite3_file,
    path: *const c_char,
    /// So that what lies behind is aligned.
    _room: [u64; 2],
}

static REAL: AtomicPtr<ffi::sqlite3_vfs> = AtomicPtr::new(std::ptr::null_mut());

fn register() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        // SAFETY: the default layer lives as long as the process; ours is leaked and so does too. What of it is not
        // replaced takes a layer only for its numbers, which are copied.
        unsafe {
            let real = ffi::sqlite3_vfs_find(std::ptr::null());
            let mut ours = *real;
            ours.pNext = std::ptr::null_mut();
            ours.zName = c"simulated".as_ptr();
            ours.szOsFile += c_int::try_from(size_of::<File>()).unwrap();
            ours.xOpen = Some(open);
            ours.xDelete = Some(delete);
            REAL.store(real, Ordering::Release);
            assert_eq!(ffi::sqlite3_vfs_register(Box::into_raw(Box::new(ours)), 1), ffi::SQLITE_OK);
        }
    });
}

unsafe fn behind(file: *mut ffi::sqlite3_file) -> *mut ffi::sqlite3_file {
    // SAFETY: `szOsFile` asked for that much more room.
    unsafe { file.cast::<File>().add(1).cast() }
}

unsafe extern "C" fn open(
    _: *mut ffi::sqlite3_vfs,
    name: ffi::sqlite3_filename,
    file: *mut ffi::sqlite3_file,
    flags: c_int,
    out: *mut c_int,
) -> c_int {
    // SAFETY: `SQLite` gives room for both, and the name lives until the file is closed.
    unsafe {
        let (real, inner) = (REAL.load(Ordering::Acquire), behind(file));
        (*inner).pMethods = std::ptr::null();
        let result = (*real).xOpen.unwrap()(real, name, inner, flags, out);
        (*file.cast::<File>()).path = name;
        (*file).pMethods = if (*inner).pMethods.is_null() { std::ptr::null() } else { &METHODS };
        result
    }
}

unsafe extern "C" fn delete(_: *mut ffi::sqlite3_vfs, name: *const c_char, sync: c_int) -> c_int {
    if let Some(disk) = attached() {
        if disk.0.fate.borrow().is_dead() {
            return ffi::SQLITE_IOERR_DELETE;
        }
        // SAFETY: a C string.
        let path = Path::new(OsStr::from_bytes(unsafe { CStr::from_ptr(name) }.to_bytes()));
        disk.0.unsafe_yet.borrow_mut().remove(path);
    }
    // SAFETY: handed on as it came.
    unsafe {
        let real = REAL.load(Ordering::Acquire);
        (*real).xDelete.unwrap()(real, name, sync)
    }
}

/// Keeps what stands where something is about to be written.
unsafe fn keep(disk: &Disk, file: *mut ffi::sqlite3_file, at: i64, length: c_int) {
    // SAFETY: an open file of ours; its name is a C string where there is one.
    unsafe {
        let (path, inner) = ((*file.cast::<File>()).path, behind(file));
        if path.is_null() {
            return;
        }
        let path = PathBuf::from(OsStr::from_bytes(CStr::from_ptr(path).to_bytes()));
        let methods = &*(*inner).pMethods;
        let mut size = 0;
        methods.xFileSize.unwrap()(inner, &mut size);
        let length = i64::from(length).min(size - at).max(0);
        let mut bytes = vec![0_u8; usize::try_from(length).unwrap()];
        methods.xRead.unwrap()(inner, bytes.as_mut_ptr().cast(), c_int::try_from(length).unwrap(), at);
        let before = Before { size: size.cast_unsigned(), at: at.cast_unsigned(), bytes };
        disk.0.unsafe_yet.borrow_mut().entry(path).or_default().push(before);
    }
}

unsafe extern "C" fn write(
    file: *mut ffi::sqlite3_file,
    from: *const c_void,
    length: c_int,
    at: i64,
) -> c_int {
    if let Some(disk) = attached() {
        let result = disk.writes(ffi::SQLITE_FULL);
        if result != ffi::SQLITE_OK {
            return result;
        }
        // SAFETY: an open file of ours.
        unsafe { keep(&disk, file, at, length) };
    }
    // SAFETY: handed on as it came.
    unsafe { (*(*behind(file)).pMethods).xWrite.unwrap()(behind(file), from, length, at) }
}

unsafe extern "C" fn truncate(file: *mut ffi::sqlite3_file, size: i64) -> c_int {
    if let Some(disk) = attached() {
        let result = disk.writes(ffi::SQLITE_IOERR_TRUNCATE);
        if result != ffi::SQLITE_OK {
            return result;
        }
        // SAFETY: an open file of ours. What is cut off goes back with the rest.
        unsafe { keep(&disk, file, size, c_int::MAX) };
    }
    // SAFETY: handed on as it came.
    unsafe { (*(*behind(file)).pMethods).xTruncate.unwrap()(behind(file), size) }
}

unsafe extern "C" fn sync(file: *mut ffi::sqlite3_file, flags: c_int) -> c_int {
    if let Some(disk) = attached() {
        let result = disk.syncs();
        if result != ffi::SQLITE_OK {
            return result;
        }
        // SAFETY: an open file of ours; its name is a C string where there is one.
        unsafe {
            let path = (*file.cast::<File>()).path;
            if !path.is_null() {
                let path = Path::new(OsStr::from_bytes(CStr::from_ptr(path).to_bytes()));
                disk.0.unsafe_yet.borrow_mut().remove(path);
            }
        }
        // What is safe in the simulation need not be so on this machine.
        return ffi::SQLITE_OK;
    }
    // SAFETY: handed on as it came.
    unsafe { (*(*behind(file)).pMethods).xSync.unwrap()(behind(file), flags) }
}

/// Methods that are handed on as they came.
macro_rules! hand_on {
    ($($name:ident as $method:ident ( $($argument:ident : $of:ty),* ) -> $result:ty;)*) => {
        $(unsafe extern "C" fn $name(file: *mut ffi::sqlite3_file $(, $argument: $of)*) -> $result {
            // SAFETY: handed on as it came, to the file behind.
            unsafe { (*(*behind(file)).pMethods).$method.unwrap()(behind(file) $(, $argument)*) }
        })*
    };
}

hand_on! {
    close as xClose() -> c_int;
    read as xRead(to: *mut c_void, length: c_int, at: i64) -> c_int;
    file_size as xFileSize(size: *mut i64) -> c_int;
    lock as xLock(kind: c_int) -> c_int;
    unlock as xUnlock(kind: c_int) -> c_int;
    check_reserved as xCheckReservedLock(out: *mut c_int) -> c_int;
    control as xFileControl(operation: c_int, argument: *mut c_void) -> c_int;
    sector_size as xSectorSize() -> c_int;
    characteristics as xDeviceCharacteristics() -> c_int;
    shm_map as xShmMap(page: c_int, size: c_int, extend: c_int, out: *mut *mut c_void) -> c_int;
    shm_lock as xShmLock(offset: c_int, count: c_int, flags: c_int) -> c_int;
    shm_barrier as xShmBarrier() -> ();
    shm_unmap as xShmUnmap(delete: c_int) -> c_int;
    fetch as xFetch(at: i64, length: c_int, out: *mut *mut c_void) -> c_int;
    unfetch as xUnfetch(at: i64, from: *mut c_void) -> c_int;
}

static METHODS: ffi::sqlite3_io_methods = ffi::sqlite3_io_methods {
    iVersion: 3,
    xClose: Some(close),
    xRead: Some(read),
    xWrite: Some(write),
    xTruncate: Some(truncate),
    xSync: Some(sync),
    xFileSize: Some(file_size),
    xLock: Some(lock),
    xUnlock: Some(unlock),
    xCheckReservedLock: Some(check_reserved),
    xFileControl: Some(control),
    xSectorSize: Some(sector_size),
    xDeviceCharacteristics: Some(characteristics),
    xShmMap: Some(shm_map),
    xShmLock: Some(shm_lock),
    xShmBarrier: Some(shm_barrier),
    xShmUnmap: Some(shm_unmap),
    xFetch: Some(fetch),
    xUnfetch: Some(unfetch),
};
