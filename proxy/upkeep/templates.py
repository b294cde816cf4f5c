"""Files out of templates: `@NAME@` stands for the value of that name. Nothing here knows of backends.

Not `${NAME}`: dialplans are full of it. A name is of capital letters, digits and underscores, so that `@` in addresses
is left alone. Files are written whole or not at all, and not touched when they are so already.
"""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Mapping
from pathlib import Path

from proxy.config.provision import PLACE_NAME

_PLACE = re.compile(f"@({PLACE_NAME})@")
_NEW_MODE = 0o640


class TemplateError(Exception):
    """The text says which file and what is wrong with it."""


def render(text: str, values: Mapping[str, str], name: str) -> str:
    """Raises TemplateError for a place without a value."""
    unknown = sorted({match[1] for match in _PLACE.finditer(text)} - values.keys())
    if unknown:
        raise TemplateError(f"{name}: no value for {', '.join(unknown)}")
    return _PLACE.sub(lambda match: values[match[1]], text)


def write_all(templates: Mapping[str, Path], values: Mapping[str, str]) -> int:
    """Blocks. How many files have changed. All are rendered before the first is written. Raises TemplateError."""
    texts: dict[Path, str] = {}
    for target, template in templates.items():
        try:
            text = template.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise TemplateError(f"{template}: {getattr(error, 'strerror', None) or error}") from None
        texts[Path(target)] = render(text, values, str(template))
    return sum(write(path, text) for path, text in texts.items())


def write(path: Path, text: str) -> bool:
    """Blocks. False: it is so already. An existing file keeps its owner and mode; a new one belongs to the owner of its
    directory, and is for nobody but him and his group. Raises TemplateError."""
    try:
        content = text.encode()
        if path.exists() and path.read_bytes() == content:
            return False
        like = path.stat() if path.exists() else path.parent.stat()
        mode = like.st_mode & 0o7777 if path.exists() else _NEW_MODE
        descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(content)
                os.fchmod(descriptor, mode)
                if os.geteuid() == 0:
                    os.fchown(descriptor, like.st_uid, like.st_gid)
                file.flush()
                os.fsync(descriptor)
            os.replace(name, path)
        except BaseException:
            Path(name).unlink(missing_ok=True)
            raise
    except OSError as error:
        raise TemplateError(f"{path}: {error.strerror}") from None
    return True
