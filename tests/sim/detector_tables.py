"""The tables of docs/diagnoses.md: false alarms of simulated days, and detection times.

`python -m tests.sim.detector_tables` prints them; `--help` says what it takes. It fails when there was a false alarm.
"""

from __future__ import annotations

import argparse
import logging
import multiprocessing
import sys
from multiprocessing.pool import Pool

from proxy.backends import Verdict
from proxy.health import Evidence
from tests.sim.detector_model import WEATHERS, Run, detection_ms

FAULTS: dict[str, tuple[str, int | None]] = {
    "killed": ("killed", None),
    "killed, one ICMP error comes back": ("killed", 1),
    "killed, no ICMP error comes back": ("killed", 0),
    "stopped": ("stopped", None),
    "cut off": ("cut", None),
}


def _alarms(job: tuple[str, float, int, int]) -> tuple[str, int, int, float, list[str]]:
    name, hours, seed, backends = job
    run = Run(WEATHERS[name], seed, hours * 3600, backends)
    run.world.run(hours * 3600)
    assert not run.world.exceptions, run.world.exceptions
    alarms = [f"seed {seed} t={e.at:.3f} {e.backend.name} {e.reason}" for e in run.false_alarms()]
    probes = 0
    needed = 0.0
    for backend in run.backends:
        counts = run.health.explain(backend)["evidence"]
        probes += counts.get(str(Evidence.OPTIONS_OK), 0) + counts.get(str(Evidence.OPTIONS_TIMEOUT), 0)
        needed = max(needed, run.health.explain(backend)["silence_needed_ms"])
    suspects = sum(event.verdict is Verdict.SUSPECT for event in run.events)
    return name, probes, suspects, needed, alarms


def _detections(job: tuple[str, str, float, range]) -> list[float]:
    name, fault, warm_s, seeds = job
    host, icmp = FAULTS[fault]
    return [detection_ms(WEATHERS[name], host, seed, warm_s, icmp) for seed in seeds]


def main() -> int:
    parser = argparse.ArgumentParser(description="False alarms and detection times of the health detector.")
    parser.add_argument("--hours", type=float, default=24.0, help="simulated hours of each weather and seed")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--trials", type=int, default=200, help="deaths for each row of detection times")
    parser.add_argument("--jobs", type=int, default=multiprocessing.cpu_count())
    options = parser.parse_args()
    logging.disable()
    with multiprocessing.Pool(options.jobs) as pool:
        alarms = _print_alarms(pool, options.hours, options.seeds)
        _print_detections(pool, options.trials)
    return 1 if alarms else 0


def _print_alarms(pool: Pool, hours: float, seeds: int) -> int:
    print(
        "| weather | simulated h | probes answered or missed | suspect | silence needed at the end | down by mistake |"
    )
    print("|---|---|---|---|---|---|")
    jobs = [(name, hours, seed, 2) for name in WEATHERS for seed in range(seeds)]
    results = pool.map(_alarms, jobs, chunksize=1)
    total = 0
    for name in WEATHERS:
        mine = [result for result in results if result[0] == name]
        probes, suspects, needed = sum(r[1] for r in mine), sum(r[2] for r in mine), max(r[3] for r in mine)
        alarms = [alarm for r in mine for alarm in r[4]]
        total += len(alarms)
        print(f"| {name} | {hours * seeds:g} | {probes:,} | {suspects:,} | {needed:.0f} ms | {len(alarms)} |")
        for alarm in alarms:
            print("  !", alarm)
    return total


def _print_detections(pool: Pool, trials: int) -> None:
    print("\n| fault | weather | backend known for | p50 ms | p99 ms | max ms |\n|---|---|---|---|---|---|")
    clean, lossy, bursts, jitter = list(WEATHERS)[:4]
    for fault in FAULTS:
        for name, warm_s in ((clean, 120.0), (clean, 2.0), (lossy, 120.0), (bursts, 120.0), (jitter, 120.0)):
            seeds = [range(first, min(first + 20, trials)) for first in range(0, trials, 20)]
            parts = pool.map(_detections, [(name, fault, warm_s, some) for some in seeds])
            times = sorted(time for part in parts for time in part)
            p50, p99 = times[len(times) // 2], times[min(len(times) - 1, int(len(times) * 0.99))]
            print(f"| {fault} | {name} | {warm_s:g} s | {p50:.0f} | {p99:.0f} | {times[-1]:.0f} |")


if __name__ == "__main__":
    sys.exit(main())
