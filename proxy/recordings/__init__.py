"""Recordings over the death of the backend that wrote them: nothing spoken is missing, and they are one thing.

A backend that is killed leaves a file without its last seconds (they were in a buffer of its process) and with a wrong
header; the backup begins another file. The relay has kept what was said meanwhile: `repair` completes the file and
fills the time until the next one began, `manifest` says what belongs together, and `join` makes one file of it.

Heavy work (numpy) is done in a process of its own, `worker`.
"""

from proxy.recordings.recording import Repair
from proxy.recordings.recordings import Recordings
from proxy.recordings.rosters import follow

__all__ = ["Recordings", "Repair", "follow"]
