"""A short steady load through the proxy: nothing fails and nothing unexpected comes. Figures are for `bench/`."""

from __future__ import annotations

from pathlib import Path

from tests.sipp.pairs import Pair, wait_for_count
from tests.testbed.aqueduct import Aqueduct, settings
from tests.testbed.hosts import CALLEE, CALLER, PROXY
from tests.testbed.sipp import Sipp


def test_hundred_calls_a_second_all_go_well(tmp_path: Path) -> None:
    pair = Pair("basic", calls=1000)
    with Sipp(pair.uas, tmp_path, local=(CALLEE, 0), trace_messages=False) as uas:
        uas.wait_ready()
        with Aqueduct(settings(PROXY, {"uas": uas.local}, tmp_path), tmp_path) as proxy:
            proxy.wait_ready()
            with Sipp(
                pair.uac,
                tmp_path,
                local=(CALLER, 0),
                remote=proxy.address,
                calls=pair.calls,
                rate=100,
                options=("-d", "500"),
                trace_messages=False,
            ) as uac:
                figures = uac.finish()
            counters = wait_for_count(uas, "calls", pair.calls)
            story = f"{uac.report()}\n{uas.report()}\n{proxy.log_tail()}"
        assert (figures.successful, figures.failed, figures.unexpected) == (pair.calls, 0, 0), story
        assert counters["calls"] == pair.calls, story
        assert uas.figures().failed == 0, story
