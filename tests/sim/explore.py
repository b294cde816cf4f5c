"""The explorer: many random histories, one a seed; a seed that breaks a check prints how to replay it.

python -m tests.sim.explore --seeds 0-10000 --jobs 2
python -m tests.sim.explore --seeds 4711 --trace
"""

from __future__ import annotations

import argparse
import gc
import sys
import time
import traceback
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from random import Random

from tests.sim.history import History
from tests.sim.loop import VirtualLoop
from tests.sim.world import World

# Probes far apart keep a history cheap; the fast interval, which decides, is the default one.
INTERVALS_MS = (100, 500, 1000, 1000)
FLAPS_MAX = 100  # no backend is kept out for flapping: histories make them come and go as they like
RECOVERY = {"deadline_s": 60}
COUNTED = ("standbys", "standbys_lost", "bypasses", "bypasses_suspect")

Ablate = Callable[[World], None]


@dataclass
class Outcome:
    seed: int
    media: str | None = None
    violations: list[str] = field(default_factory=list)
    digest: str = ""
    trace: str = ""
    counts: Counter[str] = field(default_factory=Counter)
    deaf_s: float = 0.0

    @property
    def replay(self) -> str:
        media = f" --media {self.media}" if self.media else ""
        return f"python -m tests.sim.explore --seeds {self.seed}{media} --trace"


def explore(seed: int, ablate: Ablate | None = None, lines: int = 0, media: str | None = None) -> Outcome:
    """Run the history of one seed. `ablate` takes a safeguard out of the node once it runs; `media` is how media goes,
    if that shall not be chance."""
    outcome = Outcome(seed, media)
    rng = Random(f"{seed} history")
    loop = VirtualLoop()
    servers, mode = rng.choice((2, 2, 3)), rng.choice(("relay", "relay", "direct"))
    mode = media or mode
    health = {"interval_ms": rng.choice(INTERVALS_MS), "flaps_max": FLAPS_MAX}
    standby = {"standby": "hot"} if mode == "relay" and rng.random() < 0.4 else None
    world = World(loop, seed, servers=servers, mode=mode, health=health, recovery=RECOVERY, standby=standby)
    history: History | None = None

    async def run() -> None:
        nonlocal history
        await world.start()
        if ablate is not None:
            ablate(world)
        history = History(world, rng)
        await history.run()

    try:
        loop.run(run())
    except Exception as error:
        outcome.violations.append("".join(traceback.format_exception(error)))
    finally:
        world.stop()
    outcome.digest = world.network.trace.digest
    outcome.trace = world.network.trace.tail(lines) if lines else ""
    if history is not None:
        outcome.violations += history.checks.violations
        outcome.deaf_s = max(history.checks.deaf_s.values(), default=0.0)
        outcome.counts.update({name: world.node.calls.counts[name] for name in COUNTED})
        outcome.counts.update(calls=history.calls, answered=history.answered, faults=len(history.faults))
        outcome.counts.update({f"fault: {fault.rsplit(' ', 1)[0]}": 1 for fault in history.faults})
    outcome.counts.update(seeds=1, datagrams=world.network.trace.datagrams)
    return outcome


def seeds_of(text: str) -> range:
    first, _, last = text.partition("-")
    return range(int(first), int(last or first) + 1)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=seeds_of, default=range(100), help="first-last, or one")
    parser.add_argument(
        "--media", choices=("relay", "rtpengine", "direct"), help="without it chance decides, not rtpengine"
    )
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--trace", action="store_true", help="print the last messages of each history")
    parser.add_argument("--stop-after", type=int, default=10, help="failed seeds")
    options = parser.parse_args()
    gc.freeze()
    began = time.perf_counter()
    totals: Counter[str] = Counter()
    failed: list[Outcome] = []
    for outcome in outcomes(options.seeds, options.jobs, 2000 if options.trace else 0, options.media):
        totals += outcome.counts
        if options.trace:
            print(outcome.trace)
            print(f"seed {outcome.seed}: history {outcome.digest}, {dict(outcome.counts)}")
        if outcome.violations:
            failed.append(outcome)
            print(f"seed {outcome.seed} failed; replay: {outcome.replay}")
            for violation in outcome.violations:
                print("   ", violation)
            if len(failed) >= options.stop_after:
                break
    print(f"{totals['seeds']} seeds, {len(failed)} failed, {time.perf_counter() - began:.1f} s: {dict(totals)}")
    return 1 if failed else 0


def outcomes(seeds: range, jobs: int, lines: int, media: str | None):  # type: ignore[no-untyped-def]
    if jobs <= 1:
        for seed in seeds:
            yield explore(seed, None, lines, media)
        return
    with ProcessPoolExecutor(jobs) as pool:
        try:
            same = [[each for _ in seeds] for each in (None, lines, media)]
            yield from pool.map(explore, seeds, *same, chunksize=4)
        finally:
            pool.shutdown(cancel_futures=True)


if __name__ == "__main__":
    sys.exit(main())
