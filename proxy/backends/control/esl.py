"""A control session with FreeSWITCH over its event socket (inbound mode).

Commands are answered in the order in which they were sent, events come in between; what takes time is asked for with
`bgapi` and answered by a BACKGROUND_JOB event that carries our Job-UUID. Events are subscribed to before anything is
listed, and held back while the lists are made: they may be older than a list, never newer than the next event.

Verified against the source named in `esl_codec` and a server in the tests that was written from it: no FreeSWITCH was
at hand. docs/control.md says more.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections import deque
from collections.abc import Iterable, Mapping
from random import Random
from uuid import UUID

from proxy.backends.control.api import Ability, ChannelUp, ControlError, Event, Loss, Up
from proxy.backends.control.esl_codec import (
    API_RESPONSE,
    AUTH_REQUEST,
    BODY,
    COMMAND_REPLY,
    DISCONNECT_NOTICE,
    EVENT_JSON,
    EVENT_PLAIN,
    REJECTIONS,
    EslDecoder,
    Frame,
    command,
    event,
)
from proxy.backends.control.esl_state import SUBSCRIBED, EslState
from proxy.backends.control.session import DeniedError, Session, Times, WireError, fail
from proxy.net.api import Address, Network

PORT = 8021  # event_socket.conf.xml
HELD_MAX = 100_000  # events during the lists; FreeSWITCH itself queues as many (MAX_QUEUE_LEN)
ASKED_MAX = 256  # questions about single channels that are under way at once

# What an api says when it failed: most begin with a dash, those of mod_conference do not.
_FAILED = re.compile(r"-|Usage|Invalid|Non-Existant|No |.* not found")
_GONE = ("-ERR", "-USAGE")
_WORD = re.compile(r"[^\s'\"\\{}\[\]|,^$&;`<>]+")
_VERSION = re.compile(r"FreeSWITCH (?:version:? )?([^\s(]+)", re.IGNORECASE)


class EslSession(Session[Frame]):
    """Implements `proxy.backends.control.api.ControlSession`.

    With a `user` (user@domain of the directory) the log-in is `userauth`. `conference_profile` is the profile of
    conferences that `join` puts somebody into.
    """

    abilities: frozenset[Ability] = frozenset({"originate", "join", "mute", "lock", "record", "hangup"})

    def __init__(
        self,
        network: Network,
        remote: Address,
        password: str,
        rng: Random,
        *,
        user: str | None = None,
        conference_profile: str = "default",
        times: Times | None = None,
        local_host: str | None = None,
    ) -> None:
        super().__init__(network, remote, rng, times or Times(), local_host)
        self._password = password
        self._user = user
        self._profile = conference_profile
        self._reset()

    def _reset(self) -> None:
        self._state = EslState()
        self._greeting: asyncio.Future[None] | None = None
        self._asked: deque[asyncio.Future[Frame]] = deque()  # in the order of the answers
        self._jobs: dict[str, asyncio.Future[str]] = {}
        self._admitted = False
        self._held: list[Mapping[str, str]] | None = []  # None: events are told as they come

    # Commands

    async def originate(self, target: str, variables: Mapping[str, str], *, context: str, extension: str) -> str:
        """`target` is a dial string: sofia/PROFILE/sip:600@192.0.2.1. Returns when it has answered."""
        channel, answer_s = self._uuid(), self._times.answer_s
        all_of_them = {"originate_timeout": f"{answer_s:g}", **variables, "origination_uuid": channel}
        settings = ",".join(f"{_word(name)}='{_value(value)}'" for name, value in all_of_them.items())
        if not target or any(char in target for char in "{}[]<>' \t\n"):
            raise ControlError(f"{target!r} is no dial string")
        line = f"originate {{{settings}}}{target} {_word(extension)} XML {_word(context)}"
        await self._job(line, answer_s + self._times.command_s)
        return channel

    async def join(self, channel: str, conference: str) -> None:
        await self._job(f"uuid_transfer {_word(channel)} conference:{_word(conference)}@{self._profile} inline")

    async def mute(self, conference: str, channel: str, on: bool) -> None:
        member = self._state.member_id(conference, channel)
        if member is None:
            raise ControlError(f"{channel} is not in conference {conference}")
        await self._job(f"conference {_word(conference)} {'mute' if on else 'unmute'} {member}")

    async def lock(self, conference: str, on: bool) -> None:
        await self._job(f"conference {_word(conference)} {'lock' if on else 'unlock'}")

    async def record(self, conference: str, file: str | None) -> None:
        what = f"record {_word(file)}" if file is not None else "norecord all"
        await self._job(f"conference {_word(conference)} {what}")

    async def hang_up(self, channel: str) -> None:
        await self._job(f"uuid_kill {_word(channel)}")

    async def _job(self, line: str, limit_s: float | None = None) -> str:
        """Run an api in the background: what it says. Raises ControlError."""
        self._must_be_up()
        limit_s = limit_s or self._times.command_s
        job = self._uuid()
        done = self._jobs[job] = asyncio.get_running_loop().create_future()
        try:
            async with asyncio.timeout(limit_s):
                accepted = await self._ask(f"bgapi {line}", {"Job-UUID": job})
                if not accepted.startswith("+OK"):
                    raise ControlError(f"{line.split()[0]}: {accepted}")
                said: str = await done
        except TimeoutError:
            raise ControlError(f"{line.split()[0]}: no answer within {limit_s:g} s") from None
        finally:
            self._jobs.pop(job, None)  # it is another dict when the session has begun anew
        if _FAILED.match(said):
            raise ControlError(f"{line.split()[0]}: {said.strip()}")
        return said

    # The life

    def _new_decoder(self) -> EslDecoder:
        self._reset()
        self._greeting = asyncio.get_running_loop().create_future()
        return EslDecoder()

    async def _log_in(self) -> Up:
        assert self._greeting is not None
        await self._greeting
        credentials = f"auth {self._password}" if self._user is None else f"userauth {self._user}:{self._password}"
        await self._ask(credentials)
        version, boot = await asyncio.gather(self._ask("api version"), self._ask("api global_getvar core_uuid"))
        found = _VERSION.match(version)
        subscribed = await self._ask(f"event json {SUBSCRIBED}")
        if not subscribed.startswith("+OK"):  # a user whose esl-allowed-events leaves some out
            raise DeniedError(f"event: {subscribed}")
        return Up(f"FreeSWITCH {found[1]}" if found else version.strip(), boot.strip())

    async def _sync(self) -> None:
        channels = await self._rows("channels")
        for start in range(0, len(channels), ASKED_MAX):
            some = channels[start : start + ASKED_MAX]
            said = await asyncio.gather(*(self._ask(question) for row in some for question in _questions(row)))
            for row, sip, bugs in zip(some, said[::2], said[1::2], strict=True):
                if not sip.startswith(_GONE):  # the lists come out of a database that is written a little later
                    self._tell_all(self._state.channel(row, _call_id(sip), bugs))
        for row in await self._rows("bridged_calls"):
            self._tell_all(self._state.bridge(row))
        self._tell_all(self._state.conferences(await self._ask("api conference xml_list")))
        held, self._held = self._held, None
        for each in held or ():
            self._tell_all(self._state.event(each))

    async def _rows(self, what: str) -> list[Mapping[str, object]]:
        said = await self._ask(f"api show {what} as json")
        try:
            rows = json.loads(said, strict=False).get("rows", [])  # there is none when row_count is 0
        except (ValueError, AttributeError, RecursionError) as error:
            raise WireError(f"show {what} as json: {said[:60]!r}") from error
        if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
            raise WireError(f"show {what} as json: rows are no rows")
        return rows

    async def _ping(self) -> None:
        await self._ask("api echo alive")

    def _forget(self, error: ControlError) -> None:
        fail([*self._asked, *self._jobs.values()], error)
        self._asked.clear()

    # Frames

    async def _ask(self, line: str, headers: Mapping[str, str] | None = None) -> str:
        try:
            data = command(line, headers)
        except ValueError as error:
            raise ControlError(str(error)) from error
        answer: asyncio.Future[Frame] = asyncio.get_running_loop().create_future()
        self._write(data)
        self._asked.append(answer)  # it stays there when nobody waits any more: the answer comes all the same
        return (await answer).reply

    def _take(self, message: Frame) -> None:
        match message.kind:
            case _ if message.kind in (EVENT_JSON, EVENT_PLAIN):
                self._event(message)
            case _ if message.kind in (COMMAND_REPLY, API_RESPONSE):
                if not self._asked:
                    raise WireError(f"an answer that nobody asked for: {message.reply[:60]!r}")
                answer = self._asked.popleft()
                if not self._admitted and not message.reply.startswith("+OK"):
                    self._lose(Loss.DENIED, message.reply)  # here, before what follows it is taken: the farewell
                    return
                self._admitted = True
                if not answer.done():
                    answer.set_result(message)
            case _ if message.kind == AUTH_REQUEST:
                if self._greeting is not None and not self._greeting.done():
                    self._greeting.set_result(None)
            case _ if message.kind == DISCONNECT_NOTICE:
                self._disconnected(message)
            case _ if message.kind in REJECTIONS:
                self._lose(Loss.DENIED, message.body.decode("utf-8", "replace").strip() or "rejected by its ACL")
            case _:
                if self._greeting is not None and not self._greeting.done():
                    raise WireError(f"no event socket: its first words are {dict(message.headers)!r}"[:200])
                self._counters["ignored"] += 1

    def _event(self, message: Frame) -> None:
        try:
            fields = event(message)
        except WireError:  # the frame's end is known: the next one is good again
            self._counters["malformed"] += 1
            return
        self._counters["events"] += 1
        name = fields.get("Event-Name")
        if name == "SHUTDOWN":
            self._lose(Loss.STOPPING, fields.get("Event-Info", "shutting down"))
        elif name == "BACKGROUND_JOB":
            job = self._jobs.get(fields.get("Job-UUID", ""))
            if job is not None and not job.done():
                job.set_result(fields.get(BODY, ""))
        elif self._held is None:
            self._tell_all(self._state.event(fields))
        elif len(self._held) < HELD_MAX:
            self._held.append(fields)
        else:
            raise WireError(f"more than {HELD_MAX} events while the channels were listed")

    def _disconnected(self, message: Frame) -> None:
        if message.headers.get("content-disposition") == "linger":
            return
        text = message.body.decode("utf-8", "replace").strip().partition("\n")[0]
        self._lose(Loss.STOPPING if "being shut down" in text else Loss.CLOSED, text)

    def _tell_all(self, events: Iterable[Event]) -> None:
        for each in events:
            self._tell(each)
            if isinstance(each, ChannelUp) and not each.sip:
                task = asyncio.get_running_loop().create_task(self._find_out(each))
                task.add_done_callback(_done)

    async def _find_out(self, up: ChannelUp) -> None:
        """Events of a conference's members do not have the Call-ID."""
        said = await self._ask(f"api uuid_getvar {up.channel} sip_call_id")
        self._tell_all(self._state.call_id(up, _call_id(said)))

    def _uuid(self) -> str:
        return str(UUID(int=self._rng.getrandbits(128), version=4))


def _done(task: asyncio.Task[None]) -> None:
    """The session is lost: that has been told."""
    if not task.cancelled():
        task.exception()


def _call_id(said: str) -> str:
    return "" if said.startswith(("_undef_", *_GONE)) else said


def _questions(row: Mapping[str, object]) -> tuple[str, str]:
    uuid = str(row.get("uuid", ""))
    return f"api uuid_getvar {uuid} sip_call_id", f"api uuid_buglist {uuid}"


def _word(text: str) -> str:
    """An argument of a command, as it is. What FreeSWITCH would read as more than one word is refused."""
    if not _WORD.fullmatch(text) or not text.isprintable():
        raise ControlError(f"{text!r} cannot be an argument of a command")
    return text


def _value(text: str) -> str:
    """A channel variable between single quotes; $ would be expanded, and a quote cannot be quoted."""
    if any(char in "'\\${}[]" for char in text) or not text.isprintable():
        raise ControlError(f"{text!r} cannot be the value of a channel variable")
    return text
