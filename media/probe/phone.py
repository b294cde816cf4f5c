"""Synthetic calls placed with pjsua2: each says a tone, listens to the decoded audio and hangs up when it knows enough.

`turn` must be called over and over: it lets PJSIP work and looks at the time. An object of PJSIP lives from its making
to well after its end: one that is collected while the library still uses it takes the call, or the process, along.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pjsua2 as pj

from media.probe.call import SAYS_HZ, Outcome, SyntheticCall
from media.probe.ear import Ear
from media.probe.endpoint import CLOCK_HZ, FRAME_MS, Place, open_endpoint, parameters

OnOutcome = Callable[[Outcome], None]

TURN_MS = 5
VOLUME = 8000
GOODBYE_S = 1.0  # for the BYEs at the end to be answered
_LIVE = (pj.PJSUA_CALL_MEDIA_ACTIVE, pj.PJSUA_CALL_MEDIA_REMOTE_HOLD)


class _Listener(pj.AudioMediaPort):  # type: ignore[misc]
    """A port of the conference bridge: hands each frame of decoded audio to an ear, in the media clock's thread."""

    def __init__(self, ear: Ear) -> None:
        super().__init__()
        self._ear = ear
        form = pj.MediaFormatAudio()
        form.init(pj.PJMEDIA_FORMAT_PCM, CLOCK_HZ, 1, FRAME_MS * 1000, 16)
        self.createPort("listener", form)

    def onFrameReceived(self, frame: Any) -> None:  # noqa: N802 - PJSIP's name
        if frame.type == pj.PJMEDIA_FRAME_TYPE_AUDIO and frame.size:
            self._ear.take(np.frombuffer(bytes(frame.buf), np.int16), time.monotonic())


class _Call(pj.Call):  # type: ignore[misc]
    def __init__(self, account: Any, order: SyntheticCall, on_outcome: OnOutcome) -> None:
        super().__init__(account)
        self.over = False
        self._order = order
        self._on_outcome = on_outcome
        self._ear = Ear(order.hears_hz)
        self._listener: _Listener | None = None
        self._tone: Any = None
        self._began = time.monotonic()
        self._answered_at = 0.0
        self._packets = 0
        self._told = False
        self._given_up = False

    # PJSIP's callbacks: no exception may leave them

    def onCallState(self, prm: Any) -> None:  # noqa: N802
        info = self.getInfo()
        if info.state == pj.PJSIP_INV_STATE_CONFIRMED and not self._answered_at:
            self._answered_at = time.monotonic()
        elif info.state == pj.PJSIP_INV_STATE_DISCONNECTED:
            self.over = True
            if self._answered_at:
                self._tell(ended=not self._given_up)
            else:
                status = 408 if self._given_up else int(info.lastStatusCode)
                self._say(Outcome(status, time.monotonic() - self._began))

    def onCallMediaState(self, prm: Any) -> None:  # noqa: N802
        info = self.getInfo()  # its lines are parts of it: they are gone when it is
        if any(line.type == pj.PJMEDIA_TYPE_AUDIO and line.status in _LIVE for line in info.media):
            audio = self.getAudioMedia(-1)
            if self._listener is None:
                self._listener = _Listener(self._ear)
                self._tone = pj.ToneGenerator()
                self._tone.createToneGenerator(CLOCK_HZ)
                tones = pj.ToneDescVector()
                sine = pj.ToneDesc()
                sine.freq1, sine.freq2, sine.on_msec, sine.off_msec, sine.volume = SAYS_HZ, 0, 1000, 0, VOLUME
                tones.append(sine)
                self._tone.play(tones, True)
            # A re-INVITE may have given the call a new port of the bridge: it is connected again.
            self._tone.startTransmit(audio)
            audio.startTransmit(self._listener)

    # and what the time says

    def look(self, now: float) -> None:
        if self._told or self.over:
            return
        order = self._order
        if not self._answered_at:
            if not self._given_up and now - self._began >= order.answer_s:
                self._give_up()  # its end tells the outcome
            return
        heard_at = self._ear.first_at
        until = self._answered_at + order.hear_s if heard_at is None else heard_at + order.listen_s
        if now >= until:
            self._tell(ended=False)
            self._give_up()

    def _give_up(self) -> None:
        self._given_up = True
        self.hangup(pj.CallOpParam())

    def _tell(self, ended: bool) -> None:
        if not self.over and self._listener is not None:
            statistics = self.getStreamStat(0)
            self._packets = int(statistics.rtcp.rxStat.pkt)
        heard_at, answered_at = self._ear.first_at, self._answered_at
        self._say(
            Outcome(
                200,
                answered_at - self._began,
                self._packets or self._ear.frames,
                None if heard_at is None else max(0.0, heard_at - answered_at),
                self._ear.longest_gap_s(time.monotonic()),
                ended,
            )
        )

    def _say(self, outcome: Outcome) -> None:
        if not self._told:
            self._told = True
            self._on_outcome(outcome)

    def let_go(self) -> None:
        """Media objects go first, and not within a callback."""
        self._tone = self._listener = None


class Phone:
    """Raises pj.Error when PJSIP cannot have its addresses."""

    def __init__(self, place: Place) -> None:
        self._endpoint, account = open_endpoint(place)
        self._account = pj.Account()
        self._account.create(account)
        self._calls: list[_Call] = []

    def place(self, order: SyntheticCall, on_outcome: OnOutcome) -> None:
        """Raises pj.Error."""
        call = _Call(self._account, order, on_outcome)
        call.makeCall(order.uri, parameters())
        self._calls.append(call)

    def turn(self) -> None:
        self._endpoint.libHandleEvents(TURN_MS)  # lets go of the interpreter while it waits
        now = time.monotonic()
        for call in self._calls:
            call.look(now)
        if any(call.over for call in self._calls):
            for call in self._calls:
                if call.over:
                    call.let_go()
            self._calls = [call for call in self._calls if not call.over]

    def close(self) -> None:
        self._endpoint.hangupAllCalls()
        until = time.monotonic() + GOODBYE_S
        while self._calls and time.monotonic() < until:
            self.turn()
        for call in self._calls:
            call.let_go()
        self._calls.clear()
        self._account.shutdown()
        self._account = None
        gc.collect()  # what is PJSIP's must be gone before it
        self._endpoint.libDestroy()
