"""Synthetic calls to real Asterisk, by both callers: dead media behind living SIP is found, named and forgiven."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.integration.conftest import Site, start_site
from tests.testbed.pjsua2 import unavailable

# The extension echoes, unless it is told to be deaf: then packets come, and nothing of ours is in them.
EXTENSIONS = """
[app](+)
exten => probe,1,Answer()
 same => n,ExecIf($["${DEAF}" = "yes"]?Wait(60))
 same => n,Echo()
"""
needs_pjsua2 = pytest.mark.skipif(unavailable() is not None, reason=str(unavailable()))


@pytest.fixture(params=[pytest.param("pjsua2", marks=needs_pjsua2), "builtin"])
def probed(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Site]:
    synthetic = {"extension": "probe", "interval_s": 1, "deadline_ms": 500, "listen_ms": 200, "caller": request.param}
    with ExitStack() as stack:
        yield start_site(
            stack, tmp_path, pool={"health": {"synthetic": synthetic}}, additions={"extensions.conf": EXTENSIONS}
        )


def until(site: Site, condition: Callable[[dict[str, Any]], bool], within_s: float = 10.0) -> dict[str, Any]:
    """What is known of the primary when the condition holds."""
    end = time.monotonic() + within_s
    while True:
        row = next(each for each in site.proxy.ask("status")["backends"] if each["name"] == "as1")
        if condition(row):
            return row
        assert time.monotonic() < end, row
        time.sleep(0.1)


def test_dead_media_behind_a_living_sip_stack_is_found_and_its_return_too(probed: Site) -> None:
    row = until(probed, lambda row: row["synthetic"]["heard"] >= 2)
    assert row["verdict"] == "up"
    assert row["synthetic"]["setup_ms"] < 500 and row["synthetic"]["silence_ms"] < 500
    assert row["synthetic"]["gap_ms"] < 200

    probed.primary.cli("dialplan set global DEAF yes")
    row = until(probed, lambda row: row["verdict"] == "degraded")
    assert row["diagnosis"] == "MediaDead"
    assert "packets came without the tone" in row["synthetic"]["last"]
    assert row["evidence"].get("options_timeout", 0) == 0

    probed.primary.cli("dialplan set global DEAF no")
    until(probed, lambda row: row["verdict"] == "up")


def test_the_calls_leave_nothing_behind(probed: Site) -> None:
    until(probed, lambda row: row["synthetic"]["heard"] >= 3)
    assert probed.proxy.stop() == 0
    end = time.monotonic() + 5
    while probed.primary.channels() or probed.backup.channels():
        assert time.monotonic() < end
        time.sleep(0.1)
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            command = entry.read_bytes()
        except OSError:
            continue
        assert b"media.probe" not in command or probed.proxy.address[0].encode() not in command, command
