"""Upkeep: what is done for backends as a whole, beside the calls on them: started, awaited, stopped again.

Hears what health and the failovers say, and gives orders to the drivers of `proxy.backends.power`. It moves no call.
"""

from proxy.upkeep.upkeep import Upkeep

__all__ = ["Upkeep"]
