"""Backends: the telephony servers behind us, their pools, the choice of one for a call, routing to a pool."""

from proxy.backends.backend import Admin, Backend, Power, Verdict
from proxy.backends.backends import Backends
from proxy.backends.pool import Pool
from proxy.backends.router import Router

__all__ = ["Admin", "Backend", "Backends", "Pool", "Power", "Router", "Verdict"]
