"""A cold standby of real Asterisk: started by the proxy when the primary dies, used when it is ready.

Asterisk daemonises when it is started without -f: the start command returns, the process goes on, as in a service.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shlex
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from tests.integration.conftest import BACKUP_HZ, PRIMARY_HZ, TONE, Site, together, until_heard
from tests.testbed import ami
from tests.testbed.aqueduct import Aqueduct, settings
from tests.testbed.asterisk import ROOT_FOLDER, Asterisk
from tests.testbed.hosts import BACKENDS, CALLER, PROXY
from tests.testbed.phone import Call, Phones

CALLS = 20


def power_of(asterisk: Asterisk) -> dict[str, Any]:
    """Commands as an operator would write them."""
    program = [str(part) for part in asterisk.command]
    said = shlex.join([*program, "-rx", "core stop now"])
    script = asterisk.folder / "stop"
    script.write_text(f"#!/bin/sh\n{said} >/dev/null 2>&1 || true\n")
    script.chmod(0o755)
    return {"exec": {"start": program, "stop": [str(script)], "timeout_s": 10}}


def pid_of(asterisk: Asterisk) -> int | None:
    """Of the daemon that the proxy has started: known by its configuration file."""
    configuration = str(asterisk.folder / "etc/asterisk.conf").encode()
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            if configuration in entry.read_bytes().split(b"\0"):
                return int(entry.parent.name)
    return None


@contextmanager
def ended_at_last(asterisk: Asterisk) -> Iterator[None]:
    """What the proxy has started is not a child of ours."""
    try:
        yield
    finally:
        pid = pid_of(asterisk)
        if pid is not None:
            os.kill(pid, signal.SIGKILL)


def cold_site(
    stack: ExitStack, folder: Path, *, each: Callable[[Asterisk], dict[str, Any]] = lambda _: {}, **pool: Any
) -> Site:
    """as1 runs; as2 has been set up, and stopped again before the proxy is started. `each` gives more settings of a
    backend, `pool` of both."""
    primary, backup = (
        stack.enter_context(Asterisk(name, host, folder / name, root=ROOT_FOLDER, rtp_ports=ports, tone_hz=hz))
        for name, host, ports, hz in (
            ("as1", BACKENDS[0], (12000, 13999), PRIMARY_HZ),
            ("as2", BACKENDS[1], (14000, 15999), BACKUP_HZ),
        )
    )
    backup.stop()
    stack.enter_context(ended_at_last(backup))
    primary.wait_ready()
    configuration = settings(PROXY, {each.name: each.address for each in (primary, backup)}, folder)
    members = configuration["pools"]["pbx"]["backends"]
    members["as2"].update({"standby": "cold", "power": power_of(backup)})
    for asterisk in (primary, backup):
        member = members[asterisk.name]
        member.update(each(asterisk))
        member["control"] = {"protocol": "ami", "user": ami.USER, "secret": ami.SECRET}
    configuration["pools"]["pbx"].update(pool)
    proxy = stack.enter_context(Aqueduct(configuration, folder))
    proxy.wait_ready()
    proxy.wait_for_backends(["as1"])
    return Site(primary, backup, proxy)


async def callers_go_on(site: Site) -> float:
    """Seconds from the fault until the last caller hears the standby."""
    async with Phones(CALLER) as phones:
        calls: list[Call] = [await phones.call(TONE, site.proxy.address) for _ in range(CALLS)]
        await together(*(until_heard(call, PRIMARY_HZ) for call in calls))
        struck_at = time.monotonic()
        site.primary.kill()
        await together(*(until_heard(call, BACKUP_HZ, 20.0) for call in calls))
        passed_s = time.monotonic() - struck_at
        assert not [call for call in calls if call.ended.done()]
        assert {await call.bye() for call in calls} == {200}
        return passed_s


def test_a_cold_asterisk_is_started_and_takes_the_calls(tmp_path: Path) -> None:
    with ExitStack() as stack:
        site = cold_site(stack, tmp_path)
        assert pid_of(site.backup) is None
        passed_s = asyncio.run(callers_go_on(site))
        (report,) = site.proxy.ask("failovers")
        assert (report["backend"], report["moved"], report["lost"]) == ("as1", CALLS, 0)
        ready_ms = report["started"]["as2"]
        assert 0 < ready_ms < report["all_moved_ms"]
        text = site.proxy.order("failovers")
        assert "as2 started by us and ready after" in text and "all moved after" in text
        print(f"{text}\nthe last caller heard the standby {passed_s:.2f} s after the kill")


def test_a_backup_with_another_dialplan_and_without_a_secret_is_told_of_while_all_is_well(tmp_path: Path) -> None:
    """Nothing has failed yet; the backup is off."""

    def parity(asterisk: Asterisk) -> dict[str, Any]:
        folder = asterisk.folder / "etc"
        files = {name: str(folder / name) for name in ("extensions.conf", "confbridge.conf")}
        return {"parity": {"files": files, "required": [str(folder / "licence.key")], "interval_s": 0.5}}

    with ExitStack() as stack:
        site = cold_site(stack, tmp_path, each=parity)
        for asterisk in (site.primary, site.backup):
            (asterisk.folder / "etc/licence.key").write_text("x")
        wait_for_parity(site, {"as1": [], "as2": ["extensions.conf differs from as1"]})  # it plays another tone
        dialplan = site.backup.folder / "etc/extensions.conf"
        shutil.copy(site.primary.folder / "etc/extensions.conf", dialplan)
        wait_for_parity(site, {"as1": [], "as2": []})
        dialplan.write_text(dialplan.read_text() + "\n; somebody was here\n")
        (site.backup.folder / "etc/licence.key").unlink()
        faults = [f"{site.backup.folder}/etc/licence.key is missing", "extensions.conf differs from as1"]
        wait_for_parity(site, {"as1": [], "as2": faults})
        assert "as2: parity: extensions.conf differs from as1\n" in site.proxy.order("status")
        assert site.proxy.ask("failovers") == []
        (alert,) = site.proxy.ask("status")["alerts"]["firing"]
        assert (alert["labels"]["alertname"], alert["labels"]["backend"]) == ("Parity", "as2")


def wait_for_parity(site: Site, faults: dict[str, list[str]], timeout_s: float = 10.0) -> None:
    end = time.monotonic() + timeout_s
    while (there := {row["name"]: row["parity"] for row in site.proxy.ask("status")["backends"]}) != faults:
        assert time.monotonic() < end, there
        time.sleep(0.1)
