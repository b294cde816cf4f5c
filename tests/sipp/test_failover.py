"""A SIPp backend is killed under live SIPp calls: all of them go on at the other backend.

In anchored mode a caller must notice nothing: any message during the call fails its scenario. In direct mode it must be
re-INVITEd, and a refusal with 491 must not lose it.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.sipp.pairs import wait_for_count
from tests.testbed.aqueduct import Aqueduct, settings
from tests.testbed.hosts import BACKENDS, CALLER, PROXY
from tests.testbed.process import Process
from tests.testbed.sipp import Sipp

CALLS = 60


ANCHORED = ("uac_hold_long", ("-d", "6000"), "relay")
DIRECT = ("uac_reinvite_answerer", ("-recv_timeout", "4000"), "direct")
DIRECT_491 = ("uac_reinvite_491", ("-recv_timeout", "4000"), "direct")


@pytest.mark.parametrize(
    ("fault", "callers"),
    [
        pytest.param(Process.kill, ANCHORED, id="killed-anchored"),
        pytest.param(Process.freeze, ANCHORED, id="frozen-anchored"),
        pytest.param(Process.kill, DIRECT, id="killed-direct"),
        pytest.param(Process.freeze, DIRECT, id="frozen-direct"),
        pytest.param(Process.kill, DIRECT_491, id="killed-direct-491"),
    ],
)
def test_all_calls_go_on_at_the_backup(
    tmp_path: Path, fault: Callable[[Process], None], callers: tuple[str, tuple[str, ...], str]
) -> None:
    scenario, options, media = callers
    with (
        Sipp("uas_answer", tmp_path, local=(BACKENDS[0], 0)) as primary,
        Sipp("uas_answer", tmp_path, local=(BACKENDS[1], 0)) as backup,
    ):
        primary.wait_ready()
        backup.wait_ready()
        configuration = settings(PROXY, {"one": primary.local, "two": backup.local}, tmp_path, media=media)
        with Aqueduct(configuration, tmp_path) as proxy:
            proxy.wait_ready()
            proxy.wait_for_backends()
            with Sipp(
                scenario, tmp_path, local=(CALLER, 0), remote=proxy.address, calls=CALLS, rate=60, options=options
            ) as caller:
                proxy.wait_for_calls(CALLS)
                fault(primary)
                figures = caller.finish()
            proxy.wait_for_calls(0)
            counters = wait_for_count(backup, "calls", CALLS)
            story = f"{caller.report()}\n{backup.report()}\n{proxy.log_tail(8000)}"
            assert (figures.successful, figures.failed, figures.unexpected) == (CALLS, 0, 0), story
            assert counters["calls"] == CALLS, story  # each was hung up at the backup
            assert backup.figures().failed == 0, story
            if media == "direct":
                assert figures.counters["reinvites"] >= CALLS, story
