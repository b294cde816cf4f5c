"""Child processes of a test run are those of the demo: they die with their parent, can be killed, frozen, thawed."""

from proxy.demo.process import Process

__all__ = ["Process"]
