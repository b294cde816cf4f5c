"""The detector of one backend: evidence in, a verdict with a named diagnosis out. It never acts.

Pure: `now` is an argument, in seconds of *awake* time (see `selfcheck`). The first missed probe makes `fast` true, so
that many independent probes stand behind every decision. *Silent* needs a minimum of silence and a minimum of
unanswered probes, and somebody else who was heard meanwhile: much of both when probes are all that there is, little
when the streams of its calls are silent too. *Refused* needs two refusals, or one and silence, because ICMP is
rate-limited. A backend that is down comes back after `rise` timely answers in a row; one that does so too often is
held out until it has been stable for a while.
"""

from __future__ import annotations

import math
from collections import Counter, deque
from dataclasses import dataclass
from typing import ClassVar

from media.api import FlowsSilent
from proxy.backends import Verdict
from proxy.config import HealthSettings
from proxy.health.control_state import ControlState
from proxy.health.diagnosis import Diagnosis, Sign, Signs, Sip, diagnose
from proxy.health.evidence import Evidence
from proxy.health.flows import Flows
from proxy.health.live import UNKNOWN_DIALOGS, LiveRequests
from proxy.health.refusals import Refusals
from proxy.health.silence import Silence

DOUBT_MISSES = 3
REST_S = 0.06  # between probes that are further apart than this nobody asked: that is not silence
BLIND_AFTER = 2.0  # times the silence that is needed: until then a witness is waited for
OVERLOADED_ANSWERS = 2  # 503 in a row
JOINT_PATIENCE = 1.5  # times the longest healthy silence of streams and probes together
FLOWING_S = 0.06  # so long after the first sign of trouble streams must have been seen to flow, to speak against it

_COMMITTED = frozenset({Sip.SILENT, Sip.REFUSED, Sip.RESTARTED, Sip.STOPPING, Sip.DEAF_TO_CALLS})
_SAYS_NOTHING_OF_THE_NETWORK = frozenset({Sip.UNHEARD, Sip.REFUSED, Sip.RESTARTED, Sip.STOPPING})
_SENSES = {
    Evidence.CONTROL_OK: ("control", Sign.WELL),
    Evidence.CONTROL_LOST: ("control", Sign.ILL),
    Evidence.CONTROL_CUT: ("control", Sign.ILL),
    Evidence.CONTROL_REFUSED: ("control", Sign.ILL),
    Evidence.CONTROL_RESTARTED: ("control", Sign.NONE),  # that it answers does not say that it is as it was
    Evidence.CONTROL_STOPPING: ("control", Sign.NONE),
    Evidence.CONTROL_UNUSABLE: ("control", Sign.NONE),
    Evidence.SYNTHETIC_OK: ("synthetic", Sign.WELL),
    Evidence.SYNTHETIC_FAILED: ("synthetic", Sign.ILL),
}


@dataclass(slots=True, frozen=True)
class Change:
    """What `judge` has come to, when it differs from before."""

    previous: Verdict
    verdict: Verdict
    diagnosis: Diagnosis | None
    reason: str
    evidence: tuple[Evidence, ...]


