"""Failover: policy, plan, pace, the recovery of a call, and the report of what was done."""

from proxy.failover.comfort import Comfort
from proxy.failover.failovers import Failovers
from proxy.failover.policy import Refusal, RefusedOrder
from proxy.failover.reanchors import Reanchors
from proxy.failover.report import CallResult, Report

__all__ = ["CallResult", "Comfort", "Failovers", "Reanchors", "Refusal", "RefusedOrder", "Report"]
