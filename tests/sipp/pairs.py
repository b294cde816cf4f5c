"""The scenario pairs of `sipp-scenarios/` and how each is run: one list, for the direct runs and for the proxy."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.testbed.hosts import CALLEE, CALLER
from tests.testbed.process import Process
from tests.testbed.sip_ping import Address
from tests.testbed.sipp import Sipp, SippFigures


@dataclass(frozen=True)
class Pair:
    """`uac_NAME.xml` against `uas_NAME.xml` (or `callee`), with the SIPp options that its comment asks for."""

    name: str
    calls: int = 5
    callee: str = ""
    caller_options: tuple[str, ...] = ()
    callee_options: tuple[str, ...] = ()
    lossy: bool = False  # messages come again, also after the end of a call

    @property
    def uac(self) -> str:
        return f"uac_{self.name}"

    @property
    def uas(self) -> str:
        return f"uas_{self.callee or self.name}"


PAIRS = (
    Pair("basic", calls=20, caller_options=("-d", "100")),
    Pair("late_offer"),
    Pair("early_media"),
    Pair("cancel"),
    Pair("cancel_race"),
    Pair("cancel_after_answer"),
    Pair("busy"),
    Pair("no_answer"),
    Pair("hold_caller"),
    Pair("hold_callee"),
    Pair("update"),
    Pair("prack"),
    Pair("session_timer_422"),
    Pair("session_timer_invite"),
    Pair("session_timer_update"),
    Pair("refer"),
    Pair("info_dtmf"),
    Pair("redirect"),
    Pair("bye_callee"),
    Pair("ack_wrong_cseq"),
    Pair("lost_200", caller_options=("-nr",), lossy=True),
    Pair("lost_ack", callee_options=("-nr",), lossy=True),
    Pair(
        "loss",
        calls=30,
        caller_options=("-max_retrans", "10"),
        callee_options=("-max_retrans", "10"),
        lossy=True,
    ),
    Pair("long_headers"),
    Pair("compact"),
    Pair("hold_long", callee="answer", caller_options=("-d", "1000")),
    Pair("reinvite_answerer", caller_options=("-recv_timeout", "1500")),
    Pair("reinvite_491", caller_options=("-recv_timeout", "3000")),
)
TCP_PAIRS = tuple(pair for pair in PAIRS if pair.name in ("basic", "hold_caller", "cancel", "long_headers"))


@contextmanager
def callee(pair: Pair, folder: Path, transport: str = "u1") -> Iterator[Sipp]:
    with Sipp(pair.uas, folder, local=(CALLEE, 0), transport=transport, options=pair.callee_options) as uas:
        uas.wait_ready()
        yield uas


def call(pair: Pair, folder: Path, remote: Address, transport: str = "u1") -> tuple[Sipp, SippFigures]:
    """Run the caller to its end."""
    with Sipp(
        pair.uac,
        folder,
        local=(CALLER, 0),
        remote=remote,
        calls=pair.calls,
        rate=20,
        transport=transport,
        timeout_s=45,
        options=pair.caller_options,
    ) as uac:
        return uac, uac.finish()


def wait_for_count(uas: Sipp, counter: str, count: int, timeout_s: float = 3.0) -> Mapping[str, int]:
    """The callee's counters, once `counter` has come to `count` (its figures are a second old at worst)."""
    end = time.monotonic() + timeout_s
    while (counters := uas.figures().counters).get(counter) != count and time.monotonic() < end:
        time.sleep(0.1)
    return counters


def assert_clean(pair: Pair, uac: Sipp, figures: SippFigures, uas: Sipp, *others: Process) -> None:
    """Every call of the pair went as written on both sides, and nothing came that belonged to no call."""
    if pair.lossy:  # such a callee stays on for repeated requests, and would not end by itself
        wait_for_count(uas, "calls", pair.calls)
    uas.stop()
    answered = uas.figures()
    story = "\n".join([uac.report(), uas.report(), *(f"{other.log}:\n{other.log_tail()}" for other in others)])
    assert figures.successful == pair.calls, story
    assert (figures.failed, figures.unexpected) == (0, 0), story
    assert (answered.failed, answered.unexpected) == (0, 0), story
    assert answered.counters["calls"] == pair.calls, story
    if not pair.lossy:
        assert (figures.out_of_call, figures.after_end, answered.after_end) == (0, 0, 0), story
