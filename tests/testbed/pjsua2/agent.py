"""One PJSIP user agent with many calls, driven by JSON lines: `python -m tests.testbed.pjsua2.agent '{...}'`.

Every call says a tone of its own and listens for some; who calls it is answered as `answers` says: [tone, [tones]].
What is heard is decoded audio, frame by frame, after PJSIP's jitter buffer. An order is {"id": 1, "do": "hold", ...},
its answer {"id": 1, "ok": ...} or {"id": 1, "error": ...}; what happens unasked is {"event": ...}. Times are on
CLOCK_MONOTONIC. It ends with its stdin.
"""

from __future__ import annotations

import contextlib
import gc
import itertools
import json
import os
import sys
import time
import traceback
from collections.abc import Callable
from typing import Any

import numpy as np
import pjsua2 as pj

from media.probe.endpoint import CLOCK_HZ, FRAME_MS, Place, open_endpoint, parameters
from media.rtp.sound import level, power_share

FRAME_S = FRAME_MS / 1000
LEVEL_MIN = 100.0
SHARE_MIN = 0.1  # of the power, from which a tone is heard in a mix
LATELY_S = 0.4  # what was heard in this time is what is heard "now"
TURN_MS = 5
GOODBYE_S = 1.0

Send = Callable[[dict[str, Any]], None]


class Hearing(pj.AudioMediaPort):  # type: ignore[misc]
    """When which of some tones were heard, in frames of 20 ms. Filled in the thread of the media clock."""

    def __init__(self, tones: list[int]) -> None:
        super().__init__()
        self.tones = tones
        self.frames: list[tuple[float, frozenset[int]]] = []
        form = pj.MediaFormatAudio()
        form.init(pj.PJMEDIA_FORMAT_PCM, CLOCK_HZ, 1, FRAME_MS * 1000, 16)
        self.createPort("hearing", form)

    def onFrameReceived(self, frame: Any) -> None:  # noqa: N802 - PJSIP's name
        heard: frozenset[int] = frozenset()
        if frame.type == pj.PJMEDIA_FRAME_TYPE_AUDIO and frame.size:
            samples = np.frombuffer(bytes(frame.buf), np.int16)
            if level(samples) >= LEVEL_MIN:
                heard = frozenset(hz for hz in self.tones if power_share(samples, hz) >= SHARE_MIN)
        self.frames.append((time.monotonic(), heard))

    def now(self) -> list[int]:
        """The tones of most frames lately."""
        since = time.monotonic() - LATELY_S
        lately = [heard for at, heard in self.frames[-60:] if at >= since]
        return sorted(hz for hz in self.tones if 2 * sum(hz in heard for heard in lately) > LATELY_S / FRAME_S)

    def longest_gap_s(self, since: float, tones: list[int]) -> float:
        """Since then, the longest time with none of these tones."""
        wanted = frozenset(tones)
        times = [since, *(at for at, heard in list(self.frames) if at > since and heard & wanted), time.monotonic()]
        return max(0.0, max(later - earlier for earlier, later in itertools.pairwise(times)) - FRAME_S)


class Call(pj.Call):  # type: ignore[misc]
    def __init__(
        self, owner: Agent, number: int, says: int, listens: list[int], came: int = pj.PJSUA_INVALID_ID
    ) -> None:
        super().__init__(owner.account, came)
        self.owner = owner
        self.number = number
        self.hearing = Hearing(listens)
        self.over = False
        self._says = says
        self._tone: Any = None

    def onCallState(self, prm: Any) -> None:  # noqa: N802
        info = self.getInfo()
        self.over = info.state == pj.PJSIP_INV_STATE_DISCONNECTED
        state = "ended" if self.over else "talking" if info.state == pj.PJSIP_INV_STATE_CONFIRMED else "calling"
        self.owner.send({"event": state, "call": self.number, "status": int(info.lastStatusCode)})

    def onCallMediaState(self, prm: Any) -> None:  # noqa: N802
        info = self.getInfo()  # its lines are parts of it: they are gone when it is
        for line in info.media:
            active = line.status in (pj.PJSUA_CALL_MEDIA_ACTIVE, pj.PJSUA_CALL_MEDIA_REMOTE_HOLD)
            if line.type == pj.PJMEDIA_TYPE_AUDIO and active:
                # A re-INVITE may have given the call another port of the bridge.
                audio = self.getAudioMedia(line.index)
                if self._tone is None:
                    self._tone = _tone(self._says)
                self._tone.startTransmit(audio)
                audio.startTransmit(self.hearing)
                stream = self.getStreamInfo(line.index)
                remote, codec = stream.remoteRtpAddress, stream.codecName
                self.owner.send({"event": "media", "call": self.number, "remote": remote, "codec": codec})

    def let_go(self) -> None:
        self._tone = None
        del self.hearing


