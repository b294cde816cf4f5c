"""The embedded relay: a process of its own that forwards RTP and RTCP, and the plane that drives it.

`relay`, `line`, `stream`, `sinks`, `latch`, `ports`, `control`, `liveness`, `pace`, `comfort` and `mixer` run in the
relay process (`python -m media.relay`); `client`, `sessions`, `session`, `joined` and `link` in the proxy. They share
`protocol` only. The relay knows *lines* (a pair of
sockets, RTP and RTCP, for one media line of one leg) and which line feeds which; sessions, legs and SDP exist in
the client alone, which can therefore build a relay that died anew, or take up one that outlived its proxy.
"""
