"""Checksums of what a backend runs on: of files here, or as a command or a URL tells them; and what must be there.

Each way gives the same: SHA-256 by name. What cannot be had is a complaint, never an exception.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass, field
from pathlib import Path

from proxy.aside import Aside
from proxy.backends.power.command import CommandError, run
from proxy.config import ParitySettings
from proxy.net.http import HttpClient, HttpError

OUTPUT_BYTES_MAX = 1 << 20
_LINE = re.compile(r"^([0-9a-f]{64}) [ *](.+)$")


@dataclass(slots=True)
class Look:
    """What was seen of one backend."""

    sums: dict[str, str] = field(default_factory=dict)
    complaints: list[str] = field(default_factory=list)
    complete: bool = True  # what is not in `sums` is not there


async def look(settings: ParitySettings, http: HttpClient | None, aside: Aside) -> Look:
    seen = await aside(lambda: _files(settings))
    if settings.command is not None:
        await _command(settings, seen)
    if settings.url is not None and http is not None:
        await _url(settings, settings.url, http, seen)
    return seen


def _files(settings: ParitySettings) -> Look:
    """Blocks."""
    seen = Look()
    for name, path in settings.files.items():
        try:
            with open(path, "rb") as file:
                seen.sums[name] = hashlib.file_digest(file, "sha256").hexdigest()
        except FileNotFoundError:
            continue  # the comparison says so
        except OSError as error:
            seen.complaints.append(f"{name} cannot be read: {error.strerror}")
    for path in settings.required:
        complaint = _absent(path)
        if complaint:
            seen.complaints.append(f"{path} {complaint}")
    return seen


def _absent(path: Path) -> str:
    try:
        with open(path, "rb") as file:
            return "" if file.read(1) else "is empty"
    except FileNotFoundError:
        return "is missing"
    except OSError as error:
        return f"cannot be read: {error.strerror}"


async def _command(settings: ParitySettings, seen: Look) -> None:
    assert settings.command is not None
    try:
        done = await run(settings.command, {}, settings.timeout_s, OUTPUT_BYTES_MAX)
    except CommandError as error:
        _unknown(seen, str(error))
        return
    sums = parse(done.output)
    seen.sums.update(sums)
    if done.code and not sums:  # sha256sum ends with 1 when one of many files is missing
        _unknown(seen, f"{settings.command[0]} ended with {done.code}: {done.last_line}")


async def _url(settings: ParitySettings, url: str, http: HttpClient, seen: Look) -> None:
    try:
        answer = await http.request("GET", url, timeout_s=settings.timeout_s)
    except HttpError as error:
        _unknown(seen, f"{url}: {error}")
        return
    if answer.ok:
        seen.sums.update(parse(answer.text))
    else:
        _unknown(seen, f"{url} answered {answer}")


def _unknown(seen: Look, why: str) -> None:
    seen.complete = False
    seen.complaints.append(f"checksums cannot be had: {why}")


def parse(text: str) -> dict[str, str]:
    """Of lines as sha256sum prints them; others are left out."""
    found = (_LINE.match(line) for line in text.splitlines())
    return {match[2]: match[1] for match in found if match is not None}


def differences(sums: dict[str, str], seen: Look, of: str) -> list[str]:
    """What of `seen` is not as on the backend called `of`, which has `sums`."""
    told = []
    for name, checksum in sorted(sums.items()):
        mine = seen.sums.get(name)
        if mine is None:
            if seen.complete and not any(each.startswith(f"{name} ") for each in seen.complaints):
                told.append(f"{name} is missing ({of} has it)")
        elif mine != checksum:
            told.append(f"{name} differs from {of}")
    told += [f"{name} is not on {of}" for name in sorted(seen.sums.keys() - sums.keys())]
    return told
