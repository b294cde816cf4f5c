"""What a conference looks like in SIP: a backend tells of it beside `X-Aqueduct-Conference`, and is told of one that it
is to rebuild (docs/failover.md).

    X-Aqueduct-Role: moderator           else a participant like others
    X-Aqueduct-Muted: yes                is not heard
    X-Aqueduct-Deaf: yes                 does not hear
    X-Aqueduct-Locked: yes               nobody else may come in
    X-Aqueduct-Recording: NAME;segment=2 is recorded; this would be the second file of it

What a backend does not tell stays as it was.
"""

from __future__ import annotations

from proxy.calls.headers import own
from proxy.conferences.roster import Conference, Participant
from proxy.sip.message import Field, Message

MODERATOR, PARTICIPANT = "moderator", "participant"
_YES = {b"yes": True, b"no": False}
NAME_MAX = 200
_NO_FILE = str.maketrans(";/\\", "___")


def flag(message: Message, name: bytes) -> bool | None:
    value = message.get(b"x-aqueduct-" + name)
    return None if value is None else _YES.get(value.strip().lower())


def role(message: Message) -> bool | None:
    """Is it a moderator?"""
    value = message.get(b"x-aqueduct-role")
    return None if value is None else value.strip().lower() == MODERATOR.encode()


def recording(message: Message) -> str | None:
    """The name of the recording; "" when there is none any more; None when nothing is said of it."""
    value = message.get(b"x-aqueduct-recording")
    return None if value is None else printable(value.partition(b";")[0].decode(errors="replace"))


def printable(text: str) -> str:
    """In one line of a header."""
    return "".join(letter if letter.isprintable() else "_" for letter in text.strip()[:NAME_MAX])


def told(conference: Conference, participant: Participant) -> tuple[Field, ...]:
    """For the backup, beside `X-Aqueduct-Conference`. Each is said, so that a dialplan need not guess."""
    fields = [
        own("Role", MODERATOR if participant.moderator else PARTICIPANT),
        own("Muted", _said(participant.muted)),
        own("Deaf", _said(participant.deaf)),
        own("Locked", _said(conference.locked)),
    ]
    if conference.segment is not None:
        name, number = conference.segment.next_after()
        file = printable(name).translate(_NO_FILE)
        fields.append(own("Recording", f"{file};segment={number}"))
    return tuple(fields)


def _said(on: bool) -> str:
    return "yes" if on else "no"
