"""Evidence: everything that health can be told about a backend. A closed vocabulary.

OPTIONS and ICMP evidence comes from the probes of this room, live evidence from the calls. The media, control and
synthetic kinds are the doors for the RTP watch, the control sessions and the synthetic calls.
"""

from __future__ import annotations

from enum import StrEnum


class Evidence(StrEnum):
    OPTIONS_OK = "options_ok"  # any final answer to a probe but 503: even a 404 was made by a living SIP stack
    OPTIONS_503 = "options_503"  # it lives, and asks for less (RFC 3261 §21.5.4)
    OPTIONS_TIMEOUT = "options_timeout"
    ICMP_REFUSED = "icmp_refused"  # its host lives and nobody listens there: ICMP port unreachable, TCP refused
    ICMP_UNREACHABLE = "icmp_unreachable"  # a router, or our own kernel, knows no way
    HOST_ALIVE = "host_alive"  # the host's kernel answered for another, closed port
    LIVE_OK = "live_ok"  # a final answer, whatever it says, to a request of a call
    LIVE_TIMEOUT = "live_timeout"  # a request of a call got no response at all
    DIALOG_UNKNOWN = "dialog_unknown"  # 481 in a dialog that we know to be live: it may have restarted
    RTP_ALIVE = "rtp_alive"  # enough of its flows carry packets
    RTP_SILENT = "rtp_silent"  # many of its flows fell silent at once
    RTP_IDLE = "rtp_idle"  # too few flows to say anything
    CONTROL_OK = "control_ok"  # AMI, ARI or ESL: logged in
    CONTROL_LOST = "control_lost"  # it does not answer
    CONTROL_CUT = "control_cut"  # an established session was reset or closed
    CONTROL_REFUSED = "control_refused"  # nobody listens there
    CONTROL_RESTARTED = "control_restarted"  # logged in, and it is another process than before
    CONTROL_STOPPING = "control_stopping"  # it said that it shuts down, and hangs up its calls
    CONTROL_UNUSABLE = "control_unusable"  # wrong secret, another protocol: says nothing of the backend
    SYNTHETIC_OK = "synthetic_ok"  # a test call heard its own tone
    SYNTHETIC_FAILED = "synthetic_failed"
