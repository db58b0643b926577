"""What operating systems do differently: the one door to it.

detflow trains on Linux, macOS and WSL2. What needs no TensorFlow runs on Windows too, so no other
module imports `fcntl` or `resource`, or opens /proc. Where a system lacks something, a function
here does the next best, and its docstring says what that is.
"""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import select
import signal
import socket
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

try:
    import fcntl
except ImportError:
    # Windows has none.
    fcntl = None  # type: ignore[assignment]
try:
    import resource
except ImportError:
    resource = None  # type: ignore[assignment]

if TYPE_CHECKING:
    from filelock import BaseFileLock

_IMPORTED = time.monotonic()

# linux/fs.h and fcntl.h; sys/stdio.h of macOS.
_AT_FDCWD = -100
_RENAME_EXCHANGE = 2
_RENAME_SWAP = 2

# prctl.h
_PR_SET_PDEATHSIG = 1
# Loaded here, because between fork and exec a library had better not be loaded.
_LIBC: Final[Any] = ctypes.CDLL(None) if sys.platform == "linux" else None

# malloc.h of glibc, and sys/mman.h
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD, _M_MMAP_MAX, _M_ARENA_MAX = -1, -3, -4, -8
_MADV_HUGEPAGE = 14
_HUGE_PAGE_BYTES = 2 << 20
_LARGE_BYTES = 1 << 20
# The heap never gives more than this back; mallopt takes no larger number.
_KEPT_BYTES = 2**31 - 1
# So much of the heap lies in huge pages, once it is used. A training on a CPU takes about as much.
_HUGE_HEAP_BYTES = 3 << 29

# Position of the start among the fields of /proc/self/stat behind the name (proc(5): field 22).
_START = 19

_MAX_NOTE_BYTES = 400


# --- Locks ----------------------------------------------------------------------------------------


class EntryLock:
    """The lock of a file or folder, held until it is closed or this process ends.

    Where a folder can be opened, the lock is on the folder itself and goes with it to another name.
    Elsewhere a file beside it stands for it, one for each name.

    Args:
        descriptor: What holds the lock; None where files beside the entry do.
        beside: Those files' locks.
        identity: What was locked.
    """

    def __init__(
        self, descriptor: int | None, beside: BaseFileLock | None, identity: os.stat_result
    ) -> None:
        self._descriptor = descriptor
        self._beside = [] if beside is None else [beside]
        self._identity = identity

    def is_at(self, path: Path) -> bool:
        """Tells whether the locked file or folder has this name, still."""
        try:
            return os.path.samestat(self._identity, os.lstat(path))
        except FileNotFoundError:
            return False

    def rename(self, path: Path, target: Path) -> None:
        """Renames the locked file or folder, which stays locked."""
        if self._descriptor is None and (beside := _lock_beside(target)):
            self._beside.append(beside)
        os.rename(path, target)

    def close(self) -> None:
        """Gives the lock back."""
        if self._descriptor is not None:
            os.close(self._descriptor)
        for lock in self._beside:
            lock.release()
            # Some systems' locks leave their file.
            Path(lock.lock_file).unlink(missing_ok=True)


def lock_entry(path: Path) -> EntryLock | None:
    """Locks the file or folder of a name; None where another process holds it, or it is gone."""
    if fcntl is None:
        return _lock_portably(path)
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        lock = EntryLock(descriptor, None, os.fstat(descriptor))
        # Between opening and locking it another process may have removed it, or renamed it.
        if lock.is_at(path):
            return lock
    except BlockingIOError:
        pass
    except BaseException:
        os.close(descriptor)
        raise
    os.close(descriptor)
    return None


def _lock_portably(path: Path) -> EntryLock | None:
    beside = _lock_beside(path)
    if beside is None:
        return None
    try:
        return EntryLock(None, beside, os.lstat(path))
    except FileNotFoundError:
        beside.release()
        Path(beside.lock_file).unlink(missing_ok=True)
        return None


