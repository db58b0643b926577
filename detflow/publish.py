"""The only door to a final name: what detflow publishes is complete, or it is absent.

A folder is built under a hidden name beside its destination, flushed to the disk, and renamed.
Where the destination exists the two are exchanged in one step, so a reader sees the complete old
folder or the complete new one. A process that dies leaves only a hidden folder; the next process
that publishes to the same destination removes it. While a process that lives builds there, no other
one does.

A hidden folder belongs to whoever holds its lock *and* finds it under its name: between opening a
folder and locking it another process may have removed it, or given it another name.
"""

from __future__ import annotations

import contextlib
import errno
import os
import random
import re
import shutil
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

from detflow.errors import ConfigError, EnvironmentFault, Locked, environment_faults
from detflow.process.platform import EntryLock, exchange_folders, flush_to_disk, lock_entry

# How often something is tried again that only another process's progress can have prevented.
_MAX_ATTEMPTS = 100
# How often, and how long, one waits for another process that publishes to the same destination: as
# long as it takes to look whether it is alive.
_MAX_WAITS = 12
_WAIT_S = (0.005, 0.04)
# What a file system says that has no hard links: FAT, exFAT, some of networks and in user space.
_NO_LINKS = (errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL, errno.EMLINK)


def require_replaceable(final: Path, marker: str) -> None:
    """Refuses to publish a folder over anything that detflow did not make.

    Args:
        final: The destination.
        marker: The file by which a folder of this kind is recognised.

    Raises:
        ConfigError: The destination is a file, or a folder that holds something and not the marker.
    """
    remedy = "choose another folder"
    with environment_faults(final):
        if final.is_dir():
            if any(final.iterdir()) and not (final / marker).is_file():
                raise ConfigError(
                    f"the folder is not empty and holds no {marker}", path=final, remedy=remedy
                )
        elif os.path.lexists(final):
            raise ConfigError(
                "the destination exists and is not a folder", path=final, remedy=remedy
            )


@contextlib.contextmanager
def publish_directory(final: Path, resume: str | None = None) -> Iterator[Path]:
    """Yields a folder to fill; publishes it as `final` when the block ends without an error.

    Args:
        final: The destination. Its parents are made; what stands there is replaced as a whole.
        resume: Twelve hexadecimal digits that identify what is being built. If a process was
            killed while it built the same, its folder is yielded with what it holds; the caller
            checks that and uses it again. Without `resume` the folder is always empty.

    Raises:
        EnvironmentFault: The disk refuses, before the block is entered where that can be known.
        Locked: Another process is publishing to the same destination, whatever it builds.
    """
    with environment_faults(final):
        final = Path(os.path.abspath(final))
        final.parent.mkdir(parents=True, exist_ok=True)
        _settle(final)
        staging, lock = _open_staging(final, resume)
        complete = _name_hidden(final)
        try:
            yield staging
            _fsync_tree(staging)
            # The exchange leaves the old folder where the new one was. Under the name of `resume`
            # a process that builds the same would build in it while it is removed here.
            lock.rename(staging, complete)
            _move_into_place(complete, final)
            flush_to_disk(final.parent)
        finally:
            if lock.is_at(staging):
                shutil.rmtree(staging, ignore_errors=True)
            shutil.rmtree(complete, ignore_errors=True)
            lock.close()


def _open_staging(final: Path, resume: str | None) -> tuple[Path, EntryLock]:
    """Returns a hidden folder beside `final` and its lock.

    The lock is held until the folder is published, because sweep() takes a folder whose lock is
    free for the leftover of a dead process.
    """
    for _ in range(_MAX_WAITS):
        staging = _name_hidden(final, resume)
        sweep(final.parent, final.name, keep=staging.name)
        # Not exist_ok: to pathlib a folder that vanishes meanwhile is a file in the way.
        with contextlib.suppress(FileExistsError):
            staging.mkdir()
        lock = lock_entry(staging)
        if lock is not None:
            with contextlib.ExitStack() as stack:
                stack.callback(lock.close)
                if not _find_writer(final, staging):
                    stack.pop_all()
                    return staging, lock
                # What a dead process began stays, for one that comes later.
                with contextlib.suppress(OSError):
                    staging.rmdir()
        # Two that have come at the same moment must not come back at the same moment.
        time.sleep(random.uniform(*_WAIT_S))  # noqa: S311
    raise Locked("another process is writing there", path=final, remedy="wait for it")


