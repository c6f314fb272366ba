"""A lock on a file that several threads and several programs change, such as two tabs and two WebUIs."""

from __future__ import annotations

import errno
import os
import threading
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any

from ..errors import CLoRAError

_WAIT = 20.0
"""Seconds to wait for another program."""
_POLL = 0.01
_threads: dict[Path, threading.Lock] = {}
_guard = threading.Lock()


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Nobody else is in such a block for the same file, in this program or another. `path` must be resolved.

    A file beside it, with `.lock` added to its name, carries the lock and stays there.
    Raises: CLoRAError if another program keeps the lock; OSError if the lock file cannot be written.
    """
    if not path.parent.is_dir():  # the library would make the folder
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(path.parent))
    with _guard:
        own = _threads.setdefault(path, threading.Lock())
    with own, _between_programs(path.with_name(f"{path.name}.lock"), path):
        yield


def _between_programs(lock: Path, path: Path) -> AbstractContextManager[None]:
    """By the library that Hugging Face's packages bring along; without it by the operating system's own lock."""
    try:
        library: Any = import_module("filelock")
    except ImportError:
        return _by_system(lock, path)
    return _by_library(library, lock, path)


@contextmanager
def _by_library(library: Any, lock: Path, path: Path) -> Iterator[None]:
    held = library.FileLock(str(lock), timeout=_WAIT)
    try:
        held.acquire(poll_interval=_POLL)
    except library.Timeout:
        raise _in_use(path) from None
    try:
        yield
    finally:
        held.release()


@contextmanager
def _by_system(lock: Path, path: Path) -> Iterator[None]:
    until = time.monotonic() + _WAIT
    file = os.open(lock, os.O_RDWR | os.O_CREAT, 0o666)
    try:
        while not _try(file):
            if time.monotonic() > until:
                raise _in_use(path)
            time.sleep(_POLL)
        yield
    finally:
        os.close(file)  # which ends the lock


def _try(file: int) -> bool:
    try:
        if os.name == "nt":
            windows: Any = import_module("msvcrt")
            windows.locking(file, windows.LK_NBLCK, 1)
        else:
            unix: Any = import_module("fcntl")
            unix.flock(file, unix.LOCK_EX | unix.LOCK_NB)
    except (BlockingIOError, PermissionError):
        return False
    return True


def _in_use(path: Path) -> CLoRAError:
    return CLoRAError(f"The presets in {path} are in use by another program: try again, or close that program.")
