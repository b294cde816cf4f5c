"""Files of ours appear under their names when they are complete, and never half."""

from __future__ import annotations

import os
from pathlib import Path


def write(file: Path, data: bytes) -> None:
    """The file is there as a whole or, if this fails, as it was. Raises OSError."""
    beside = file.with_name(f".{file.name}.new")
    try:
        with beside.open("wb") as target:
            target.write(data)
            target.flush()
            os.fsync(target.fileno())
        if file.exists():  # who may read it stays the same
            state = file.stat()
            os.chmod(beside, state.st_mode & 0o7777)
            if os.geteuid() == 0:
                os.chown(beside, state.st_uid, state.st_gid)
        beside.replace(file)
    finally:
        beside.unlink(missing_ok=True)
