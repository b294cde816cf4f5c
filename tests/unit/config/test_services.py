"""Alerts and recordings in the configuration: what cannot work is said at its place."""

from __future__ import annotations

import pytest

from proxy.config import ConfigError, parse

POOLS = "pools: {pbx: {backends: {as1: {address: 192.0.2.1}}}}\nroutes: [{pool: pbx}]\n"


def fault(section: str) -> str:
    with pytest.raises(ConfigError) as caught:
        parse(f"{section}\n{POOLS}", environ={})
    (found,) = caught.value.faults
    return str(found)


@pytest.mark.parametrize(
    ("section", "told"),
    [
        (
            "alerts: {webhooks: [{url: 192.0.2.1}]}",
            "1:27: alerts.webhooks[0].url: got '192.0.2.1', expected a URL like",
        ),
        ("alerts: {webhooks: ['http://a/']}", "1:21: alerts.webhooks[0]: got 'http://a/', expected a mapping"),
        ("alerts: {webhooks: [{url: 'http://a', headers: {'a:': x}}]}", "headers.a:: expected the name of a header"),
        ("alerts: {repeats: 5}", '1:10: alerts.repeats: expected one of webhooks, repeat_s; did you mean "repeat_s"?'),
        ("recordings: {folders: monitor}", "1:23: recordings.folders[0]: got 'monitor', expected an absolute path"),
        ("recordings: {folders: '/a=/mnt/{backed}'}", "1:23: recordings.folders[0]: got '/a=/mnt/{backed}', expected"),
        ("recordings: {keep_s: 100}", "1:22: recordings.keep_s: got '100', expected less than or equal to 60"),
        (
            "media: {mode: direct}\nrecordings: {folders: /a}",
            "2:23: recordings.folders: got '/a', expected none: without",
        ),
    ],
)
def test_each_fault_has_its_line_and_key(section: str, told: str) -> None:
    assert told in fault(section)
