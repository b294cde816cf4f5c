"""Every scenario pair with the proxy between: what a caller and a backend do with each other works all the same."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.sipp.pairs import PAIRS, TCP_PAIRS, Pair, assert_clean, call, callee
from tests.testbed.aqueduct import Aqueduct, settings
from tests.testbed.hosts import PROXY
from tests.testbed.sipp import Sipp


@contextmanager
def proxy_before(uas: Sipp, folder: Path, media: str) -> Iterator[Aqueduct]:
    configuration = settings(PROXY, {"uas": uas.local}, folder, media=media, media_ports="20000-20399")
    with Aqueduct(configuration, folder) as proxy:
        proxy.wait_ready()
        try:
            yield proxy
        except Exception as error:
            error.add_note(proxy.log_tail())
            raise


def run_through_proxy(pair: Pair, folder: Path, *, transport: str = "u1", media: str = "relay") -> int:
    """The callee's count of wrong ACKs, after every other check."""
    with callee(pair, folder) as uas:
        with proxy_before(uas, folder, media) as proxy:
            uac, figures = call(pair, folder, proxy.address, transport)
            proxy.wait_for_calls(0)
        assert_clean(pair, uac, figures, uas, proxy)
        assert "Traceback" not in proxy.log.read_text(), proxy.log_tail()
        return uas.figures().counters.get("wrong", 0)


@pytest.mark.parametrize("pair", PAIRS, ids=lambda pair: pair.name)
def test_pair_is_good_through_the_proxy(pair: Pair, tmp_path: Path) -> None:
    # RFC 3261 §13.2.2.4: the ACK of each leg is the proxy's own, with the CSeq of that leg's INVITE.
    assert run_through_proxy(pair, tmp_path) == 0


@pytest.mark.parametrize("pair", TCP_PAIRS, ids=lambda pair: pair.name)
def test_pair_is_good_from_tcp_to_udp(pair: Pair, tmp_path: Path) -> None:
    run_through_proxy(pair, tmp_path, transport="t1")


@pytest.mark.parametrize(
    "pair", [pair for pair in PAIRS if pair.name in ("basic", "late_offer", "hold_callee")], ids=lambda pair: pair.name
)
def test_pair_is_good_in_direct_mode(pair: Pair, tmp_path: Path) -> None:
    run_through_proxy(pair, tmp_path, media="direct")
