"""Sockets and timers: the one room that touches them, behind ports that a simulation implements too."""
