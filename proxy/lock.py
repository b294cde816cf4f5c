"""One node, one state directory: a lock file with the process id of who has it.

The kernel lets go of the lock when the process ends, however it ends; the file stays.
"""

from __future__ import annotations

import fcntl
import os
from pathlib import Path


class InUse(OSError):
    """Another node has the directory; the text says which."""


class Lock:
    """Held from construction until `close`. Raises InUse, OSError."""

    def __init__(self, folder: Path) -> None:
        path = folder / "node.lock"
        self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.read(self._descriptor, 32).decode(errors="replace").strip()
            os.close(self._descriptor)
            raise InUse(f"another node (process {holder or 'unknown'}) uses {folder}") from None
        os.ftruncate(self._descriptor, 0)
        os.write(self._descriptor, b"%d\n" % os.getpid())

    def close(self) -> None:
        os.close(self._descriptor)
