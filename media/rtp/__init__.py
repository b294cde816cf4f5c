"""RTP and RTCP packets, G.711, and the sounds that tests and demo callers make and listen for.

`packet` and `rtcp` are pure and import nothing heavy; `g711` and `sound` need numpy and are imported by name.
"""
