"""The listener's view of a failover, judged by an independent reader: tshark's analysis of RTP and RTCP."""

from __future__ import annotations

import asyncio
import itertools
from pathlib import Path

from tests.integration.conftest import BACKUP_HZ, PRIMARY_HZ, TONE, Site, until, until_channels, until_heard
from tests.testbed import capture
from tests.testbed.hosts import CALLER
from tests.testbed.phone import Phones

RATE_HZ = 8000
SPREAD_S = 0.1  # of arrivals on a machine that does other things, too


def test_tshark_sees_one_stream_without_a_gap_and_reports_that_fit(site: Site, tmp_path: Path) -> None:
    async def scenario() -> list[capture.Received]:
        async with Phones(CALLER) as phones:
            call = await phones.call(TONE, site.proxy.address)
            received = call.record()
            await until_heard(call, PRIMARY_HZ)
            site.primary.kill()
            await until_channels(site.backup, 1)
            await until_heard(call, BACKUP_HZ)
            moved_at = received[-1].at
            # Asterisk reports every five seconds.
            await until(
                lambda: any(packet.port == capture.RTCP_PORT and packet.at > moved_at for packet in received),
                lambda: "the backup has not reported",
                15.0,
            )
            assert await call.bye() == 200
            return received

    file = capture.write(tmp_path / "heard.pcap", asyncio.run(scenario()))

    (stream,) = capture.rtp_streams(file)
    assert (stream.lost, stream.problems) == (0, False)

    rows = capture.fields(file, "rtp", "rtp.ssrc", "rtp.seq", "rtp.timestamp", "rtp.marker", "frame.time_relative")
    assert {int(row[0], 16) for row in rows} == {stream.ssrc}
    steps = [(int(after[1]) - int(before[1])) & 0xFFFF for before, after in itertools.pairwise(rows)]
    assert set(steps) == {1}
    passed = [((int(after[2]) - int(before[2])) & 0xFFFFFFFF) / RATE_HZ for before, after in itertools.pairwise(rows)]
    assert all(0 < each < 10 for each in passed)
    times = [float(row[4]) for row in rows]
    span = times[-1] - times[0]
    assert abs(sum(passed) - span) < SPREAD_S, "timestamps do not tell the time that has passed"

    reports = capture.fields(
        file,
        "rtcp.pt == 200",
        "rtcp.senderssrc",
        "rtcp.timestamp.rtp",
        "rtcp.sender.packetcount",
        "frame.time_relative",
    )
    assert reports
    for ssrc, timestamp, count, at in reports:
        assert int(ssrc.split(",")[0], 16) == stream.ssrc
        heard = sum(time <= float(at) for time in times)
        assert heard - 5 <= int(count) <= heard + 50  # the call was up for a moment before it was recorded
        last = rows[heard - 1]
        told = int(last[2]) + (float(at) - times[heard - 1]) * RATE_HZ
        assert abs(((int(timestamp) - round(told) + 0x80000000) & 0xFFFFFFFF) - 0x80000000) < SPREAD_S * RATE_HZ
