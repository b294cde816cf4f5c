"""A control session with Asterisk over the Manager Interface.

Logs in (MD5 where it is offered), subscribes to the classes system and call, lists bridges, channels and conferences,
and follows the events. Answers name their action by its ActionID. A flood that is more than can be taken is dropped,
and what lives is listed again. docs/control.md says what manager.conf needs.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from random import Random
from typing import ClassVar

from proxy.backends.control.ami_codec import AmiDecoder, Message, encode
from proxy.backends.control.ami_state import NEWS, AmiState
from proxy.backends.control.api import Ability, ConferenceChanged, ControlError, Event, Loss, Resources, Stopping, Up
from proxy.backends.control.session import DeniedError, Session, Times, fail
from proxy.net.api import Address, Network

PORT = 5038
BACKLOG_BYTES_MAX = 4 << 20  # about 6,000 events
ACTIONS_MAX = 256  # under way at once
QUESTIONS_MAX = 32  # of those: about single channels
QUEUED_MAX = 100_000  # questions that wait for their turn
HELD_MAX = 10_000  # events, for the time that an answer to Ping takes
SUBSCRIBED = "system,call"
JOIN_CONTEXT, JOIN_EXTENSION, JOIN_VARIABLE = "aqueduct-conference", "join", "AQUEDUCT_CONFERENCE"
CALL_ID, FILE, LOAD = "CHANNEL(pjsip,call-id)", "MIXMONITOR_FILENAME", "SYSINFO(loadavg)"
_SHUTTING_DOWN = "shutting down"
_DENIED = ("Authentication failed", "Permission denied")
# In SoftHangupRequest, Cause is AST_SOFTHANGUP_SHUTDOWN when all calls are hung up for a shutdown.
_HUNG_UP_FOR_SHUTDOWN = "4"


Told = Callable[[str, str], Iterable[Event]]


class RefusedError(ControlError):
    """Asterisk has said no."""


@dataclass(slots=True)
class _Action:
    answer: asyncio.Future[Message]
    row: Callable[[Message], None] | None  # takes the rows of a list; its last message is the answer


class AmiSession(Session[Message]):
    """Implements `proxy.backends.control.api.ControlSession`."""

    abilities: frozenset[Ability] = frozenset({"originate", "join", "mute", "lock", "record", "hangup", "stopping"})
    slice_messages: ClassVar[int] = 200  # some 8 µs each

    def __init__(
        self,
        network: Network,
        remote: Address,
        user: str,
        secret: str,
        rng: Random,
        *,
        times: Times | None = None,
        local_host: str | None = None,
    ) -> None:
        super().__init__(network, remote, rng, times or Times(), local_host)
        self._user = user
        self._secret = secret
        self._number = 0
        self._channels_max: int | None = None
        self._reset()

    def _reset(self) -> None:
        self._new_state()
        self._actions: dict[str, _Action] = {}
        self._questions: deque[tuple[str, str, Told]] = deque()
        self._asking: set[asyncio.Task[None]] = set()
        self._hangs_up = False  # or so it seems
        self._told_stopping: bool | None = None  # as which
        self._held: list[Message] = []  # while it seems to hang up all, and nobody knows whether it stops

    def _new_state(self) -> None:
        self._state = state = AmiState()
        state.ask = lambda channel: self._find_out(channel, CALL_ID, state.call_id)
        state.ask_file = lambda channel: self._find_out(channel, FILE, state.file)

    # Commands

    async def originate(self, target: str, variables: Mapping[str, str], *, context: str, extension: str) -> str:
        """`target` is a channel to be made: PJSIP/sbc/sip:600@192.0.2.1. Returns when that has begun."""
        channel = f"aqueduct-{self._rng.getrandbits(64):016x}"
        fields = [
            ("Channel", target), ("Context", context), ("Exten", extension), ("Priority", "1"), ("Async", "true"),
            ("ChannelId", channel), ("Timeout", str(int(self._times.answer_s * 1000))),
            *(("Variable", f"{name}={value}") for name, value in variables.items()),
        ]  # fmt: skip
        await self._command("Originate", *fields)
        return channel

    async def join(self, channel: str, conference: str) -> None:
        """The dialplan has to have a context for it (docs/control.md)."""
        await self._command("Setvar", ("Channel", channel), ("Variable", JOIN_VARIABLE), ("Value", conference))
        where = ("Context", JOIN_CONTEXT), ("Exten", JOIN_EXTENSION), ("Priority", "1")
        await self._command("Redirect", ("Channel", channel), *where)

    async def mute(self, conference: str, channel: str, on: bool) -> None:
        action = "ConfbridgeMute" if on else "ConfbridgeUnmute"
        await self._command(action, ("Conference", conference), ("Channel", self._state.name(channel) or channel))

    async def lock(self, conference: str, on: bool) -> None:
        await self._command("ConfbridgeLock" if on else "ConfbridgeUnlock", ("Conference", conference))

    async def record(self, conference: str, file: str | None) -> None:
        if file is None:
            await self._command("ConfbridgeStopRecord", ("Conference", conference))
        else:
            await self._command("ConfbridgeStartRecord", ("Conference", conference), ("RecordFile", file))
            self._tell(ConferenceChanged(conference, recording=file))  # the event does not have the name

    async def hang_up(self, channel: str) -> None:
        await self._command("Hangup", ("Channel", channel))

    async def _command(self, action: str, *fields: tuple[str, str]) -> Message:
        self._must_be_up()
        try:
            async with asyncio.timeout(self._times.command_s):
                return await self._ask(action, *fields)
        except TimeoutError:
            raise ControlError(f"{action}: no answer within {self._times.command_s:g} s") from None

    # The life

    def _new_decoder(self) -> AmiDecoder:
        self._reset()
        return AmiDecoder(NEWS | {"SoftHangupRequest", "Shutdown"})

    async def _log_in(self) -> Up:
        # Asterisk does not mind that this comes before its greeting has been read.
        try:
            challenge = (await self._ask("Challenge", ("AuthType", "MD5"))).get("Challenge")
            key = hashlib.md5(f"{challenge}{self._secret}".encode(), usedforsecurity=False).hexdigest()
            proof = [("AuthType", "MD5"), ("Key", key)]
        except RefusedError:  # built without MD5
            proof = [("Secret", self._secret)]
        await self._ask("Login", ("Username", self._user), *proof, ("Events", "off"))
        settings = await self._ask("CoreSettings")
        status = await self._ask("CoreStatus")
        self._channels_max = _whole(settings.get("CoreMaxCalls")) or None
        boot = " ".join((settings.get("SystemName"), status.get("CoreStartupDate"), status.get("CoreStartupTime")))
        return Up(f"Asterisk {settings.get('AsteriskVersion')}", boot.strip())

    async def _sync(self) -> None:
        self._new_state()
        await self._ask("Events", ("EventMask", SUBSCRIBED))
        await self._list("BridgeList")  # first: which of the bridges that channels are in are conferences
        await self._list("CoreShowChannels")
        await self._list_conferences()
        for bridge, conference in self._state.conferences.items():
            with contextlib.suppress(RefusedError):  # it has ended meanwhile
                await self._list("ConfbridgeList", ("Conference", conference))
                members: list[Message] = []
                info = await self._ask("BridgeInfo", ("BridgeUniqueid", bridge), row=members.append)
                self._tell_all(self._state.conference_bridge(info, len(members)))
        while self._asking:  # who they are
            await asyncio.wait(self._asking)

    async def _list(self, action: str, *fields: tuple[str, str]) -> None:
        await self._ask(action, *fields, row=self._row)

    async def _list_conferences(self) -> None:
        with contextlib.suppress(RefusedError):  # there are none, or no ConfBridge
            await self._list("ConfbridgeListRooms")

    async def _ping(self) -> None:
        with contextlib.suppress(RefusedError):  # it stops; that it says so is a sign of life
            await self._ask("Ping")

    async def _report(self) -> None:
        await self._list_conferences()  # that one was locked is told by no event
        load = None
        with contextlib.suppress(RefusedError):
            load = _number((await self._ask("Getvar", ("Variable", LOAD))).get("Value"))
        self._tell(Resources(channels=len(self._state), channels_max=self._channels_max, load=load))

    def _forget(self, error: ControlError) -> None:
        actions, self._actions = self._actions, {}
        fail((action.answer for action in actions.values()), error)

    # Actions

    async def _ask(self, name: str, *fields: tuple[str, str], row: Callable[[Message], None] | None = None) -> Message:
        """The answer, or the last message of a list. Raises RefusedError when Asterisk says no."""
        if len(self._actions) >= ACTIONS_MAX:
            raise ControlError(f"{name}: {ACTIONS_MAX} actions wait for their answers already")
        self._number += 1
        action_id = str(self._number)
        try:
            data = encode(name, fields, action_id)
        except ValueError as error:
            raise ControlError(f"{name}: {error}") from None
        self._write(data)
        answer: asyncio.Future[Message] = asyncio.get_running_loop().create_future()
        self._actions[action_id] = _Action(answer, row)
        try:
            message = await answer
        finally:
            self._actions.pop(action_id, None)
        if message.kind == "Response" and message.name != "Success":
            text = f"{name}: {message.get('Message') or message.name}"
            raise DeniedError(text) if any(words in text for words in _DENIED) else RefusedError(text)
        return message

    def _find_out(self, channel: str, variable: str, told: Told) -> None:
        """Ask for a variable of a channel, when it is its turn."""
        if len(self._questions) < QUEUED_MAX:
            self._questions.append((channel, variable, told))
            self._ask_next()

    def _ask_next(self) -> None:
        loop = asyncio.get_running_loop()
        while self._questions and len(self._asking) < QUESTIONS_MAX:
            task = loop.create_task(self._question(*self._questions.popleft()))
            self._asking.add(task)
            task.add_done_callback(self._asking.discard)
            task.add_done_callback(lambda _: self._ask_next())

    async def _question(self, channel: str, variable: str, told: Told) -> None:
        try:
            async with asyncio.timeout(self._times.command_s):
                message = await self._ask("Getvar", ("Channel", channel), ("Variable", variable))
        except (ControlError, TimeoutError):
            self._counters["unanswered"] += 1
        else:
            self._tell_all(told(channel, message.get("Value")))

    # That it stops

    def _stops(self) -> None:
        self._stopping = True
        if not self.up:
            self._lose(Loss.STOPPING, "Asterisk is shutting down")
        elif self._told_stopping is not self._hangs_up:
            self._told_stopping = self._hangs_up
            self._held.clear()
            self._tell(Stopping(self._hangs_up))

    async def _ask_whether_it_stops(self) -> None:
        """A caller can let any channel be hung up with that cause (Reason, RFC 3326); but then this is answered."""
        with contextlib.suppress(ControlError):
            await self._ask("Ping")
            self._hangs_up = False
            held, self._held = self._held, []
            for message in held:
                self._tell_all(self._state.take(message))

    # Messages

    def _receive(self, data: bytes) -> None:
        super()._receive(data)
        decoder = self._decoder
        if isinstance(decoder, AmiDecoder) and decoder.backlog > BACKLOG_BYTES_MAX:
            decoder.skip()
            self._fall_behind()

    def _take(self, message: Message) -> None:
        action = self._actions.get(message.action_id) if "ActionID" in message.fields else None
        if action is not None:
            self._answered(action, message)
        elif message.kind == "Response":
            self._counters["late"] += 1
        elif message.name == "SoftHangupRequest":
            if message.get("Cause") == _HUNG_UP_FOR_SHUTDOWN and not self._hangs_up:
                self._hangs_up = True
                if self._stopping:
                    self._stops()
                else:
                    task = asyncio.get_running_loop().create_task(self._ask_whether_it_stops())
                    self._asking.add(task)
                    task.add_done_callback(self._asking.discard)
        elif message.name == "Shutdown":
            self._stops()
        elif message.name in NEWS:
            if not self._hangs_up:
                self._tell_all(self._state.take(message))
            elif not self._told_stopping:
                self._held.append(message)
                if len(self._held) > HELD_MAX:
                    self._hangs_up = False
                    self._held.clear()
                    self._fall_behind()

    def _answered(self, action: _Action, message: Message) -> None:
        if message.name == "Error":
            text = message.get("Message")
            if _SHUTTING_DOWN in text:
                self._stops()
            elif not self.up and any(words in text for words in _DENIED):
                self._lose(Loss.DENIED, text)  # here: it closes the connection in the same moment
        if action.row is not None:
            marker = message.get("EventList").lower()
            if marker == "start":
                return
            if message.kind == "Event" and marker not in ("complete", "cancelled"):
                action.row(message)
                return
        if not action.answer.done():
            action.answer.set_result(message)

    def _row(self, message: Message) -> None:
        if message.name in NEWS:
            self._tell_all(self._state.take(message))


def _whole(text: str) -> int:
    return int(text) if text.isascii() and text.isdigit() and len(text) < 10 else 0


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None
