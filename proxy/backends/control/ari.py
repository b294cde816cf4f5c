"""A control session with Asterisk over ARI: events and REST requests on one WebSocket.

Asterisk takes REST requests on the WebSocket that carries the events, so there is one connection to keep, to watch and
to lose (https://docs.asterisk.org/Configuration/Interfaces/Asterisk-REST-Interface-ARI/ARI-REST-over-WebSocket; an
older Asterisk does not answer them). What ARI cannot do with a ConfBridge (mute, lock, record, put somebody into it) is
refused: AMI can.

Two sessions with one name of an application push each other out: each node needs a name of its own.
"""

from __future__ import annotations

import asyncio
import json
from base64 import b64encode
from collections.abc import Mapping
from datetime import datetime
from random import Random
from typing import Any, NoReturn
from urllib.parse import quote, urlencode

from proxy.backends.control.api import Ability, ControlError, Loss, Resources, Up
from proxy.backends.control.ari_state import ALLOWED, AriState
from proxy.backends.control.session import Session, Times, WireError, fail
from proxy.backends.control.websocket import Kind, Message, WebSocketDecoder, frame, handshake
from proxy.net.api import Address, Network

PORT = 8088  # http.conf
HELD_MAX = 100_000  # events while lists are made


class AriSession(Session[Message]):
    """Implements `proxy.backends.control.api.ControlSession`."""

    abilities: frozenset[Ability] = frozenset({"originate", "hangup"})

    def __init__(
        self,
        network: Network,
        remote: Address,
        user: str,
        password: str,
        rng: Random,
        *,
        application: str = "aqueduct",
        times: Times | None = None,
        local_host: str | None = None,
    ) -> None:
        super().__init__(network, remote, rng, times or Times(), local_host)
        self._credentials = b64encode(f"{user}:{password}".encode()).decode()
        self._application = application
        self._asked: dict[str, asyncio.Future[Any]] = {}
        self._requests = 0
        self._reset()

    def _reset(self) -> None:
        self._state = AriState()
        self._upgraded: asyncio.Future[None] | None = None
        self._called: dict[str, asyncio.Future[None]] = {}  # channels of `originate` until they answer
        self._held: list[Mapping[str, Any]] | None = []  # None: events are told as they come
        self._channels_max: int | None = None
        self._started_at: datetime | None = None

    # Commands

    async def originate(self, target: str, variables: Mapping[str, str], *, context: str, extension: str) -> str:
        """`target` is an endpoint: PJSIP/600@trunk. Returns when it has answered."""
        self._must_be_up()
        channel, limit_s = f"{self._application}-{self._rng.getrandbits(96):024x}", self._times.answer_s
        answered = self._called[channel] = asyncio.get_running_loop().create_future()
        query = {"endpoint": target, "context": context, "extension": extension, "priority": "1", "channelId": channel}
        try:
            async with asyncio.timeout(limit_s + self._times.command_s):
                await self._ask(
                    "POST", f"channels?{urlencode({**query, 'timeout': int(limit_s)})}", {"variables": dict(variables)}
                )
                await answered
        except TimeoutError:
            raise ControlError(f"{target} has not answered within {limit_s:g} s") from None
        finally:
            self._called.pop(channel, None)
        return channel

    async def hang_up(self, channel: str) -> None:
        self._must_be_up()
        try:
            async with asyncio.timeout(self._times.command_s):
                await self._ask("DELETE", f"channels/{quote(channel, safe='')}")
        except TimeoutError:
            raise ControlError(f"hanging up {channel}: no answer within {self._times.command_s:g} s") from None

    async def join(self, channel: str, conference: str) -> None:
        _cannot("put a channel into a ConfBridge")

    async def mute(self, conference: str, channel: str, on: bool) -> None:
        _cannot("mute a member of a ConfBridge")

    async def lock(self, conference: str, on: bool) -> None:
        _cannot("lock a ConfBridge")

    async def record(self, conference: str, file: str | None) -> None:
        _cannot("record a ConfBridge")

    # The life

    def _new_decoder(self) -> WebSocketDecoder:
        self._reset()
        self._key = self._rng.randbytes(16)
        self._upgraded = asyncio.get_running_loop().create_future()
        return WebSocketDecoder(self._key)

    async def _log_in(self) -> Up:
        assert self._upgraded is not None
        host = f"[{self._remote[0]}]" if ":" in self._remote[0] else self._remote[0]
        target = f"/ari/events?{urlencode({'app': self._application, 'subscribeAll': 'true'})}"
        headers = {"Sec-WebSocket-Protocol": "ari", "Authorization": f"Basic {self._credentials}"}
        self._write(handshake(f"{host}:{self._remote[1]}", target, self._key, headers))
        await self._upgraded
        filters = {"allowed": [{"type": name} for name in ALLOWED]}
        await self._ask("PUT", f"applications/{quote(self._application, safe='')}/eventFilter", filters)
        info = await self._ask("GET", "asterisk/info")
        try:
            self._channels_max = info["config"].get("max_channels")
            started = info["status"]["startup_time"]
            self._started_at = _time(started)
            return Up(f"Asterisk {info['system']['version']}", started)
        except (KeyError, TypeError, AttributeError, ValueError) as error:
            raise WireError(f"asterisk/info: {error!r}") from error

    async def _sync(self) -> None:
        channels, bridges = await self._ask("GET", "channels"), await self._ask("GET", "bridges")
        try:
            for channel in channels:
                self._tell_all(self._state.channel(channel))
            for bridge in bridges:
                self._tell_all(self._state.bridge(bridge))
        except (KeyError, TypeError, AttributeError) as error:
            raise WireError(f"a list of channels and bridges: {error!r}") from error
        held, self._held = self._held, None
        for event in held or ():
            self._news(event)

    async def _ping(self) -> None:
        await self._ask("GET", "asterisk/ping")

    async def _report(self) -> None:
        ping = await self._ask("GET", "asterisk/ping")
        uptime_s = None
        if self._started_at is not None:
            try:  # both by Asterisk's own clock
                uptime_s = (_time(ping["timestamp"]) - self._started_at).total_seconds()
            except (KeyError, TypeError, ValueError):
                self._counters["malformed"] += 1
        self._tell(Resources(channels=self._state.channels, channels_max=self._channels_max, uptime_s=uptime_s))

    def _forget(self, error: ControlError) -> None:
        fail([*self._asked.values(), *self._called.values()], error)

    # Messages

    async def _ask(self, method: str, uri: str, body: Mapping[str, Any] | None = None) -> Any:
        self._requests += 1
        number = str(self._requests)
        request = {"type": "RESTRequest", "request_id": number, "transaction_id": number, "method": method, "uri": uri}
        if body is not None:
            request |= {"content_type": "application/json", "message_body": json.dumps(body)}
        answer: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._send(Kind.TEXT, json.dumps(request).encode())
        self._asked[number] = answer
        try:
            return await answer
        finally:
            self._asked.pop(number, None)

    def _send(self, kind: Kind, data: bytes) -> None:
        self._write(frame(kind, data, self._rng.randbytes(4)))

    def _take(self, message: Message) -> None:
        match message.kind:
            case Kind.TEXT:
                self._text(message.data)
            case Kind.UPGRADED:
                if self._upgraded is not None:
                    self._upgraded.set_result(None)
            case Kind.REFUSED:
                self._refused(message.status, message.data.decode("latin-1"))
            case Kind.PING:
                self._send(Kind.PONG, message.data)
            case Kind.CLOSE:
                why = f"the backend closed the websocket: {message.status} {message.data.decode('utf-8', 'replace')}"
                # RFC 6455 §7.4.1: 1001, going away
                self._lose(Loss.STOPPING if message.status == 1001 else Loss.CLOSED, why.strip())
            case _:
                self._counters["ignored"] += 1

    def _refused(self, status: int, said: str) -> None:
        if status in (401, 403):
            self._lose(Loss.DENIED, said)
        else:  # while Asterisk starts or stops it is 503, and 404 until ARI is loaded
            self._lose(Loss.PROTOCOL, f"no websocket: {said}")

    def _text(self, data: bytes) -> None:
        try:
            fields = json.loads(data.decode("utf-8", "replace"), strict=False)
            kind = fields["type"]
        except (ValueError, KeyError, TypeError, RecursionError):  # a frame's end is known: the next one is good again
            self._counters["malformed"] += 1
            return
        if kind == "RESTResponse":
            self._answered(fields)
            return
        self._counters["events"] += 1
        if kind == "ApplicationReplaced":
            self._lose(Loss.PROTOCOL, f"another session has taken the application's name {self._application!r}")
        elif self._held is None:
            self._news(fields)
        elif len(self._held) < HELD_MAX:
            self._held.append(fields)
        else:
            raise WireError(f"more than {HELD_MAX} events while the channels were listed")

    def _answered(self, fields: Mapping[str, Any]) -> None:
        answer = self._asked.get(str(fields.get("request_id")))
        if answer is None or answer.done():
            self._counters["ignored"] += 1
            return
        try:
            status, body = int(fields["status_code"]), fields.get("message_body")
            if status >= 400:
                said = json.loads(body).get("message", "") if body else ""
                answer.set_exception(ControlError(f"{status} {fields.get('reason_phrase', '')}: {said}".rstrip(": ")))
            else:
                answer.set_result(json.loads(body) if body else None)
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            answer.set_exception(WireError(f"an answer over the websocket: {error!r}"))

    def _news(self, event: Mapping[str, Any]) -> None:
        try:
            self._tell_all(self._state.event(event))
        except WireError:
            self._counters["malformed"] += 1
            return
        channel = event.get("channel")
        if not isinstance(channel, dict):
            return
        if (
            event["type"] == "ChannelCreated"
            and not channel.get("protocol_id")
            and str(channel.get("name")).startswith("PJSIP/")
        ):
            self._find_out(str(channel["id"]))
        called = self._called.get(str(channel.get("id")))
        if called is not None and not called.done():
            if channel.get("state") == "Up":
                called.set_result(None)
            elif event["type"] == "ChannelDestroyed":
                called.set_exception(ControlError(f"not answered: {event.get('cause_txt', event.get('cause'))}"))

    def _find_out(self, channel: str) -> None:
        """ChannelCreated comes before its Call-ID is known, and the next event only when it is answered."""
        task = asyncio.get_running_loop().create_task(self._ask("GET", f"channels/{quote(channel, safe='')}"))
        task.add_done_callback(self._found_out)

    def _found_out(self, task: asyncio.Task[Any]) -> None:
        if task.cancelled() or task.exception() is not None:  # it is gone again
            return
        try:
            self._tell_all(self._state.channel(task.result()))
        except (KeyError, TypeError, AttributeError):
            self._counters["malformed"] += 1


def _cannot(what: str) -> NoReturn:
    raise ControlError(f"ARI cannot {what}; AMI can")


def _time(text: str) -> datetime:
    return datetime.strptime(text, "%Y-%m-%dT%H:%M:%S.%f%z")
