"""The report of a failover for people: what was seen and decided, the sum, what was done when, and what went wrong."""

from __future__ import annotations

from typing import Any

from rich.console import Console
from rich.text import Text

from proxy.cli.tables import Column, print_table
from proxy.cli.words import clock, ms, or_dash
from proxy.text import counted


def print_report(console: Console, report: dict[str, Any], *, each_call: bool) -> None:
    console.print(Text(f"failover {report['id']}, {clock(report['time'])}", style="bold"))
    console.print(f"  {report['backend']} ({report['pool']}), {report['cause']}: {report['reason']}")
    console.print(f"  {summary(report)}")
    for at_ms, what in report["timeline"]:
        console.print(f"  {at_ms:>9.1f} ms  {what}")
    for result in report["results"]:
        if result["result"] not in ("moved", "ended"):
            lost = result["result"] == "lost"
            said = f"  call {result['call']} {result['result']}: {result['error'] or 'nobody said why'}"
            console.print(Text(said, style="red" if lost else "yellow"))
    if each_call and report["results"]:
        print_table(console, call_columns(report["results"]))


def summary(report: dict[str, Any]) -> str:
    parts = []
    if report["detection_ms"] is not None:
        parts.append(f"{ms(report['detection_ms'])} after its last sign of life")
    if not report["finished"]:
        parts.append(f"running: {len(report['results'])} of {report['planned']} done")
    done = f"{report['moved']} moved"
    if report["unverified"]:
        done += f" ({report['unverified']} without verified audio)"
    done += f", {report['lost']} lost"
    for count, what in ((report["stayed"], "stayed"), (report["ended"], "hung up meanwhile")):
        if count:
            done += f", {count} {what}"
    parts.append(done)
    if report["all_moved_ms"] is not None:
        parts.append(f"all moved after {ms(report['all_moved_ms'])}")
    for backend, ready_ms in report["started"].items():
        parts.append(f"{backend} started by us and ready after {ms(ready_ms)}")
    gap = report["gap_ms"]
    if gap["p50"] is not None:
        parts.append(f"silence p50 {ms(gap['p50'])}, p99 {ms(gap['p99'])}")
    for what, calls in report["refused"].items():
        backend, _, why = what.partition(": ")
        parts.append(f"{backend} refused {counted(calls, 'call')}: {why}")
    return "; ".join(parts)


def call_columns(results: list[dict[str, Any]]) -> list[Column]:
    heard = {True: "heard", False: "silent", None: "-"}

    def times(key: str) -> list[str]:
        return [ms(result[key]) for result in results]

    return [
        Column("call", [result["call"] for result in results]),
        Column("was", [result["kind"] for result in results], 4),
        Column("result", [result["result"] for result in results]),
        Column("backend", [or_dash(result["backend"]) for result in results]),
        Column("invited", times("sent_ms"), 2, right=True),
        Column("answered", times("answered_ms"), 3, right=True),
        Column("done", times("done_ms"), right=True),
        Column("gap", times("gap_ms"), right=True),
        Column("audio", [heard[result["audio"]] for result in results], 1),
    ]
