"""A detector under observation: fed by hand, on a clock of its own."""

from __future__ import annotations

import math

from proxy.backends import Verdict
from proxy.config import HealthSettings
from proxy.health import Diagnosis, Evidence
from proxy.health.detector import Change, Detector

INTERVAL_S = 0.05
SETTINGS = HealthSettings()


class Patient:
    """A detector and its clock; a witness is there unless `witnessed` is False."""

    def __init__(self, settings: HealthSettings = SETTINGS, kind: type[Detector] = Detector) -> None:
        self.now = 100.0
        self.detector = kind(settings, self.now)
        self.changes: list[Change] = []
        self.witnessed = True

    @property
    def state(self) -> tuple[Verdict, Diagnosis | None]:
        return self.detector.verdict, self.detector.diagnosis

    @property
    def verdicts(self) -> list[str]:
        return [str(change.verdict) for change in self.changes if change.verdict is not change.previous]

    def judge(self) -> None:
        change = self.detector.judge(self.now, math.inf if self.witnessed else -math.inf)
        if change is not None:
            self.changes.append(change)

    def wait(self, seconds: float) -> None:
        self.now += seconds
        self.judge()

    def answer(self, busy: bool = False, timely: bool = True, sent_ago: float = 0.001) -> None:
        self.detector.answered(self.now, self.now - sent_ago, timely, busy)
        self.judge()

    def miss(self, times: int = 1, every_s: float = 0.0) -> None:
        for _ in range(times):
            self.now += every_s
            self.detector.missed(self.now, self.now)
            self.judge()

    def refuse(self) -> None:
        self.detector.refused(self.now)
        self.judge()

    def observe(self, evidence: Evidence) -> None:
        self.detector.observe(evidence, self.now)
        self.judge()

    def forget(self, dialog: bytes) -> None:
        self.detector.dialog_unknown(dialog, self.now)
        self.judge()

    def live(self, seconds: float, busy: bool = False) -> None:
        """Answers every interval."""
        for _ in range(round(seconds / INTERVAL_S)):
            self.now += INTERVAL_S
            self.answer(busy)

    def kill(self) -> None:
        self.refuse()
        self.now += 0.02
        self.refuse()


def well(settings: HealthSettings = SETTINGS, kind: type[Detector] = Detector) -> Patient:
    patient = Patient(settings, kind)
    patient.live(70.0)
    assert patient.state == (Verdict.UP, None)
    return patient
