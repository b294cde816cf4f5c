"""SIPp as the callers and as the two far ends, on the CPU for load, without message traces."""

from __future__ import annotations

import time
from pathlib import Path

from bench.common import on_cpu
from bench.peers import LOAD_CPU, SCENARIOS, UAS, UAS_BACKUP, Server
from tests.testbed.sip_ping import Address
from tests.testbed.sipp import Sipp

RECEIVE_BUFFER = 4_000_000
HOLDER = ("127.0.5.22", 5060)
HOLD_CPS = 400
HOLD_MS = 3_600_000


def sipp(
    scenario: str,
    folder: Path,
    local: Address,
    *,
    remote: Address | None = None,
    calls: int | None = None,
    cps: int = 10,
    timeout_s: float = 60.0,
    keys: dict[str, str] | None = None,
    options: tuple[str, ...] = (),
) -> Sipp:
    """SIPp with one of the scenarios of `bench/scenarios`; `[rtp]` in its SDP is its own host if not in `keys`."""
    arguments = ["-buff_size", str(RECEIVE_BUFFER), *options]
    for key, value in {"rtp": local[0], **(keys or {})}.items():
        arguments += ["-key", key, value]
    with on_cpu(LOAD_CPU):
        return Sipp(
            SCENARIOS / f"{scenario}.xml",
            folder,
            local=local,
            remote=remote,
            calls=calls,
            rate=cps,
            timeout_s=timeout_s,
            options=arguments,
            trace_messages=False,
        )


def far_ends(folder: Path, keys: dict[str, str] | None = None) -> list[Sipp]:
    """The primary and the backup; both answer health probes."""
    ends: list[Sipp] = []
    try:
        for address in (UAS, UAS_BACKUP):
            ends.append(sipp("uas", folder, address, keys=keys))
            ends[-1].wait_ready()
    except BaseException:
        for end in ends:
            end.stop()
        raise
    return ends


def caller(
    server: Server,
    folder: Path,
    local: Address,
    cps: int,
    calls: int,
    pause_ms: int,
    keys: dict[str, str] | None = None,
) -> Sipp:
    return sipp(
        "uac",
        folder,
        local,
        remote=server.address,
        calls=calls,
        cps=cps,
        timeout_s=calls / cps * 2 + 20 + pause_ms / 1000,
        keys={"in_dialog": server.in_dialog, **(keys or {})},
        options=("-d", str(pause_ms)),
    )


def hold(server: Server, folder: Path, calls: int, keys: dict[str, str] | None = None) -> Sipp:
    """`calls` answered calls that stay up."""
    holder = caller(server, folder, HOLDER, HOLD_CPS, calls, HOLD_MS, keys)
    deadline = time.monotonic() + calls / HOLD_CPS * 2 + 20
    time.sleep(calls / HOLD_CPS + 2)
    while holder.figures().counters["answered"] < calls:
        if time.monotonic() > deadline:
            holder.stop()
            raise RuntimeError(f"{calls} calls to hold were not all answered:\n{holder.report()}")
        time.sleep(0.5)
    return holder
