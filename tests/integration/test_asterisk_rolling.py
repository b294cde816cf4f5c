"""A rolling restart of three real Asterisk that share sixty calls: nobody is hung up on, each is restarted once."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from tests.integration.conftest import PRIMARY_HZ, TONE, together, until
from tests.testbed.aqueduct import ROOT, Aqueduct, settings
from tests.testbed.asterisk import ROOT_FOLDER, Asterisk
from tests.testbed.audio import share_of
from tests.testbed.hosts import BACKENDS, CALLER, PROXY, host
from tests.testbed.phone import Call, Phones

CALLS = 60
HZ = {"as1": PRIMARY_HZ, "as2": 1100, "as3": 1500}
HOSTS = (*BACKENDS, host(13))

RESTART = """#!/bin/sh
pid=$(cat {pid_file})
echo $pid >>{log}
kill -9 $pid
while [ -d /proc/$pid ] && [ "$(cut -d' ' -f3 /proc/$pid/stat)" != Z ]; do sleep 0.02; done
setsid {start} -f -n </dev/null >/dev/null 2>&1 &
"""


def power_of(asterisk: Asterisk) -> dict[str, Any]:
    """The restart is as rough as can be. With -f Asterisk writes the process number that it has into its file."""
    start = [str(part) for part in asterisk.command]
    script = asterisk.folder / "restart"
    files = {"pid_file": asterisk.folder / "run/asterisk.pid", "log": asterisk.folder / "restarts"}
    script.write_text(RESTART.format(start=shlex.join(start), **files))
    script.chmod(0o755)
    return {
        "exec": {"start": start, "stop": ["false"], "restart": [str(script)], "timeout_s": 10},
        "ready_timeout_s": 10,
    }


def pid_of(asterisk: Asterisk) -> int | None:
    with contextlib.suppress(FileNotFoundError, ValueError):
        pid = int((asterisk.folder / "run/asterisk.pid").read_text())
        if str(asterisk.folder).encode() in Path(f"/proc/{pid}/cmdline").read_bytes():
            return pid
    return None


def restarts(asterisk: Asterisk) -> int:
    log = asterisk.folder / "restarts"
    return len(log.read_text().splitlines()) if log.exists() else 0


@contextmanager
def ended_at_last(asterisk: Asterisk) -> Iterator[None]:
    """What the proxy has started is not a child of ours."""
    try:
        yield
    finally:
        pid = pid_of(asterisk)
        if pid is not None:
            os.kill(pid, signal.SIGKILL)


def start(stack: ExitStack, folder: Path) -> tuple[list[Asterisk], Aqueduct]:
    instances = [
        stack.enter_context(
            Asterisk(
                name, address, folder / name, root=ROOT_FOLDER, rtp_ports=(10000 + 2000 * place, 11999 + 2000 * place),
                tone_hz=hz,
            )
        )
        for place, ((name, hz), address) in enumerate(zip(HZ.items(), HOSTS, strict=True))
    ]  # fmt: skip
    for asterisk in instances:
        stack.enter_context(ended_at_last(asterisk))
        asterisk.wait_ready()
    configuration = settings(PROXY, {each.name: each.address for each in instances}, folder)
    for asterisk in instances:
        member = configuration["pools"]["pbx"]["backends"][asterisk.name]
        member.update({"role": "primary", "power": power_of(asterisk)})
    proxy = stack.enter_context(Aqueduct(configuration, folder))
    proxy.wait_ready()
    proxy.wait_for_backends()
    return instances, proxy


def heard_from(call: Call) -> str | None:
    """The Asterisk whose tone comes, and comes now."""
    now = asyncio.get_running_loop().time()
    if not call.heard.arrivals or now - call.heard.arrivals[-1] > 0.1:
        return None
    last = call.heard.last_half_second()
    return next((name for name, hz in HZ.items() if share_of(hz, last) > 0.9), None)


async def until_each_hears_one(calls: Sequence[Call]) -> None:
    await together(
        *(until(lambda c=call: heard_from(c) is not None, lambda c=call: f"{c.call_id} hears none") for call in calls)  # type: ignore[misc]
    )


def rolling_restart(proxy: Aqueduct, *options: str) -> tuple[int, str, str]:
    argv = [sys.executable, "-m", "proxy.cli", "rolling-restart", "pbx", *options, "-c", str(proxy.file)]
    done = subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)
    return done.returncode, done.stdout, done.stderr


async def sixty_talk_on(instances: Sequence[Asterisk], proxy: Aqueduct) -> dict[str, Any]:
    loop = asyncio.get_running_loop()
    async with Phones(CALLER) as phones:
        calls: list[Call] = [await phones.call(TONE, proxy.address) for _ in range(CALLS)]
        await until_each_hears_one(calls)
        at_first = [heard_from(call) for call in calls]
        assert {at_first.count(name) > 0 for name in HZ} == {True}, at_first
        began = loop.time()
        code, said, errors = await asyncio.to_thread(rolling_restart, proxy, "--json")
        ended = loop.time()
        assert code == 0, (said, errors)
        assert not [call for call in calls if call.ended.done()]
        await until_each_hears_one(calls)
        assert [call.requests for call in calls] == [[]] * CALLS  # nobody was bothered with SIP
        gaps_s = sorted(call.heard.longest_gap_s(began, ended) for call in calls)
        print(
            f"at first {[at_first.count(n) for n in HZ]}, then {[[heard_from(c) for c in calls].count(n) for n in HZ]}"
        )
        print(
            f"took {ended - began:.1f} s; longest gap of a call: median {gaps_s[CALLS // 2]:.3f} s, {gaps_s[-1]:.3f} s"
        )
        assert gaps_s[-1] < 1.0
        assert {await call.bye() for call in calls} == {200}
        proxy.wait_for_calls(0)
        told: dict[str, Any] = json.loads(said)
        return told


def test_sixty_calls_outlive_the_restart_of_all_three(tmp_path: Path) -> None:
    with ExitStack() as stack:
        instances, proxy = start(stack, tmp_path)
        pids = [pid_of(asterisk) for asterisk in instances]
        told = asyncio.run(sixty_talk_on(instances, proxy))
        print(*told["timeline"], sep="\n")
        assert (told["outcome"], told["reason"]) == ("done", "")
        assert [restarts(asterisk) for asterisk in instances] == [1, 1, 1]
        now = [pid_of(asterisk) for asterisk in instances]
        assert None not in now and not set(now) & set(pids)
        reports = proxy.ask("failovers")
        assert {report["cause"] for report in reports} == {"drain"}
        assert sum(report["lost"] + report["stayed"] + report["unverified"] for report in reports) == 0
        assert [row["admin"] for row in proxy.ask("status")["backends"]] == ["ready"] * 3


def test_one_that_does_not_start_again_ends_it_and_the_command_says_so(tmp_path: Path) -> None:
    with ExitStack() as stack:
        instances, proxy = start(stack, tmp_path)
        (instances[0].folder / "etc/asterisk.conf").unlink()
        code, said, _ = rolling_restart(proxy)
        print(said)
        assert code == 1 and "aborted: as1: " in said
        steps = {line.split()[0]: line for line in said.splitlines() if line.startswith("as")}
        assert "failed" in steps["as1"] and "drain, down" in steps["as1"]
        assert "not touched" in steps["as2"] and "not touched" in steps["as3"]
        assert [restarts(asterisk) for asterisk in instances] == [1, 0, 0]
        status = {row["name"]: row["admin"] for row in proxy.ask("status")["backends"]}
        assert status == {"as1": "drain", "as2": "ready", "as3": "ready"}
