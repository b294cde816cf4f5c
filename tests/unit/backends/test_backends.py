"""Selection, lookup and routing."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable

import pytest

from proxy.backends import Admin, Backend, Backends, Pool, Router, Verdict
from proxy.config import BackendSettings, parse
from proxy.config.settings import PoolSettings

CONFIG = """
sip: {listen: ["udp:127.0.0.1:5060", "udp:[::1]:5060"]}
pools:
  pbx:
    backends:
      as1: {address: "127.0.2.11:5060", calls_max: 3}
      as2: {address: "127.0.2.12:5060"}
      as3: {address: "127.0.2.12:5070", role: backup}
  carriers:
    recover: false
    media: direct
    backends: {tel1: {address: "127.0.2.50:5060"}, tel6: {address: "[2001:db8::50]:5060"}}
routes:
  - {from_pool: pbx, pool: carriers}
  - {source: 10.0.0.0/8, user: "^9", header: {X-Tenant: "^acme$"}, pool: carriers}
  - {source: "2001:db8:1::/48", pool: carriers}
  - {source: 192.0.2.0/24, pool: pbx}
"""


def pool(**weights: int) -> Pool:
    """A pool whose members are up; a name that starts with b is a backup."""
    members = {
        name: BackendSettings.model_validate(
            {
                "address": f"127.0.2.{index}:5060",
                "weight": weight,
                "role": "backup" if name[0] == "b" else "primary",
            }
        )
        for index, (name, weight) in enumerate(weights.items(), 1)
    }
    made = Pool("pbx", PoolSettings(backends=members), "relay")
    for backend in made.members:
        backend.verdict = Verdict.UP
    return made


def member(pool: Pool, name: str) -> Backend:
    return next(backend for backend in pool.members if backend.name == name)


def selected(pool: Pool, now: float = 100.0, rounds: int = 400) -> Counter[str]:
    rng = random.Random(7)
    return Counter(str(getattr(pool.select(now, rng), "name", None)) for _ in range(rounds))


def test_primaries_take_calls_and_backups_do_not() -> None:
    assert set(selected(pool(p1=1, p2=1, b1=1))) == {"p1", "p2"}


def test_a_lone_member_is_taken_without_chance() -> None:
    made = pool(p1=1, b1=1)
    assert made.select(0.0, random.Random(1)) is member(made, "p1")


@pytest.mark.parametrize(
    "fault",
    [
        lambda b: setattr(b, "verdict", Verdict.DOWN),
        lambda b: setattr(b, "verdict", Verdict.SUSPECT),
        lambda b: setattr(b, "verdict", Verdict.DEGRADED),
        lambda b: setattr(b, "verdict", Verdict.UNKNOWN),
        lambda b: setattr(b, "admin", Admin.DRAIN),
        lambda b: setattr(b, "admin", Admin.MAINT),
        lambda b: setattr(b, "fenced", True),
        lambda b: setattr(b, "retry_after_until", 100.5),
        lambda b: (setattr(b, "calls_max", 5), setattr(b, "calls", 5)),
    ],
)
def test_the_backup_takes_calls_when_the_primary_cannot(fault: Callable[[Backend], None]) -> None:
    made = pool(p1=1, b1=1)
    fault(member(made, "p1"))
    assert set(selected(made)) == {"b1"}


@pytest.mark.parametrize("verdict", [Verdict.UNKNOWN, Verdict.DEGRADED, Verdict.SUSPECT])
def test_an_ailing_backend_is_better_than_none(verdict: Verdict) -> None:
    made = pool(p1=1)
    member(made, "p1").verdict = verdict
    assert set(selected(made)) == {"p1"}


@pytest.mark.parametrize(
    ("better", "worse"),
    [
        (Verdict.UP, Verdict.DEGRADED),
        (Verdict.DEGRADED, Verdict.UNKNOWN),
        (Verdict.UNKNOWN, Verdict.SUSPECT),
    ],
)
def test_the_verdict_goes_before_the_role(better: Verdict, worse: Verdict) -> None:
    made = pool(p1=1, b1=1)
    member(made, "p1").verdict, member(made, "b1").verdict = worse, better
    assert set(selected(made)) == {"b1"}
    member(made, "p1").verdict = better
    assert set(selected(made)) == {"p1"}


def test_nobody_is_selected_when_all_are_down_or_excluded() -> None:
    made = pool(p1=1, p2=1)
    member(made, "p1").verdict = Verdict.DOWN
    assert made.select(0.0, random.Random(1), exclude={member(made, "p2")}) is None


def test_a_backend_is_usable_again_after_its_retry_after() -> None:
    made = pool(p1=1)
    member(made, "p1").retry_after_until = 50.0
    assert made.select(49.9, random.Random(1)) is None
    assert made.select(50.0, random.Random(1)) is member(made, "p1")


def test_calls_are_spread_by_weight_and_load() -> None:
    made = pool(p1=1, p2=3)
    rng = random.Random(3)
    for _ in range(1000):
        backend = made.select(100.0, rng)
        assert backend is not None
        backend.calls += 1
    assert member(made, "p1").calls == pytest.approx(250, abs=15)
    assert member(made, "p2").calls == pytest.approx(750, abs=15)


def test_the_less_loaded_one_catches_up() -> None:
    made = pool(p1=1, p2=1)
    member(made, "p1").calls = 100
    chosen = selected(made)
    assert chosen["p2"] > 2 * chosen["p1"]


def test_a_returned_backend_starts_slowly() -> None:
    made = pool(p1=1, p2=1)
    member(made, "p1").up_since = 100.0
    assert selected(made, now=101.0)["p1"] < 60
    member(made, "p1").up_since = 10.0
    assert selected(made, now=101.0)["p1"] > 100


def test_backends_are_found_by_name_and_source() -> None:
    backends = Backends(parse(CONFIG))
    as1, as2, as3 = (backends.get(name) for name in ("as1", "as2", "as3"))
    assert as1 is not None and as2 is not None and as3 is not None and backends.get("as9") is None
    assert backends.from_source(("127.0.2.11", 5060)) is as1
    assert backends.from_source(("127.0.2.12", 5070)) is as3
    assert backends.from_source(("127.0.2.11", 40000)) is as1, "a TCP request has a port of its own"
    assert backends.from_source(("127.0.2.12", 40000)) is None, "two backends live there"
    assert backends.from_source(("127.0.2.99", 5060)) is None
    assert backends.pool_of(as3) is backends.pools["pbx"]
    assert [pool.media_mode for pool in backends.pools.values()] == ["relay", "direct"]
    assert [backend.name for backend in backends] == ["as1", "as2", "as3", "tel1", "tel6"]


def test_what_the_operator_set_survives_a_restart() -> None:
    before, after = Backends(parse(CONFIG)), Backends(parse(CONFIG))
    as2 = before.get("as2")
    assert as2 is not None
    as2.admin, as2.weight, as2.fenced, as2.verdict = Admin.DRAIN, 7, True, Verdict.DOWN
    snapshot = before.snapshot()
    snapshot["backends"]["gone"] = {"v": 1}

    after.restore(snapshot)

    as2 = after.get("as2")
    assert as2 is not None
    assert (as2.admin, as2.weight, as2.fenced) == (Admin.DRAIN, 7, True)
    assert as2.verdict is Verdict.UNKNOWN, "health is learned again"


def test_a_snapshot_of_another_version_is_refused() -> None:
    backends = Backends(parse(CONFIG))
    with pytest.raises(ValueError, match="version 2"):
        backends.restore({"v": 2})
    with pytest.raises(ValueError, match="as1: version None"):
        backends.restore({"v": 1, "backends": {"as1": {}}})


@pytest.mark.parametrize(
    ("source", "user", "headers", "chosen"),
    [
        (("127.0.2.11", 5060), "100", {}, "carriers"),
        (("10.1.2.3", 5060), "900", {"X-Tenant": "acme"}, "carriers"),
        (("10.1.2.3", 5060), "800", {"X-Tenant": "acme"}, None),
        (("10.1.2.3", 5060), "900", {"X-Tenant": "acme2"}, None),
        (("10.1.2.3", 5060), "900", {}, None),
        (("192.0.2.9", 5060), "900", {}, "pbx"),
        (("::ffff:192.0.2.9", 5060), "900", {}, "pbx"),
        (("2001:db8:1::7", 5060), "1", {}, "carriers"),
        (("fe80::7%eth0", 5060), "1", {}, None),
    ],
)
def test_the_first_route_whose_conditions_all_hold_decides(
    source: tuple[str, int], user: str, headers: dict[str, str], chosen: str | None
) -> None:
    settings = parse(CONFIG)
    pool = Router(settings.routes, Backends(settings)).route(source, user, headers.get)
    assert (pool.name if pool else None) == chosen
