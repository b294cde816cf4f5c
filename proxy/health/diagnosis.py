"""Diagnosis: the table that names what is wrong with a backend, and says what that makes of its verdict.

`Signs` is what the detector has made of the evidence, each sign settled with all the patience it needs. The first
row of `TABLE` whose every condition holds decides. Nothing here has state or knows the time. docs/diagnoses.md
explains each row.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

from proxy.backends import Verdict


class Diagnosis(StrEnum):
    DEAD = "Dead"
    HUNG = "Hung"
    SIP_DEAF = "SipDeaf"
    CONTROL_DEAF = "ControlDeaf"
    MEDIA_DEAD = "MediaDead"
    OVERLOADED = "Overloaded"
    UNREACHABLE = "Unreachable"
    FLAPPING = "Flapping"
    OBSERVER_BLIND = "ObserverBlind"


class Sip(StrEnum):
    """How it answers SIP."""

    UNHEARD = "unheard"  # nothing yet, and not for long enough to say anything
    ANSWERS = "answers"
    OVERLOADED = "overloaded"
    DOUBTFUL = "doubtful"  # half of what a decision needs
    SILENT = "silent"
    REFUSED = "refused"
    RESTARTED = "restarted"  # answers, but has forgotten its dialogs
    STOPPING = "stopping"  # hangs up its calls and ends
    DEAF_TO_CALLS = "deaf_to_calls"  # answers OPTIONS, and no request of any call


class Sign(StrEnum):
    """A sense other than SIP."""

    NONE = "none"
    WELL = "well"
    FALTERING = "faltering"  # of media: many streams are overdue
    ILL = "ill"


@dataclass(slots=True)
class Signs:
    sip: Sip = Sip.UNHEARD
    blind: bool = False  # silent, and so is everybody else
    host_alive: bool = False
    rtp: Sign = Sign.NONE
    control: Sign = Sign.NONE
    synthetic: Sign = Sign.NONE
    held: bool = False  # came back from down too often lately
    media_blind: bool = False  # its media stopped, and so did that of everybody else


@dataclass(slots=True, frozen=True)
class Row:
    diagnosis: Diagnosis | None
    verdict: Verdict
    why: str
    sip: frozenset[Sip] = frozenset(Sip)
    rtp: frozenset[Sign] = frozenset(Sign)
    control: frozenset[Sign] = frozenset(Sign)
    synthetic: frozenset[Sign] = frozenset(Sign)
    flags: dict[str, bool] = field(default_factory=dict)

    def matches(self, signs: Signs) -> bool:
        return (
            signs.sip in self.sip
            and signs.rtp in self.rtp
            and signs.control in self.control
            and signs.synthetic in self.synthetic
            and all(getattr(signs, flag) is value for flag, value in self.flags.items())
        )


def _any(*values: Sip) -> frozenset[Sip]:
    return frozenset(values)


_WELL, _ILL, _NOT_WELL = frozenset({Sign.WELL}), frozenset({Sign.ILL}), frozenset(Sign) - {Sign.WELL}
_SPEAKS = _any(Sip.ANSWERS, Sip.OVERLOADED)

TABLE: tuple[Row, ...] = (
    Row(
        Diagnosis.OBSERVER_BLIND,
        Verdict.UNKNOWN,
        "it is silent and so is every other backend: it is us",
        sip=_any(Sip.SILENT),
        flags={"blind": True},
    ),
    Row(  # Media that comes from it says nothing of what reaches it: a path may be cut in one direction only.
        Diagnosis.SIP_DEAF,
        Verdict.SUSPECT,
        "its SIP is gone, its media flows, and nothing says that it hears us",
        sip=_any(Sip.SILENT),
        rtp=_WELL,
        control=_NOT_WELL,
        flags={"host_alive": False},
    ),
    Row(
        Diagnosis.SIP_DEAF,
        Verdict.DEGRADED,
        "its SIP is gone but its media flows: people are still talking",
        sip=_any(Sip.SILENT, Sip.REFUSED, Sip.DEAF_TO_CALLS),
        rtp=_WELL,
    ),
    Row(
        Diagnosis.SIP_DEAF,
        Verdict.DEGRADED,
        "its SIP is gone but its control session answers, and nothing says that its media stopped",
        sip=_any(Sip.SILENT, Sip.REFUSED, Sip.DEAF_TO_CALLS),
        rtp=frozenset({Sign.NONE}),
        control=_WELL,
    ),
    Row(Diagnosis.DEAD, Verdict.DOWN, "its host says that nobody listens", sip=_any(Sip.REFUSED)),
    Row(Diagnosis.DEAD, Verdict.DOWN, "it has restarted and lost its calls", sip=_any(Sip.RESTARTED)),
    Row(Diagnosis.DEAD, Verdict.DOWN, "it shuts down and hangs up its calls", sip=_any(Sip.STOPPING)),
    Row(
        Diagnosis.HUNG,
        Verdict.DOWN,
        "its host's kernel answers, it does not",
        sip=_any(Sip.SILENT),
        flags={"host_alive": True},
    ),
    Row(Diagnosis.UNREACHABLE, Verdict.DOWN, "nothing comes back from its host", sip=_any(Sip.SILENT)),
    Row(
        Diagnosis.HUNG,
        Verdict.DOWN,
        "it answers probes and no request of any call",
        sip=_any(Sip.DEAF_TO_CALLS),
    ),
    Row(None, Verdict.SUSPECT, "half of what a decision needs", sip=_any(Sip.DOUBTFUL)),
    Row(
        Diagnosis.OBSERVER_BLIND,
        Verdict.UNKNOWN,
        "its media stopped and so did that of every other backend: it is us",
        sip=_SPEAKS,
        rtp=_ILL,
        flags={"media_blind": True},
    ),
    Row(Diagnosis.MEDIA_DEAD, Verdict.DOWN, "it answers SIP and its media stopped", sip=_SPEAKS, rtp=_ILL),
    Row(
        Diagnosis.FLAPPING,
        Verdict.DOWN,
        "it came back too often to be believed yet",
        sip=_SPEAKS,
        flags={"held": True},
    ),
    Row(
        None,
        Verdict.SUSPECT,
        "many of its streams fell silent at once",
        sip=_SPEAKS,
        rtp=frozenset({Sign.FALTERING}),
    ),
    Row(
        Diagnosis.MEDIA_DEAD,
        Verdict.DEGRADED,
        "a test call heard nothing and no live flow says otherwise",
        sip=_SPEAKS,
        rtp=_NOT_WELL,
        synthetic=_ILL,
    ),
    Row(Diagnosis.OVERLOADED, Verdict.DEGRADED, "it answers 503: it asks for less", sip=_any(Sip.OVERLOADED)),
    Row(
        Diagnosis.CONTROL_DEAF,
        Verdict.DEGRADED,
        "it answers SIP and its control session is lost",
        sip=_SPEAKS,
        control=_ILL,
    ),
    Row(None, Verdict.UP, "it answers", sip=_SPEAKS),
    Row(None, Verdict.UNKNOWN, "never heard of yet", sip=_any(Sip.UNHEARD)),
)


def diagnose(signs: Signs) -> Row:
    for row in TABLE:
        if row.matches(signs):
            return row
    raise AssertionError(f"the table has no row for {signs}")  # a test walks all combinations
