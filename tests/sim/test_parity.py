"""Parity and provisioning in virtual time: faults are named before they matter, and what is started has its files."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

from proxy.admin.orders import handlers
from proxy.backends import Power
from tests.sim.acting import all_moved
from tests.sim.power import COLD, members
from tests.sim.scenario import FIRST, SECOND, hears, play, until
from tests.sim.test_cold_standby import Stage, named, only_report
from tests.sim.world import World


def tree(folder: Path, **more: Any) -> dict[str, dict[str, Any]]:
    """Two backends with a dialplan each, the same at first, and a key that the backup needs."""
    parities = {}
    for name in ("as1", "as2"):
        (folder / name).mkdir()
        (folder / name / "extensions.conf").write_text("exten => 600,1,Echo()\n")
        (folder / name / "tls.key").write_text("key")
        files = {"extensions.conf": folder / name / "extensions.conf"}
        parities[name] = {"files": files, "required": [folder / name / "tls.key"], "interval_s": 5, **more}
    return parities


def told(world: World, word: str) -> list[str]:
    return [line for line in world.network.trace.tail(100_000).splitlines() if word in line and "log:" in line]


def test_a_differing_dialplan_and_a_missing_secret_are_told_before_they_are_needed(tmp_path: Path) -> None:
    parities = tree(tmp_path)
    backends = members({"role": "backup"})
    for name, parity in parities.items():
        backends[name]["parity"] = parity

    async def script(world: World) -> None:
        status = handlers(world.node)["status"]
        assert world.node.upkeep.parity.faults == {} and world.node.alerts.firing == {}
        (tmp_path / "as2" / "extensions.conf").write_text("exten => 600,1,Hangup()\n")
        (tmp_path / "as2" / "tls.key").unlink()
        await asyncio.sleep(5.5)
        faults = [f"{tmp_path}/as2/tls.key is missing", "extensions.conf differs from as1"]
        (as2,) = (row for row in (await status({}))["backends"] if row["name"] == "as2")
        assert as2["parity"] == faults
        (alert,) = world.node.alerts.firing.values()
        assert (alert.name, alert.labels) == ("Parity", {"backend": "as2", "pool": "pbx"})
        assert alert.summary == f"as2: parity: {'; '.join(faults)}"
        await asyncio.sleep(60.0)
        assert len(told(world, "parity: extensions.conf differs from as1")) == 1  # once, not at each look
        call = await world.place(1)
        world.network.kill(FIRST)  # the primary's checksums are known all the same
        await until(lambda: hears(call, SECOND), 5.0)
        assert "as2: parity: extensions.conf differs from as1" in [what for _, what in only_report(world).timeline]
        await asyncio.sleep(20.0)
        (tmp_path / "as2" / "extensions.conf").write_text("exten => 600,1,Echo()\n")
        (tmp_path / "as2" / "tls.key").write_text("key")
        await asyncio.sleep(5.5)
        assert world.node.upkeep.parity.faults == {} and "Parity" not in [n for n, _ in world.node.alerts.firing]

    assert play(script, standby={"backends": backends}) == []


def test_a_cold_standby_has_its_files_and_the_calls_before_it_is_started(tmp_path: Path) -> None:
    (tmp_path / "manager.in").write_text("secret = @AMI@\n")
    provision = {
        "templates": {str(tmp_path / "manager.conf"): tmp_path / "manager.in"},
        "values": {"AMI": "s3cret"},
        "status_file": tmp_path / "status.json",
    }
    stage, seen = Stage(1), []

    async def script(world: World) -> None:
        stage.drivers[1].on_boot = lambda: seen.append((tmp_path / "manager.conf").read_text())
        call = await world.place(7)
        await asyncio.sleep(3.0)
        world.network.kill(FIRST)
        await until(lambda: hears(call, SECOND), 5.0)
        assert seen == ["secret = s3cret\n"]
        status = json.loads((tmp_path / "status.json").read_text())
        (row,) = status.pop("calls")
        assert status == {"v": 1, "node": "aqueduct", "backend": "as2", "pool": "pbx"}
        assert (row["backend"], row["state"], row["bond"]) == ("as1", "talking", None) and row["talked_s"] > 2.9
        assert "sip:100@" in row["to"] and "phone0" in row["from"]

    assert play(script, prepare=stage, standby={"backends": members({**COLD, "provision": provision})}) == []


def test_one_that_cannot_be_provisioned_is_not_started_and_somebody_is_told(tmp_path: Path) -> None:
    (tmp_path / "manager.in").write_text("secret = @AMI@\n")
    provision = {"templates": {str(tmp_path / "manager.conf"): tmp_path / "manager.in"}}
    stage = Stage(1)

    async def script(world: World) -> None:
        await world.place(1)
        world.network.kill(FIRST)
        await asyncio.sleep(1.0)
        assert stage.drivers[1].orders == [] and named(world, "as2").power is Power.OFF
        why = f"as2: {tmp_path}/manager.in: no value for AMI"
        assert f"cold standby {why}" in [what for _, what in only_report(world).timeline]
        firing = {alert.name: alert.summary for alert in world.node.alerts.firing.values()}
        assert firing["StartFailed"] == why and firing["BackendDown"].startswith("as1 is down, Dead: its host says")
        (tmp_path / "manager.in").write_text("secret = none\n")
        await until(lambda: all_moved(world), 10.0)
        assert "StartFailed" not in [name for name, _ in world.node.alerts.firing]

    assert play(script, prepare=stage, standby={"backends": members({**COLD, "provision": provision})}) == []