def _find_writer(final: Path, own: Path) -> bool:
    """Tells whether another process that lives builds what is to become `final`."""
    pattern = _match_leftovers(final.name, "tmp")
    for name in filter(pattern.fullmatch, os.listdir(final.parent)):
        # Whoever builds something does so in a folder; a link is somebody else's.
        if name != own.name and not (final.parent / name).is_symlink():
            lock = lock_entry(final.parent / name)
            if lock is not None:
                lock.close()
            elif (final.parent / name).exists():
                return True
    return False


def _match_leftovers(name: str | None, kinds: str) -> re.Pattern[str]:
    """Returns what the hidden names of a destination look like; of all where the name is None."""
    stem = ".+" if name is None else re.escape(name)
    return re.compile(rf"\.{stem}\.({kinds})-[0-9a-f]{{12}}", re.DOTALL)


def _name_hidden(final: Path, resume: str | None = None, kind: str = "tmp") -> Path:
    return final.parent / f".{final.name}.{kind}-{resume or _draw()}"


def _draw() -> str:
    return uuid.uuid4().hex[:12]


def publish_file(final: Path, content: bytes | str) -> None:
    """Writes a file so that `final` holds the old content or the new, never a part.

    Raises:
        EnvironmentFault: The disk refuses.
    """
    with _staged_file(final, content) as staging:
        os.replace(staging, final)


def publish_new_file(final: Path, content: bytes | str) -> None:
    """Writes a file whole under a name that nothing has, and replaces nothing.

    Raises:
        ConfigError: Something has the name by now.
        EnvironmentFault: The disk refuses.
    """
    with _staged_file(final, content) as staging:
        try:
            # Renaming would replace what has appeared since somebody looked.
            os.link(staging, final)
        except FileExistsError:
            raise _name_is_taken(final) from None
        except OSError as error:
            if error.errno not in _NO_LINKS:
                raise
            _require_free_name(final)
            os.rename(staging, final)


def require_new_file(final: Path) -> None:
    """Refuses, before any work, a file that `publish_new_file` could not write.

    Raises:
        ConfigError: Something has the name.
        EnvironmentFault: The disk refuses.
    """
    _require_free_name(final)
    require_writable(final)


def require_writable(final: Path) -> None:
    """Refuses, before any work, a file that `publish_file` could not write.

    What it makes in order to know, it removes.

    Raises:
        EnvironmentFault: The disk refuses.
    """
    with environment_faults(final):
        if final.is_dir() and not final.is_symlink():
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(final))
        missing = [folder for folder in final.parents if not os.path.lexists(folder)]
        try:
            staging, lock = _write_hidden(final, b"")
            staging.unlink(missing_ok=True)
            lock.close()
        finally:
            for folder in missing:
                # Another process may have put something there meanwhile, or there is none.
                with contextlib.suppress(OSError):
                    folder.rmdir()


def _require_free_name(final: Path) -> None:
    if os.path.lexists(final):
        raise _name_is_taken(final)


def _name_is_taken(final: Path) -> ConfigError:
    return ConfigError("the file exists", path=final, remedy="name another file")


@contextlib.contextmanager
def _staged_file(final: Path, content: bytes | str) -> Iterator[Path]:
    """Yields a hidden file with the content beside `final`, to which the block gives its name."""
    data = content.encode() if isinstance(content, str) else content
    with environment_faults(final):
        staging, lock = _write_hidden(final, data)
        try:
            yield staging
            flush_to_disk(final.parent)
        finally:
            staging.unlink(missing_ok=True)
            lock.close()


def _write_hidden(final: Path, data: bytes) -> tuple[Path, EntryLock]:
    """Writes a hidden file beside `final`, whose parents are made; returns it and its lock.

    The lock is held until the file is published, because sweep() takes a file whose lock is free
    for the leftover of a dead process.
    """
    for attempt in range(_MAX_ATTEMPTS):
        final.parent.mkdir(parents=True, exist_ok=True)
        staging = _name_hidden(final)
        lock = None
        try:
            with open(staging, "xb") as file:
                lock = lock_entry(staging)
                if lock is None:
                    # It was swept away before it could be locked.
                    continue
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
        except BaseException as error:
            staging.unlink(missing_ok=True)
            if lock is not None:
                lock.close()
            # Another process that only asked for the same folder may just have removed it again.
            if isinstance(error, FileNotFoundError) and attempt + 1 < _MAX_ATTEMPTS:
                continue
            raise
        return staging, lock
    raise Locked("other processes keep writing it", path=final, remedy="wait for them")


def remove_directory(directory: Path) -> None:
    """Removes a published folder so that its name never stands for a part of it."""
    hidden = _name_hidden(directory)
    os.rename(directory, hidden)
    shutil.rmtree(hidden, ignore_errors=True)


