"""Upkeep: what is done for backends as a whole, beside the calls on them: started, awaited, stopped again.

Hears what health and the failovers say, and gives orders to the drivers of `proxy.backends.power`. Calls are
moved by the failovers.
"""

from proxy.upkeep.rolling import RefusedRolling
from proxy.upkeep.rollout import Rollout
from proxy.upkeep.upkeep import Upkeep

__all__ = ["RefusedRolling", "Rollout", "Upkeep"]