class Detector:
    silence_type: ClassVar[type[Silence]] = Silence
    joint_type: ClassVar[type[Silence]] = Silence

    def __init__(self, settings: HealthSettings, now: float) -> None:
        self.settings = settings
        self.silence = self.silence_type(now, settings.silence_min_ms / 1000, settings.silence_max_ms / 1000)
        # The same for silence of its streams and its probes together.
        self.joint = self.joint_type(
            now, settings.rtp_silence_ms / 1000, settings.silence_max_ms / 1000, prior_s=0.0, patience=JOINT_PATIENCE
        )
        self.flows = Flows()
        self.signs = Signs()
        self.verdict = Verdict.UNKNOWN
        self.diagnosis: Diagnosis | None = None
        self.counts: Counter[Evidence] = Counter()
        self.heard_at = now
        self._silent_since = now  # silence counts from here
        self.fast = False  # probe at the fast interval
        self.pending = False  # something has happened that `judge` must look at
        self.misses = 0  # unanswered probes in a row
        self.reason = "never heard of yet"
        self._evidence = Evidence.OPTIONS_OK  # behind `reason`
        self._trouble: dict[Evidence, float] = {}  # what spoke against it since it was heard, and since when
        self._media_ill_at = now
        self._refusals = Refusals()
        self._control = ControlState()
        self._answers_503 = 0
        self._committed_at = now
        self._rising = 0  # timely answers in a row while committed
        self._rising_since = now
        self._downs: deque[float] = deque(maxlen=settings.flaps_max)
        self._live = LiveRequests()
        self._sensed_at = {"control": now}

    # What happened

    def answered(self, now: float, sent_at: float, timely: bool, busy: bool) -> None:
        """A probe sent at `sent_at` was answered now, with 503 if `busy`; late ones prove life as well."""
        self.counts[Evidence.OPTIONS_503 if busy else Evidence.OPTIONS_OK] += 1
        self._answers_503 = self._answers_503 + 1 if busy else 0
        if self.signs.sip in _COMMITTED:
            self.pending = True
            if not busy or self.signs.sip is not Sip.STOPPING:
                self._rise(now, sent_at, timely)
        else:
            if sent_at > self._control.cut_at:
                self._control.forget()
            self._heard(now, sent_at)
            self.pending = self.pending or self.signs.held or self.signs.rtp is Sign.ILL
            if not busy:
                self._settle(Sip.ANSWERS, "answers", Evidence.OPTIONS_OK)
            elif self._answers_503 >= OVERLOADED_ANSWERS:
                self._settle(Sip.OVERLOADED, "answers 503 to OPTIONS", Evidence.OPTIONS_503)
            elif self.signs.sip is not Sip.OVERLOADED:
                self._settle(Sip.ANSWERS, "answers", Evidence.OPTIONS_503)

    def missed(self, now: float, sent_at: float) -> None:
        """The time for an answer to a probe, sent at `sent_at`, has passed."""
        self.counts[Evidence.OPTIONS_TIMEOUT] += 1
        if self.misses == 0:
            self._silent_since = max(self.heard_at, sent_at - REST_S)
        self.misses += 1
        self._rising = 0
        self._doubted(Evidence.OPTIONS_TIMEOUT, sent_at)

    def refused(self, now: float) -> None:
        """A probe came back with an ICMP port unreachable, or a TCP connection was refused."""
        self.counts[Evidence.ICMP_REFUSED] += 1
        self._rising = 0
        self.signs.host_alive = True
        self._refusals.note(now, self.misses)
        self._doubted(Evidence.ICMP_REFUSED, now)

    def flowed(self, event: FlowsSilent, at: float, now: float, everywhere: bool) -> None:
        """How its streams flowed `at` that time. `everywhere`: those of all others are silent, too."""
        flows, signs = self.flows, self.signs
        if flows.silent and not event.silent:
            if event.active:  # else its calls are gone, and nobody knows
                self.joint.learn(at - max(flows.silent_since, self.heard_at), now)
            self._trouble.pop(Evidence.RTP_SILENT, None)
        began = event.silent and not flows.silent
        flows.tell(event, at)
        if began:
            self.counts[Evidence.RTP_SILENT] += 1
            self._doubted(Evidence.RTP_SILENT, now)
        if event.silent:
            self._falter(now, everywhere)
        elif event.active:
            if at - min(self._trouble.values(), default=-math.inf) >= FLOWING_S:
                signs.media_blind = False
                self._media(Sign.WELL, "its streams flow", Evidence.RTP_ALIVE)
        elif signs.rtp is not Sign.ILL:
            self._media(Sign.NONE, "no stream flows steadily", Evidence.RTP_IDLE)

    def _falter(self, now: float, everywhere: bool) -> None:
        flows, signs = self.flows, self.signs
        silence_ms = flows.silence(now) * 1000
        if signs.rtp is Sign.WELL and signs.sip in _COMMITTED:  # SipDeaf: its streams are all that speaks for it
            if silence_ms >= (self.joint.needed * 1000 if flows.many else self.settings.rtp_dead_ms):
                self._media(Sign.NONE, flows.explain(now), Evidence.RTP_IDLE)
        elif signs.rtp is Sign.ILL:
            if signs.media_blind and not everywhere:
                signs.media_blind = False
                self._explain(f"{self.reason}; those of another backend flow", Evidence.RTP_SILENT)
        elif not flows.many or silence_ms < self.settings.rtp_suspect_ms:
            self._media(Sign.NONE, "too few streams to say anything", Evidence.RTP_IDLE)
        elif silence_ms >= self.settings.rtp_dead_ms and signs.sip not in _COMMITTED:
            signs.media_blind = everywhere
            self._media_ill_at = now
            self._media(Sign.ILL, flows.explain(now), Evidence.RTP_SILENT)
        else:
            self._media(Sign.FALTERING, flows.explain(now), Evidence.RTP_SILENT)

    def _media(self, sign: Sign, reason: str, evidence: Evidence) -> None:
        if sign is not self.signs.rtp:
            self.signs.rtp = sign
            if evidence is not Evidence.RTP_SILENT:
                self.counts[evidence] += 1
            if self.signs.sip not in _COMMITTED:
                self._explain(reason, evidence)
            self.pending = True

    def _doubted(self, evidence: Evidence, since: float) -> None:
        self._trouble.setdefault(evidence, since)
        self.fast = self.signs.sip not in _COMMITTED
        self.pending = True

    def observe(self, evidence: Evidence, now: float) -> None:
        """Everything that is not the outcome of a probe."""
        self.counts[evidence] += 1
        if evidence in _SENSES:
            sense, sign = _SENSES[evidence]
            self._sensed_at[sense] = now
            if getattr(self.signs, sense) is not sign:
                setattr(self.signs, sense, sign)
                if self.signs.sip not in _COMMITTED:
                    self._explain(evidence.replace("_", " "), evidence)
                self.pending = True
            if sense == "control":
                self._controlled(evidence, now)
        elif evidence is Evidence.HOST_ALIVE:
            self.signs.host_alive = self.pending = True
        elif evidence is Evidence.LIVE_OK:
            self._live.answered()
            if self.signs.sip not in _COMMITTED:
                self._heard(now, now)
                if self.signs.sip is not Sip.OVERLOADED:
                    self._settle(Sip.ANSWERS, "answers a call", evidence)
        elif evidence is Evidence.LIVE_TIMEOUT:
            self._trouble.setdefault(evidence, now)
            if self._live.missed(now, self.settings.live_fall) and self.signs.sip not in _COMMITTED:
                reason = f"{self._live.misses} live requests in a row without any response"
                self._commit(now, Sip.DEAF_TO_CALLS, reason, evidence)

    def _controlled(self, evidence: Evidence, now: float) -> None:
        """What its control session says of its life."""
        sip = self._control.take(evidence, now, self.misses, self.signs.sip in _COMMITTED)
        if sip is not None:
            self._commit(now, sip, f"so says its control session ({evidence})", evidence)
        elif evidence is Evidence.CONTROL_CUT:
            self._doubted(evidence, now)
        elif not self._control:
            self._trouble.pop(Evidence.CONTROL_CUT, None)
        self.pending = True

    def dialog_unknown(self, dialog: bytes, now: float) -> None:
        """It said 481 in a dialog that we know to be live. One dialog may draw many: it counts once."""
        self.counts[Evidence.DIALOG_UNKNOWN] += 1
        if self.signs.sip in _COMMITTED:
            return
        if self._live.unknown(dialog, now):
            reason = f"{UNKNOWN_DIALOGS} live dialogs are unknown to it"
            self._commit(now, Sip.RESTARTED, reason, Evidence.DIALOG_UNKNOWN)

    def forgive(self) -> None:
        """That it came back too often is forgotten."""
        self._downs.clear()
        if self.signs.held:
            self.signs.held = False
            self._explain("the operator lets it in", Evidence.OPTIONS_OK)

    # What it means

    def judge(self, now: float, witness_at: float) -> Change | None:
        """Come to a verdict. `witness_at`: when another backend was last heard (inf when there is no other)."""
        self.pending = False
        signs = self.signs
        if signs.sip not in _COMMITTED:
            self._weigh(now, witness_at)
        elif signs.blind and witness_at > now - self.silence.needed / 2:
            signs.blind = False
            self._explain(f"{self.reason}; another backend answers", Evidence.OPTIONS_TIMEOUT)
        elif signs.sip is not Sip.REFUSED and self._is_refused(now):
            signs.sip = Sip.REFUSED
            self._explain(self._refused_reason(now), Evidence.ICMP_REFUSED)
        elif signs.sip is Sip.DEAF_TO_CALLS and now - self._committed_at >= self.settings.flap_hold_s:
            # Without calls it cannot show that it is well again: it gets another chance.
            self._live.answered()
            self._come_back(now, f"{self.settings.flap_hold_s} s are over")
        if signs.rtp is Sign.ILL and not self.flows.active and now - self._media_ill_at >= self.settings.flap_hold_s:
            # Its calls are gone, and without calls it cannot show that its media is well again.
            signs.media_blind = False
            self._media(Sign.NONE, f"{self.settings.flap_hold_s} s are over", Evidence.RTP_IDLE)
        if signs.held and now - self._rising_since >= self.settings.flap_hold_s:
            signs.held = False
            self._downs.clear()
            self._explain(f"stable for {self.settings.flap_hold_s} s", Evidence.OPTIONS_OK)
        row = diagnose(signs)
        if row.verdict is self.verdict and row.diagnosis is self.diagnosis:
            return None
        previous, self.verdict, self.diagnosis = self.verdict, row.verdict, row.diagnosis
        if row.verdict is Verdict.DOWN and previous is not Verdict.DOWN:
            self._downs.append(now)
        evidence = tuple(dict.fromkeys((*self._trouble, self._evidence)))
        return Change(previous, row.verdict, row.diagnosis, f"{row.why}: {self.reason}", evidence)

    def needs_witness(self, now: float) -> bool:
        """A decision by silence may come soon: now is the time to ask somebody else."""
        if not self.fast or self._refusals:
            return False
        return now - self._silent_since >= self.silence.needed / 2 or self.flows.silence(now) > 0

    def _weigh(self, now: float, witness_at: float) -> None:
        silence = now - self._silent_since
        needed = self.silence.needed
        unanswered = f"no answer for {silence * 1000:.0f} ms to {self.misses} probes"
        if self._is_refused(now):
            self._commit(now, Sip.REFUSED, self._refused_reason(now), Evidence.ICMP_REFUSED)
        elif self._control.enough(self.misses, self._refusals.latest if self._refusals else None):
            self._commit(now, Sip.REFUSED, self._control.explain(self.misses), Evidence.CONTROL_REFUSED)
        elif self._is_mute(now) and witness_at >= now - self.joint.needed / 2:
            reason = f"{self.flows.explain(now)}, and {self.misses} probes without answer"
            self._commit(now, Sip.SILENT, reason, Evidence.RTP_SILENT)
        elif self.misses >= self.settings.fall and silence >= needed and not self._flowed_just_now(now):
            if witness_at >= now - needed / 2:
                self._commit(now, Sip.SILENT, unanswered, Evidence.OPTIONS_TIMEOUT)
            elif silence >= BLIND_AFTER * needed:
                self.signs.blind = True
                self._commit(now, Sip.SILENT, unanswered, Evidence.OPTIONS_TIMEOUT)
        elif self._refusals:
            self._doubt(now, "refused", Evidence.ICMP_REFUSED)
        elif self._control:
            self._doubt(now, "its control session was cut off", Evidence.CONTROL_CUT)
        elif self.misses >= DOUBT_MISSES and silence >= needed / 2 and self.signs.sip is not Sip.UNHEARD:
            self._doubt(now, unanswered, Evidence.OPTIONS_TIMEOUT)

    def _flowed_just_now(self, now: float) -> bool:
        """Its streams have gone on without its SIP, and are silent now, but not yet for long enough to mean it."""
        trouble_at = min(self._trouble.values(), default=now)
        silence = self.flows.silence(now)
        return self.flows.alive_at - trouble_at >= FLOWING_S and 0 < silence < self.joint.needed

    def _is_mute(self, now: float) -> bool:
        """Neither its streams nor its SIP have been heard for long enough."""
        if self.misses < self.settings.rtp_fall or not self.flows.silence(now):
            return False
        return now - max(self.flows.silent_since, self.heard_at) >= self.joint.needed

    def _is_refused(self, now: float) -> bool:
        if self._refusals and self.signs.rtp is Sign.FALTERING and self._refusals.latest > self.flows.silent_since:
            return True
        return self._refusals.enough(now, self.misses)

    def _refused_reason(self, now: float) -> str:
        return self._refusals.explain(self.misses, self.flows.explain(now) if self.flows.silence(now) else "")

    def _heard(self, now: float, asked_at: float) -> None:
        if self.signs.sip not in _SAYS_NOTHING_OF_THE_NETWORK:
            since = self._silent_since if self.misses else max(self.heard_at, asked_at - REST_S)
            self.silence.learn(now - since, now)
        if self.flows.silence(now):
            self.joint.learn(now - max(self.flows.silent_since, self.heard_at), now)
        self.heard_at = self._silent_since = now
        if self._trouble:
            self._forget_trouble()
        if self.fast or self._refusals:
            self.misses = 0
            self._refusals.forget()
            self.fast = bool(self._control)
            self.signs.host_alive = False

    def _forget_trouble(self) -> None:
        silent = self._trouble.get(Evidence.RTP_SILENT)
        self._trouble.clear()
        if silent is not None and self.flows.silent:
            self._trouble[Evidence.RTP_SILENT] = silent
        if self._control:
            self._trouble[Evidence.CONTROL_CUT] = self._control.cut_at

    def _rise(self, now: float, sent_at: float, timely: bool) -> None:
        """Committed, and yet an answer. Only one to a probe that was sent since, and in time, counts as a return:
        a machine that was paused answers all it finds in its buffers at once."""
        if self.signs.blind:
            self._come_back(now, "answers again")
            return
        if self.signs.sip is Sip.DEAF_TO_CALLS or sent_at <= self._committed_at or not timely:
            return
        self._rising += 1
        if self._rising >= self.settings.rise:
            self._come_back(now, f"answered {self._rising} probes in a row")

    def _come_back(self, now: float, reason: str) -> None:
        # A short outage that proved to be one of the network is learned from, so that the next is waited for.
        self._control.came_back()
        self._heard(now, now)
        self.fast = self.signs.blind = self.signs.host_alive = False
        self.misses = self._rising = 0
        self._refusals.forget()
        self._live.forget_dialogs()
        self._rising_since = now
        window = now - self.settings.flap_window_s
        self.signs.held = len(self._downs) == self.settings.flaps_max and self._downs[0] >= window
        busy = self._answers_503 >= OVERLOADED_ANSWERS
        self._settle(Sip.OVERLOADED if busy else Sip.ANSWERS, reason, Evidence.OPTIONS_OK)

    def _doubt(self, now: float, reason: str, evidence: Evidence) -> None:
        self._rising_since = now  # not stable
        self._settle(Sip.DOUBTFUL, reason, evidence)

    def _commit(self, now: float, sip: Sip, reason: str, evidence: Evidence) -> None:
        self._committed_at = now
        self._control.committed()
        self._rising = 0
        self.fast = False
        # What was said before the silence began may have ended with it.
        if self._sensed_at["control"] <= self.heard_at:
            self.signs.control = Sign.NONE
        trouble_at = min(self._trouble.values(), default=now)
        if self.signs.rtp is Sign.WELL and self.flows.alive_at - trouble_at < FLOWING_S:
            self.signs.rtp = Sign.NONE
        self._settle(sip, reason, evidence)

    def _settle(self, sip: Sip, reason: str, evidence: Evidence) -> None:
        if sip is not self.signs.sip:
            self.signs.sip = sip
            self._explain(reason, evidence)

    def _explain(self, reason: str, evidence: Evidence) -> None:
        self.reason = reason
        self._evidence = evidence
        self.pending = True
