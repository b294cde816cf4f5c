"""Control sessions: what a backend says of itself over AMI, ARI or ESL, and what it can be told to do.

`api` is the one vocabulary for all three; each wire protocol has a pure codec and a session of its own.
"""