def sweep(directory: Path, name: str | None = None, keep: str | None = None) -> None:
    """Removes what processes that died while publishing left in `directory`.

    Args:
        directory: Where to look; it may be missing.
        name: The destination whose leftovers are removed; None means every destination.
        keep: The name of a leftover that stays.
    """
    leftover = _match_leftovers(name, "tmp|gone")
    for entry in sorted(directory.iterdir()) if directory.is_dir() else ():
        if entry.name == keep or not leftover.fullmatch(entry.name) or entry.is_symlink():
            continue
        lock = lock_entry(entry)
        if lock is None:
            # Its writer is alive, or it is gone.
            continue
        try:
            if entry.is_dir():
                # Under its old name, and locked, it would look as if somebody built in it.
                gone = entry.with_name(f"{entry.name.rpartition('.')[0]}.gone-{_draw()}")
                # What a set has left behind, its own process removes at the same time.
                with contextlib.suppress(FileNotFoundError):
                    lock.rename(entry, gone)
                    shutil.rmtree(gone, ignore_errors=True)
            else:
                entry.unlink(missing_ok=True)
        finally:
            lock.close()


def require_space(directory: Path, num_bytes: int) -> None:
    """Refuses to start work whose result cannot fit on the disk.

    Args:
        directory: Where the bytes go. Where it does not exist yet, its nearest parent counts.
        num_bytes: How many bytes are needed.

    Raises:
        EnvironmentFault: Fewer bytes are free; the message has both numbers.
    """
    existing = Path(os.path.abspath(directory))
    while not existing.exists():
        existing = existing.parent
    free = shutil.disk_usage(existing).free
    if free < num_bytes:
        raise EnvironmentFault(
            f"{num_bytes:,} bytes are needed and {free:,} are free",
            path=directory,
            remedy="free some space",
        )


def _move_into_place(staging: Path, final: Path) -> None:
    """Renames `staging` to `final`.

    An existing `final` is exchanged with it, so that `staging` then holds the old content. Whoever
    publishes to the same name meanwhile comes before or after; each folder stays whole.
    """
    for _ in range(_MAX_ATTEMPTS):
        if os.path.lexists(final):
            if not final.is_dir() or final.is_symlink():
                raise EnvironmentFault(
                    "the destination exists and is not a folder",
                    path=final,
                    remedy="choose another one",
                )
            moved = _exchange(staging, final)
        else:
            moved = _rename_to_free_name(staging, final)
        if moved:
            return
    raise Locked("other processes keep writing it", path=final, remedy="wait for them")


def _exchange(staging: Path, final: Path) -> bool:
    """Exchanges two folders; False where `final` has changed meanwhile and all is as it was."""
    try:
        exchange_folders(staging, final)
    except OSError as error:
        if error.errno == errno.ENOENT and staging.exists():
            return False
        if error.errno not in (errno.ENOSYS, errno.EINVAL, errno.ENOTSUP):
            raise
    else:
        return True
    # Windows and some file systems, NFS among them, cannot exchange: for an instant nothing has the
    # final name. The old folder then has a name from which a later process puts it back if this one
    # dies.
    try:
        os.rename(final, _name_hidden(final, kind="old"))
    except FileNotFoundError:
        return False
    try:
        return _rename_to_free_name(staging, final)
    finally:
        _settle(final)


def _rename_to_free_name(staging: Path, final: Path) -> bool:
    """Renames a folder; False where another one got the name first."""
    try:
        os.rename(staging, final)
    except OSError as error:
        if error.errno in (errno.EEXIST, errno.ENOTEMPTY, errno.ENOTDIR):
            return False
        raise
    return True


def _settle(final: Path) -> None:
    """Puts a folder that was moved aside back to its name, or removes it if the name is taken."""
    aside = re.compile(rf"\.{re.escape(final.name)}\.old-[0-9a-f]{{12}}", re.DOTALL)
    for name in sorted(filter(aside.fullmatch, os.listdir(final.parent))):
        # One that is about to be removed must not be put back later, without a part of its files.
        gone = _name_hidden(final)
        with contextlib.suppress(FileNotFoundError):
            if not _rename_to_free_name(final.parent / name, final):
                os.rename(final.parent / name, gone)
                shutil.rmtree(gone, ignore_errors=True)


def _fsync_tree(root: Path) -> None:
    for directory, _, names in os.walk(root):
        for name in names:
            flush_to_disk(Path(directory) / name)
        flush_to_disk(Path(directory))
