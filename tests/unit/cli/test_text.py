"""What an operator reads: complete in a pipe, readable at 80 columns, no `None`, times of day and of calls."""

from __future__ import annotations

import io
import subprocess
import sys
from typing import Any

import pytest
from rich.console import Console

from proxy.cli.look import backend_columns, call_columns, relay_line, verdict_of
from proxy.cli.reports import print_report
from proxy.cli.tables import Column, print_table
from proxy.cli.words import lasting, ms, number_of
from proxy.failover.report import LOST, MOVED, STAYED, CallResult, Report

CALL: dict[str, Any] = {
    "id": "8ebbef3fc3221851", "state": "talking", "on_hold": False, "age_s": 3725.4, "media": "relay",
    "from": '"Phone of a long name" <sip:+4930123456789@phones.example.com>;tag=8', "to": "<sip:600@192.0.2.1>",
    "legs": [
        {"name": "a", "peer": "[2001:db8::1234:5678]:49152", "backend": None},
        {"name": "b1", "peer": "192.0.2.11:5060", "backend": "asterisk-frankfurt-1"},
    ],
}  # fmt: skip


def console(width: int | None) -> Console:
    """A terminal so wide; None: a pipe."""
    return Console(
        file=io.StringIO(), force_terminal=width is not None, width=width or 80, soft_wrap=True, no_color=True
    )


def printed(console: Console) -> list[str]:
    assert isinstance(console.file, io.StringIO)
    text = console.file.getvalue().replace("\x1b[1m", "").replace("\x1b[2m", "").replace("\x1b[0m", "")
    return text.splitlines()


def test_calls_are_whole_in_a_pipe_and_fit_a_terminal() -> None:
    pipe, terminal = console(None), console(80)
    for each in (pipe, terminal):
        print_table(each, list(call_columns([CALL] * 2)))
    assert printed(pipe)[1].split() == [
        "8ebbef3fc3221851", "talking", "+4930123456789", "600", "1:02:05", "asterisk-frankfurt-1", "relay",
        "[2001:db8::1234:5678]:49152",
    ]  # fmt: skip
    assert max(map(len, printed(terminal))) <= 80
    assert printed(terminal)[1].split()[:6] == printed(pipe)[1].split()[:6]
    assert printed(terminal)[-1] == "(no room for: media, caller)"


def test_what_cannot_be_left_out_is_not_cut_either() -> None:
    narrow = console(10)
    print_table(narrow, [Column("a", ["x" * 12]), Column("b", ["y"], 1)])
    assert printed(narrow)[1] == "x" * 12


@pytest.mark.parametrize(
    ("address", "number"),
    [
        ('"Anna, B." <sip:100@192.0.2.1;user=phone>;tag=1', "100"),
        ("<sip:192.0.2.1:5070>;tag=3", "192.0.2.1:5070"),
        ("sip:+49301;phone-context=x@host;tag=2", "+49301"),
        ("<tel:+49301>", "+49301"),
        ("<sips:bob@[2001:db8::1]:5061>", "bob"),
    ],
)
def test_a_party_is_shown_by_its_bare_number(address: str, number: str) -> None:
    assert number_of(address) == number


def test_times_are_said_as_people_say_them() -> None:
    assert [ms(value) for value in (None, 0.4, 9.96, 12.3, 999.0, 10_300.0)] == [
        "-", "0.4 ms", "10.0 ms", "12 ms", "999 ms", "10.3 s"
    ]  # fmt: skip
    assert [lasting(value) for value in (7, 761, 11109, 183909)] == ["0:07", "12:41", "3:05:09", "2 days 3:05:09"]


def report(*results: CallResult, **values: Any) -> dict[str, Any]:
    made = Report(3, "Dead", "as1", "pbx", "refused", 100.0, None, [], max(3, len(results)), **values)
    made.results += results
    return made.as_dict() | {"time": "2026-02-03T14:05:06.789+01:00"}


def text(report: dict[str, Any], *, each_call: bool = False) -> str:
    pipe = console(None)
    print_report(pipe, report, each_call=each_call)
    return "\n".join(printed(pipe))


def test_a_report_says_when_and_what_and_never_none() -> None:
    refused = {"as2: 486 Busy Here": {"x", "y"}}
    results = (
        CallResult("x", "talking", MOVED, "as2", audio=False, done_ms=12.0),
        CallResult("y", "held", LOST, error="no"),
    )
    said = text(report(*results, finished=True, refused=refused))
    assert "failover 3, 2026-02-03 14:05:06.789" in said
    assert (
        "1 moved (1 without verified audio), 1 lost; all moved after 12 ms; as2 refused 2 calls: 486 Busy Here" in said
    )
    assert "call y lost: no" in said
    assert "None" not in said
    assert "None" not in text(report(finished=True), each_call=True)


def test_a_report_that_is_not_complete_says_so() -> None:
    assert "running: 1 of 3 done; 1 moved, 0 lost" in text(report(CallResult("x", "talking", MOVED)))


def test_calls_that_stayed_are_not_lost() -> None:
    said = text(report(CallResult("x", "talking", STAYED, error="no backup answered"), finished=True))
    assert "0 moved, 0 lost, 1 stayed" in said and "call x stayed: no backup answered" in said


def test_each_call_has_its_times_when_asked_for() -> None:
    result = CallResult("x", "talking", MOVED, "as2", 1, 1.2, 30.4, 31.0, True, 80.0)
    assert "x     talking  moved   as2       1.2 ms     30 ms  31 ms  80 ms  heard" in text(
        report(result, finished=True), each_call=True
    )
    assert "heard" not in text(report(result, finished=True))


def test_a_backend_that_never_answered_has_no_round_trip_time() -> None:
    row = {"name": "as1", "pool": "p", "role": "primary", "admin": "ready", "verdict": "unknown", "fenced": False}
    row["power"] = "on"
    columns = {
        column.name: column.cells for column in backend_columns([row | {"calls": 0, "rtt_ms": None, "address": "x"}])
    }
    assert columns["rtt ms"] == ["-"]


def test_the_relay_has_its_line() -> None:
    relay = {"pid": 7, "sessions": 1, "lines": 2, "packets": 1, "restarts": 0}
    assert relay_line(relay) == "relay: process 7, 1 session, 2 lines, 1 packet"
    assert relay_line(relay | {"restarts": 2}).endswith(", 2 restarts")
    assert relay_line({"down": "no"}) == "relay: down, no"


INTERRUPTED = """
import sys, importlib.abc
class Interrupt(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path, target=None):
        if name == "proxy.config":
            raise KeyboardInterrupt
sys.meta_path.insert(0, Interrupt())
from proxy.cli import main
main()
"""


def test_ctrl_c_while_it_loads_leaves_no_trace() -> None:
    done = subprocess.run([sys.executable, "-c", INTERRUPTED], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (130, "")


@pytest.mark.parametrize(
    ("power", "told"), [("on", "down fenced"), ("starting", "down starting fenced"), ("off", "off")]
)
def test_the_verdict_says_who_is_off_and_who_is_being_started(power: str, told: str) -> None:
    assert verdict_of({"verdict": "down", "power": power, "fenced": True}) == told