class Account(pj.Account):  # type: ignore[misc]
    def __init__(self, owner: Agent) -> None:
        super().__init__()
        self._owner = owner

    def onIncomingCall(self, prm: Any) -> None:  # noqa: N802
        self._owner.take(prm.callId)


class Agent:
    def __init__(self, place: Place, send: Send, answers: tuple[int, list[int]] | None = None) -> None:
        self.send = send
        self.endpoint, account = open_endpoint(place)
        self._answers = answers
        self.account = Account(self)
        self.account.create(account)
        self.calls: dict[int, Call] = {}

    def take(self, came: int) -> None:
        number = -1 - len(self.calls)  # those that we place have others
        says, listens = self._answers or (0, [])
        call = self.calls[number] = Call(self, number, says, listens, came)
        call.answer(parameters(status=200 if self._answers else 486))

    # Orders

    def call(self, number: int, to: str, says: int, listens: list[int]) -> None:
        call = self.calls[number] = Call(self, number, says, listens)
        call.makeCall(to, parameters())

    def hold(self, number: int) -> None:
        self.calls[number].setHold(parameters())

    def resume(self, number: int) -> None:
        self.calls[number].reinvite(parameters(flags=pj.PJSUA_CALL_UNHOLD))

    def dtmf(self, number: int, digits: str) -> None:
        self.calls[number].dialDtmf(digits)

    def hang_up(self, number: int) -> None:
        self.calls[number].hangup(pj.CallOpParam())

    def hears(self, number: int) -> list[int]:
        return self.calls[number].hearing.now()

    def gap(self, number: int, since: float, tones: list[int]) -> float:
        return self.calls[number].hearing.longest_gap_s(since, tones)

    def secured(self, number: int) -> dict[str, Any]:
        """How the call's media is secured, and what became of it: {"tx": policy, "rx": policy, "lost": packets}."""
        call = self.calls[number]
        statistics = call.getStreamStat(0)
        text = call.dump(True, "")
        return {"received": int(statistics.rtcp.rxStat.pkt), "srtp": "SRTP status: Active" in text, "dump": text}

    # and their execution

    def turn(self) -> None:
        self.endpoint.libHandleEvents(TURN_MS)

    def obey(self, order: dict[str, Any]) -> None:
        number, do = order.pop("id"), order.pop("do")
        try:
            self.send({"id": number, "ok": getattr(self, do)(**order)})
        except pj.Error as error:
            self.send({"id": number, "error": error.info()})
        except Exception:
            self.send({"id": number, "error": traceback.format_exc()})

    def close(self) -> None:
        self.endpoint.hangupAllCalls()
        until = time.monotonic() + GOODBYE_S
        while not all(call.over for call in self.calls.values()) and time.monotonic() < until:
            self.turn()
        for call in self.calls.values():
            call.let_go()
        self.calls.clear()
        self.account.shutdown()
        self.account = None
        gc.collect()  # what is PJSIP's must be gone before it
        self.endpoint.libDestroy()


def _tone(hz: int) -> Any:
    generator = pj.ToneGenerator()
    generator.createToneGenerator(CLOCK_HZ)
    tones = pj.ToneDescVector()
    sine = pj.ToneDesc()
    sine.freq1, sine.freq2, sine.on_msec, sine.off_msec, sine.volume = hz, 0, 1000, 0, 8000
    tones.append(sine)
    generator.play(tones, True)
    return generator


def main() -> None:
    out = os.dup(1)
    os.dup2(2, 1)  # what PJSIP prints must not get between the lines
    first, last = (options := json.loads(sys.argv[1])).pop("ports")
    answers = options.pop("answers", None)
    place = Place(ports=range(first, last + 1), **options)
    agent = Agent(place, lambda message: _write(out, message), answers)
    agent.send({"event": "ready"})
    os.set_blocking(0, False)
    pending = b""
    while True:
        with contextlib.suppress(BlockingIOError):
            data = os.read(0, 65536)
            if not data:
                break
            *lines, pending = (pending + data).split(b"\n")
            for line in lines:
                agent.obey(json.loads(line))
        agent.turn()
    agent.close()


def _write(out: int, message: dict[str, Any]) -> None:
    with contextlib.suppress(BrokenPipeError):
        os.write(out, json.dumps(message).encode() + b"\n")


if __name__ == "__main__":
    main()
