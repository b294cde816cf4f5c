"""The tables of docs/diagnoses.md about streams: false alarms of simulated days, and detection times.

`python -m tests.sim.flows_tables` prints them (24 hours of each weather and number of streams: some minutes each;
`--help` names shorter ways). It fails when there were more false alarms than `ALLOWED_PER_DAY`.
"""

from __future__ import annotations

import argparse
import logging
import multiprocessing
import sys
from multiprocessing.pool import Pool

from proxy.backends import Verdict
from tests.sim.detector_model import Run
from tests.sim.flows_model import COUNTS, FLOW_WEATHERS, Streams, flow_detection_ms

ALLOWED_PER_DAY = {name: 2.0 if "bursts" in name else 0.0 for name in FLOW_WEATHERS}

Figures = tuple[int, int, int, list[str]]  # silences told, suspect, silence needed at the end, false alarms


def _alarms(job: tuple[str, int, float, int]) -> tuple[str, int, Figures]:
    name, count, hours, seed = job
    run = Run(FLOW_WEATHERS[name], seed, hours * 3600)
    run.world.run(1.0)
    streams = Streams(run, "as1", count, begins=1.0)
    run.world.run(hours * 3600)
    assert not run.world.exceptions, run.world.exceptions
    alarms = [f"seed {seed} t={e.at:.3f} {e.backend.name} {e.reason}" for e in run.false_alarms()]
    suspects = sum(event.verdict is Verdict.SUSPECT for event in run.events)
    needed = run.health.explain(next(iter(run.backends)))["rtp_silence_needed_ms"]
    return name, count, (streams.told, suspects, needed, alarms)


def _detections(job: tuple[str, int, str, range]) -> list[tuple[float, float]]:
    name, count, fault, seeds = job
    return [flow_detection_ms(FLOW_WEATHERS[name], count, fault, seed) for seed in seeds]


def main() -> int:
    parser = argparse.ArgumentParser(description="False alarms and detection times with RTP.")
    parser.add_argument("--hours", type=float, default=24.0, help="simulated hours of each weather, number and seed")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--weather", default="", help="only those whose name has this in it")
    parser.add_argument("--trials", type=int, default=100, help="deaths for each row of detection times")
    parser.add_argument("--jobs", type=int, default=multiprocessing.cpu_count())
    options = parser.parse_args()
    logging.disable()
    names = [name for name in FLOW_WEATHERS if options.weather in name]
    with multiprocessing.Pool(options.jobs) as pool:
        too_many = _print_alarms(pool, names, options.hours, options.seeds)
        _print_detections(pool, names, options.trials)
    return 1 if too_many else 0


def _print_alarms(pool: Pool, names: list[str], hours: float, seeds: int) -> bool:
    print("| weather | streams | simulated h | silences told | suspect | silence needed at the end | down by mistake |")
    print("|---|---|---|---|---|---|---|")
    jobs = [(name, count, hours, seed) for name in names for count in COUNTS for seed in range(seeds)]
    too_many = False
    results: dict[tuple[str, int], list[Figures]] = {}
    for name, count, figures in pool.imap(_alarms, jobs):
        mine = results.setdefault((name, count), [])
        mine.append(figures)
        if len(mine) < seeds:
            continue
        told, suspects, needed = sum(r[0] for r in mine), sum(r[1] for r in mine), max(r[2] for r in mine)
        alarms = [alarm for r in mine for alarm in r[3]]
        too_many = too_many or len(alarms) > ALLOWED_PER_DAY[name] * hours * seeds / 24
        row = f"{name} | {count} | {hours * seeds:g} | {told:,} | {suspects:,} | {needed} ms | {len(alarms)}"
        print(f"| {row} |", flush=True)
        for alarm in alarms:
            print("  !", alarm)
    return too_many


def _print_detections(pool: Pool, names: list[str], trials: int) -> None:
    print("\n| fault | weather | streams | suspect p50 / p99 ms | down p50 / p99 / max ms |\n|---|---|---|---|---|")
    for fault in ("stopped", "cut"):
        for name in names:
            for count in (2, 10, 50):
                seeds = [range(first, min(first + 10, trials)) for first in range(0, trials, 10)]
                parts = pool.map(_detections, [(name, count, fault, some) for some in seeds])
                suspect, down = (
                    sorted(times) for times in zip(*[each for part in parts for each in part], strict=True)
                )
                half, most = len(down) // 2, min(len(down) - 1, int(len(down) * 0.99))
                print(
                    f"| {fault} | {name} | {count} | {suspect[half]:.0f} / {suspect[most]:.0f} |"
                    f" {down[half]:.0f} / {down[most]:.0f} / {down[-1]:.0f} |",
                    flush=True,
                )


if __name__ == "__main__":
    sys.exit(main())
