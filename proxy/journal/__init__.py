"""The journal of live calls: written while they talk, taken up by the next process."""

from proxy.journal.journal import Journal

__all__ = ["Journal"]
