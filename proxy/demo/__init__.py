"""A trial of the proxy on one machine: two backends, callers with real RTP, and a backend that is killed.

`backend` is the reference backend, `callers` the callers, each a process of its own; `asterisk` runs real Asterisk
instead. `demo` is the story of `aqueduct demo`; tests and benchmarks use the same parts. Nothing here is ever on a
production path.
"""
