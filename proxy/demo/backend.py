"""The reference backend, a process of its own: `python -m proxy.demo.backend --address HOST:PORT [--tone-hz HZ]`.

Small and honest: it answers the calls that demo, tests and benchmarks place, with real RTP in G.711.

    echo       sends back what it hears
    tone       plays a tone; with another one on each backend a caller knows whom it hears
    conf-NAME  a conference of that name
    pair-NAME  two callers of that name, and when one hangs up both do
    busy       486; every other number 404

A conference and a pair say so to the proxy (`X-Aqueduct-Conference`, `X-Aqueduct-Pair`), and join again who comes with
such a header from a backend that died.

Hold, late offers and re-INVITEs are answered by RFC 3264; OPTIONS by 200.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections.abc import Callable

from media.rtp.g711 import PCMA, PCMU
from proxy.demo.audio_line import AudioLine
from proxy.demo.conference import PARTIES_MAX, Conference, Party
from proxy.demo.endpoint import Endpoint, address, port_range, until_terminated
from proxy.demo.rtp import RtpPort
from proxy.demo.tones import frame
from proxy.net.api import Address
from proxy.sip.message import Request
from proxy.sip.uri import UriError, parse_uri
from proxy.sip.user_agent import Incoming, Session

CALLS_MAX = 2000
CONFERENCE, PAIR = "conf-", "pair-"
HEADERS = {CONFERENCE: b"X-Aqueduct-Conference", PAIR: b"X-Aqueduct-Pair"}


class Line:
    """The audio of one call: `play` gives the frame of each tick, `hear` takes what comes."""

    __slots__ = ("audio", "party", "play", "port", "session")

    def __init__(self, port: RtpPort, audio: AudioLine) -> None:
        self.port = port
        self.audio = audio
        self.party: Party | None = None
        self.session: Session | None = None
        self.play: Callable[[Line, int], bytes] | None = None

    def echo(self, payload_type: int, payload: bytes, at: float) -> None:
        agreed = self.audio.agreed
        if agreed is not None and agreed.sends and payload_type in (agreed.payload_type, agreed.events):
            self.port.send(payload_type, payload, agreed.remote)

    def join(self, payload_type: int, payload: bytes, at: float) -> None:
        agreed = self.audio.agreed
        if self.party is not None and agreed is not None and payload_type == agreed.payload_type:
            self.party.speak(payload, agreed.codec)

    def tick(self) -> None:
        self.port.tick()
        agreed = self.audio.agreed
        if self.play is not None and agreed is not None and agreed.sends:
            self.port.send(agreed.payload_type, self.play(self, agreed.codec), agreed.remote)


class Backend:
    def __init__(self, at: Address, ports: range, tone_hz: int, *, calls_max: int = CALLS_MAX) -> None:
        self._calls_max = calls_max
        self._tone = {codec: frame(tone_hz, codec) for codec in (PCMU, PCMA)}
        self._lines: set[Line] = set()
        self._ending: set[asyncio.Task[int]] = set()
        self._conferences: dict[str, Conference] = {}
        self._endpoint = Endpoint(at, ports, "reference", self._tick)
        self._endpoint.agent.on_invite = self._invited

    async def close(self) -> None:
        await self._endpoint.close()

    def _tick(self) -> None:
        for conference in self._conferences.values():
            conference.mix()
        for line in self._lines:
            line.tick()

    async def _invited(self, incoming: Incoming) -> None:
        try:
            number = _number(incoming.request)
        except UriError:
            incoming.reject(400)
            return
        status = self._refusal(number)
        if status:
            incoming.reject(status)
            return
        try:
            port = self._endpoint.rtp.open()
        except OSError:
            incoming.reject(503)
            return
        line = Line(port, AudioLine(port.address, self._endpoint.rng))
        try:
            session = self._answer(incoming, line, number)
            if session is None:
                return
            conference = self._connect(line, number)
            self._lines.add(line)
            try:
                await session.ended
            finally:
                self._lines.discard(line)
                if conference is not None and line.party is not None:
                    conference.parties.remove(line.party)
                    if not conference.parties:
                        del self._conferences[number]
                    elif number.startswith(PAIR):
                        self._end(conference.parties[0])
        finally:
            self._endpoint.rtp.release(port)

    def _refusal(self, number: str) -> int:
        if number == "busy":
            return 486
        if number not in ("echo", "tone") and not number.startswith((CONFERENCE, PAIR)):
            return 404
        if len(self._lines) >= self._calls_max:
            return 503
        conference = self._conferences.get(number)
        return 486 if conference is not None and conference.full else 0

    def _end(self, party: Party) -> None:
        """The other one of a pair has hung up."""
        for line in self._lines:
            if line.party is party and line.session is not None:
                task = asyncio.ensure_future(line.session.bye())
                self._ending.add(task)
                task.add_done_callback(self._ending.discard)

    def _answer(self, incoming: Incoming, line: Line, number: str) -> Session | None:
        sdp = line.audio.answer(incoming.offer) if incoming.offer else line.audio.offer()
        if isinstance(sdp, int):
            incoming.reject(sdp)
            return None
        headers = [
            (name, number.removeprefix(kind).encode()) for kind, name in HEADERS.items() if number.startswith(kind)
        ]
        line.session = session = incoming.accept(sdp, headers)
        if session is not None:
            session.on_offer = line.audio.answer
            session.on_answer = lambda answer: None if line.audio.accept(answer) else session.end("no media agreed")
        return session

    def _connect(self, line: Line, number: str) -> Conference | None:
        if number == "echo":
            line.port.on_packet = line.echo
            return None
        if number == "tone":
            line.play = lambda line, codec: self._tone[codec]
            return None
        conference = self._conferences.setdefault(number, Conference(2 if number.startswith(PAIR) else PARTIES_MAX))
        line.party = Party()
        conference.parties.append(line.party)
        line.port.on_packet = line.join
        line.play = lambda line, codec: line.party.mixed if line.party is not None else b""
        return conference


def _number(request: Request) -> str:
    """What was dialled; of a call that another backend had connected to others, that. Raises UriError."""
    for kind, header in HEADERS.items():
        name = request.get(header.lower())
        if name:
            return kind + name.decode(errors="replace")
    return parse_uri(request.uri).user.decode(errors="replace")


async def _run(at: Address, ports: range, tone_hz: int) -> None:
    backend = Backend(at, ports, tone_hz)
    await until_terminated()
    await backend.close()


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m proxy.demo.backend", description=__doc__.partition("\n")[0])
    parser.add_argument("--address", type=address, required=True, metavar="HOST:PORT", help="where SIP is taken")
    parser.add_argument("--ports", type=port_range, default=range(30000, 40000), metavar="FIRST-LAST", help="of RTP")
    parser.add_argument("--tone-hz", type=int, default=1000, help="a multiple of 50")
    options = parser.parse_args()
    try:
        asyncio.run(_run(options.address, options.ports, options.tone_hz))
    except (OSError, ValueError) as error:
        sys.exit(f"backend: {error}")


if __name__ == "__main__":
    main()
