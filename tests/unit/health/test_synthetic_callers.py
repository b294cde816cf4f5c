"""Who places the test calls of a node: pjsua2 where it is installed, else the built-in caller, which a line says."""

from __future__ import annotations

import asyncio
import logging
import sys
from random import Random

import pytest

from media.probe.call import Caller
from media.probe.client import ProbeCaller
from proxy.config import parse
from proxy.health.caller import BuiltInCaller
from proxy.net.asyncio_network import AsyncioNetwork
from proxy.serve import synthetic_callers


def callers(synthetic: str) -> dict[str, Caller]:
    settings = parse(
        f"""
        sip: {{listen: ["udp:127.0.44.2:5060"]}}
        media: {{address: 127.0.44.2}}
        pools: {{pbx: {{health: {{synthetic: {synthetic}}}, backends: {{as1: {{address: 127.0.44.11}}}}}}}}
        routes: [{{pool: pbx}}]
        """
    )

    async def made() -> dict[str, Caller]:
        found = synthetic_callers(settings, AsyncioNetwork(asyncio.get_running_loop()), Random(1))
        for caller in found.values():
            await caller.close()
        return found

    return asyncio.run(made())


def test_without_an_extension_there_are_none() -> None:
    assert callers("{}") == {}


def test_without_pjsua2_the_built_in_caller_takes_its_place_and_a_line_says_so(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setitem(sys.modules, "pjsua2", None)
    with caplog.at_level(logging.WARNING):
        found = callers('{extension: "600"}')
    assert isinstance(found["pjsua2"], BuiltInCaller)
    assert [record.message for record in caplog.records] == [
        "pjsua2 is not installed: synthetic calls are placed by the built-in caller"
    ]


def test_with_pjsua2_it_is_used_unless_the_pool_says_otherwise(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pjsua2", sys)  # something that is there
    assert isinstance(callers('{extension: "600"}')["pjsua2"], ProbeCaller)
    assert isinstance(callers('{extension: "600", caller: builtin}')["builtin"], BuiltInCaller)
