"""Health: evidence about backends becomes verdicts with named diagnoses. It never acts on them."""

from proxy.health.diagnosis import Diagnosis
from proxy.health.evidence import Evidence
from proxy.health.health import Health, VerdictChanged

__all__ = ["Diagnosis", "Evidence", "Health", "VerdictChanged"]
