"""`make soak`: ten thousand random histories, then the detector's tables; ends with 1 when one of them fails."""

from __future__ import annotations

import subprocess
import sys

RUNS = (
    ["tests.sim.explore", "--seeds", "0-10000", "--jobs", "2"],
    ["tests.sim.explore", "--seeds", "0-2000", "--jobs", "2", "--media", "rtpengine"],
    ["tests.sim.detector_tables", "--seeds", "2"],
)


def main() -> int:
    return max(subprocess.run([sys.executable, "-m", *run], check=False).returncode for run in RUNS)


if __name__ == "__main__":
    sys.exit(main())