def _lock_beside(path: Path) -> BaseFileLock | None:
    """Locks a file that stands for another file or a folder; None where another process does."""
    import filelock

    lock = filelock.FileLock(path.with_name(f"{path.name}.lock"), timeout=0)
    try:
        lock.acquire()
    except filelock.Timeout:
        return None
    return lock


class HeldFile:
    """A file whose lock says that its folder is in use, and whose text says by whom.

    Args:
        descriptor: What holds the lock; None where a file beside it does.
        beside: That file's lock.
    """

    def __init__(self, descriptor: int | None, beside: BaseFileLock | None) -> None:
        self._descriptor, self._beside = descriptor, beside

    def close(self) -> None:
        """Gives the lock back. The file stays: unlinking it would let two hold one name."""
        if self._descriptor is not None:
            os.close(self._descriptor)
        if self._beside is not None:
            self._beside.release()


def hold_file(path: Path) -> HeldFile | str:
    """Locks a file, which is made if need be, and writes into it who holds it: process and host.

    Returns:
        The lock, or what the present holder has written.
    """
    note = f"pid {os.getpid()} on {socket.gethostname()}\n"
    if fcntl is None:
        beside = _lock_beside(path)
        if beside is None:
            return path.read_text(encoding="utf-8", errors="replace").strip()
        path.write_text(note, encoding="utf-8")
        return HeldFile(None, beside)
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o644)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, note.encode(), 0)
    except BlockingIOError:
        holder = os.pread(descriptor, _MAX_NOTE_BYTES, 0).decode(errors="replace").strip()
        os.close(descriptor)
        return holder
    except BaseException:
        os.close(descriptor)
        raise
    return HeldFile(descriptor, None)


# --- Files ----------------------------------------------------------------------------------------


def exchange_folders(first: Path, second: Path) -> None:
    """Exchanges two folders in one step.

    Raises:
        OSError: One is missing, or (ENOSYS, EINVAL, ENOTSUP) system or file system cannot do it.
    """
    names = os.fsencode(first), os.fsencode(second)
    libc: Any = None if os.name == "nt" else ctypes.CDLL(None, use_errno=True)
    if hasattr(libc, "renameat2"):
        failed = libc.renameat2(_AT_FDCWD, names[0], _AT_FDCWD, names[1], _RENAME_EXCHANGE)
    elif hasattr(libc, "renamex_np"):
        failed = libc.renamex_np(*names, _RENAME_SWAP)
    else:
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS), str(second))
    if failed:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code), str(second))


def flush_to_disk(path: Path) -> None:
    """Has the disk hold a file's bytes, or a folder's names, before anything else happens.

    Windows lets no folder be flushed; NTFS keeps its names in a journal.
    """
    if os.name == "nt":
        if path.is_dir():
            return
        descriptor = os.open(path, os.O_RDWR)
    else:
        descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def open_to_read(path: str) -> int:
    """Returns a descriptor from which a file's bytes come as they are.

    A process that is started meanwhile does not inherit it.
    """
    flags = os.O_RDONLY | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)
    return os.open(path, flags)


def is_reader_gone(descriptor: int) -> bool:
    """Tells whether nobody can read any more what is written to a pipe or a socket.

    Windows does not tell; there it is False.
    """
    if not hasattr(select, "poll"):
        return False
    poll = select.poll()
    poll.register(descriptor, select.POLLOUT)
    return any(events & (select.POLLERR | select.POLLHUP) for _, events in poll.poll(0))


def reserve_space(descriptor: int, num_bytes: int) -> None:
    """Makes an open file so long, and reserves its space on the disk.

    macOS reserves nothing: there a full disk shows when the bytes are written.
    """
    if hasattr(os, "posix_fallocate"):
        os.posix_fallocate(descriptor, 0, num_bytes)
    else:
        os.ftruncate(descriptor, num_bytes)


def raise_open_files(wanted: int) -> int:
    """Raises this process's limit of open files to `wanted`, or as far as is allowed.

    Returns:
        How many files may be open then, at most `wanted`.
    """
    if resource is None:
        # Windows bounds sockets by memory alone.
        return wanted
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft >= wanted:
        return wanted
    granted = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (granted, hard))
    return granted


