"""Calls: a call is an A-leg, a B-leg and a media session; what crosses between them, and how a call ends."""

from proxy.calls.call import ENDED, RINGING, TALKING, Call
from proxy.calls.calls import Calls
from proxy.calls.leg import Leg

__all__ = ["ENDED", "RINGING", "TALKING", "Call", "Calls", "Leg"]