# --- The process ----------------------------------------------------------------------------------


def process_start() -> float:
    """Returns the time at which this process was started, by `time.monotonic`.

    A command's own imports are over before its first line runs; this counts them in. Without /proc
    it is the time at which this module was imported, which a command does early.
    """
    try:
        with open("/proc/self/stat", "rb") as file:
            # The name stands in brackets and may hold anything.
            fields = file.read().rpartition(b")")[2].split()
    except OSError:
        return _IMPORTED
    since_boot = int(fields[_START]) / os.sysconf("SC_CLK_TCK")
    age = time.clock_gettime(time.CLOCK_BOOTTIME) - since_boot
    return time.monotonic() - age


def peak_memory() -> int | None:
    """Returns the most bytes of memory that this process has held; None where that is not told."""
    if resource is None:
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    # Linux gives kilobytes, macOS bytes.
    return peak if sys.platform == "darwin" else peak * 1024


def return_large_blocks() -> None:
    """Has each block of a megabyte or more returned to the system as soon as it is freed (glibc).

    By itself glibc's allocator raises that bound to 32 MiB once such a block was freed, and keeps
    what is smaller: a server would hold on to what its largest requests took. Elsewhere nothing is
    changed.
    """
    if hasattr(_LIBC, "mallopt"):
        _LIBC.mallopt(_M_MMAP_THRESHOLD, _LARGE_BYTES)


def return_free_pages() -> None:
    """Returns the pages that hold nothing any more, between the blocks that are in use (glibc).

    It takes a few milliseconds, in which other threads cannot allocate. Elsewhere nothing happens.
    """
    if hasattr(_LIBC, "malloc_trim"):
        _LIBC.malloc_trim(0)


def keep_freed_memory() -> None:
    """Has this process keep what it frees, in huge pages, for what it allocates next (glibc).

    A training step allocates a gigabyte in pieces and frees it again. With pages of 2 MB the
    processor finds them faster: on one core a step takes 7 % less time. Nothing is used before it
    is asked for. Call it before threads begin; elsewhere, and where the machine refuses, nothing
    happens.
    """
    if not hasattr(_LIBC, "mallopt"):
        return
    # One heap for all threads, which takes the largest pieces too and does not shrink.
    _LIBC.mallopt(_M_ARENA_MAX, 1)
    _LIBC.mallopt(_M_MMAP_MAX, 0)
    _LIBC.mallopt(_M_TRIM_THRESHOLD, _KEPT_BYTES)
    _LIBC.malloc.restype = ctypes.c_void_p
    block = _LIBC.malloc(ctypes.c_size_t(_HUGE_HEAP_BYTES))
    if block is None:
        return
    start = -(-block // _HUGE_PAGE_BYTES) * _HUGE_PAGE_BYTES
    _LIBC.madvise(
        ctypes.c_void_p(start),
        ctypes.c_size_t(_HUGE_HEAP_BYTES - _HUGE_PAGE_BYTES),
        _MADV_HUGEPAGE,
    )
    _LIBC.free(ctypes.c_void_p(block))


def die_with(parent: int) -> None:
    """Called in a new process: once its parent ends, even by SIGKILL, the kernel kills it too.

    Only Linux does that. Elsewhere a process whose parent was killed ends when it next asks it for
    work.

    Args:
        parent: Process id of the parent. If it ended before this call, this process leaves at once.
    """
    if _LIBC is not None:
        _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)


# --- The processor --------------------------------------------------------------------------------


def count_cores() -> int:
    """Returns how many cores this process may use; how many there are where that is not told."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def cpu_name() -> str:
    """Returns the processor's name for a person; empty where nobody tells it."""
    return _read_cpuinfo("model name") or platform.processor()


def cpu_flags() -> set[str]:
    """Returns the processor's features as Linux names them; empty where it names none."""
    return set(_read_cpuinfo("flags").split())


def _read_cpuinfo(name: str) -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return ""
    return next(
        (line.partition(":")[2].strip() for line in lines if line.startswith(name)),
        "",
    )
