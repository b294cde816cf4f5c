"""Cross-checks: what no single value can be wrong about alone. Pure; yields (key path, expectation)."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Iterator, Sequence

from proxy.config.provision import PLACE_NAME
from proxy.config.settings import MediaMode, PoolSettings, Settings
from proxy.config.values import WILDCARDS
from proxy.net.api import Address

_HEADER = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+"), "the name of a header, without colon"
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*"), "the name of a variable, like AMI_SECRET"
_PLACE = re.compile(PLACE_NAME), "capital letters, digits and underscores, as between the @ of a template"

KeyPath = tuple[str | int, ...]
Problem = tuple[KeyPath, str]


def near(word: str, known: list[str]) -> str:
    """`; did you mean "pbx"?` when one of `known` looks like `word`, else nothing."""
    close = difflib.get_close_matches(word, known, n=1, cutoff=0.6)
    return f'; did you mean "{close[0]}"?' if close else ""


def cross_checks(settings: Settings) -> Iterator[Problem]:
    yield from _sip(settings)
    yield from _media(settings)
    yield from _rtpengines(settings)
    if settings.recordings.folders and not settings.uses_media("relay"):
        yield ("recordings", "folders"), "none: without media: relay nothing of a recording is kept"
    for index, webhook in enumerate(settings.alerts.webhooks):
        yield from _names(("alerts", "webhooks", index, "headers"), webhook.headers, _HEADER)
    yield from _backends(settings)
    for name, pool in settings.pools.items():
        yield from _pool(("pools", name), pool)
        yield from _power(("pools", name), pool)
        yield from _control(("pools", name), pool)
        yield from _standby(("pools", name), pool, pool.media or settings.media.mode)
    yield from _routes(settings)


def _names(path: KeyPath, names: Iterable[str], kind: tuple[re.Pattern[str], str]) -> Iterator[Problem]:
    pattern, expected = kind
    for name in names:
        if not pattern.fullmatch(name):
            yield (*path, name), expected


def _sip(settings: Settings) -> Iterator[Problem]:
    sip = settings.sip
    if sip.t2_ms < sip.t1_ms:
        yield ("sip", "t2_ms"), f"t2_ms of at least t1_ms ({sip.t1_ms})"
    if sip.session_expires_s < sip.min_se_s:
        yield ("sip", "session_expires_s"), f"session_expires_s of at least min_se_s ({sip.min_se_s})"
    seen: set[object] = set()
    for index, listen in enumerate(sip.listen):
        if listen in seen and listen.port:
            yield ("sip", "listen", index), f"every listener once; {listen} is there twice"
        seen.add(listen)
        ports = settings.media.ports
        same_host = listen.host in WILDCARDS or any(listen.host == host.bind for host in settings.media.address)
        if listen.transport == "udp" and same_host and ports.first <= listen.port <= ports.last:
            yield ("media", "ports"), f"a range without the SIP port {listen.port} on the same address"
        if listen.host in WILDCARDS and sip.advertised(listen.host) is None:
            family = "IPv6" if ":" in listen.host else "IPv4"
            yield (
                ("sip", "advertise"),
                f"an {family} address for Via and Contact, because {listen} listens on all of them",
            )
    yield from _one_a_family(("sip", "advertise"), sip.advertise)


def _one_a_family(path: KeyPath, hosts: Sequence[str]) -> Iterator[Problem]:
    for index, host in enumerate(hosts):
        if any((":" in other) == (":" in host) for other in hosts[:index]):
            yield (*path, index), "one address of each family at most; this is the second"


def _media(settings: Settings) -> Iterator[Problem]:
    path: KeyPath = ("media", "address")
    hosts = settings.media.address
    yield from _one_a_family(path, [host.bind for host in hosts])
    for index, host in enumerate(hosts):
        if host.advertised in WILDCARDS:  # in a session description it means "on hold" (RFC 3264 §8.4)
            yield (*path, index), f"what peers shall send to, like {host.bind}=192.0.2.1"


def _rtpengines(settings: Settings) -> Iterator[Problem]:
    media = settings.media
    if settings.uses_media("rtpengine") and not media.nodes:
        yield ("media", "nodes"), "at least one rtpengine, because media: rtpengine is asked for"
    seen: set[Address] = set()
    for index, node in enumerate(media.nodes):
        if node.address in seen:
            yield ("media", "nodes", index, "address"), "every rtpengine once; this address is there twice"
        seen.add(node.address)


def _backends(settings: Settings) -> Iterator[Problem]:
    names: dict[str, str] = {}
    addresses: dict[Address, str] = {}
    ours = {(listen.host, listen.port) for listen in settings.sip.listen}
    carried = {(listen.transport, ":" in listen.host) for listen in settings.sip.listen}
    for pool_name, pool in settings.pools.items():
        for name, backend in pool.backends.items():
            path: KeyPath = ("pools", pool_name, "backends", name)
            if name in names:
                yield path, f"a backend name that is unique over all pools; {names[name]} has it too"
            names[name] = f"pool {pool_name}"
            address = backend.address
            if address in addresses:
                yield (*path, "address"), f"an address of its own; {addresses[address]} has this one too"
            addresses[address] = f"backend {name}"
            if address in ours:
                yield (*path, "address"), "the address of a backend; this one is our own listener"
            inet6 = ":" in address[0]
            if (backend.transport, inet6) not in carried:
                key = "address" if any(transport == backend.transport for transport, _ in carried) else "transport"
                family = "IPv6" if inet6 else "IPv4"
                yield (*path, key), f"what sip.listen can reach: it has no {backend.transport} listener for {family}"


def _control(path: KeyPath, pool: PoolSettings) -> Iterator[Problem]:
    for name, backend in pool.backends.items():
        control = backend.control
        if control is not None and not control.user and control.protocol != "esl":
            yield (*path, "backends", name, "control", "user"), f"a user: {control.protocol} has no log-in without one"


def _power(path: KeyPath, pool: PoolSettings) -> Iterator[Problem]:
    compared = {name: backend for name, backend in pool.backends.items() if backend.parity is not None}
    if compared and not any(backend.role == "primary" for backend in compared.values()):
        yield (
            (*path, "backends", next(iter(compared)), "parity"),
            "parity on a primary too: with it the others are compared",
        )
    for name, backend in pool.backends.items():
        here: KeyPath = (*path, "backends", name)
        power = backend.power
        if power is not None:
            if len(power.kinds) != 1:
                yield (*here, "power"), "exactly one of exec, systemd, docker and http"
            if power.exec is not None:
                yield from _names((*here, "power", "exec", "environment"), power.exec.environment, _VARIABLE)
            if power.http is not None:
                yield from _names((*here, "power", "http", "headers"), power.http.headers, _HEADER)
        if backend.provision is not None:
            yield from _names((*here, "provision", "values"), backend.provision.values, _PLACE)
        if backend.parity is not None and not backend.parity.sources:
            yield (*here, "parity"), "at least one of files, command, url and required"
        if backend.standby == "cold":
            if backend.role != "backup":
                yield (*here, "standby"), "warm: only a backup can be cold"
            elif power is None:
                yield (*here, "standby"), "warm: without power nobody can start it"
            elif power.ready_timeout_s > pool.recovery.deadline_s:
                yield (
                    (*here, "power", "ready_timeout_s"),
                    f"at most recovery.deadline_s ({pool.recovery.deadline_s:g}): calls do not wait for longer",
                )


def _pool(path: KeyPath, pool: PoolSettings) -> Iterator[Problem]:
    if all(backend.role == "backup" for backend in pool.backends.values()):
        yield (*path, "backends"), "at least one backend with role primary"
    health = pool.health
    if health.fast_interval_ms > health.interval_ms:
        yield (
            (*path, "health", "fast_interval_ms"),
            f"fast_interval_ms of at most interval_ms ({health.interval_ms})",
        )
    if health.timeout_max_ms < health.timeout_min_ms:
        yield (*path, "health", "timeout_max_ms"), f"at least timeout_min_ms ({health.timeout_min_ms})"
    if health.silence_max_ms < health.silence_min_ms:
        yield (*path, "health", "silence_max_ms"), f"at least silence_min_ms ({health.silence_min_ms})"
    if health.silence_min_ms < 2 * health.interval_ms:
        yield (
            (*path, "health", "silence_min_ms"),
            f"at least two intervals ({2 * health.interval_ms}): silence shorter than that is no silence",
        )
    if health.rtp_silence_ms < health.rtp_suspect_ms:
        yield (*path, "health", "rtp_silence_ms"), f"at least rtp_suspect_ms ({health.rtp_suspect_ms})"
    if health.rtp_dead_ms < health.rtp_silence_ms:
        yield (*path, "health", "rtp_dead_ms"), f"at least rtp_silence_ms ({health.rtp_silence_ms})"


def _standby(path: KeyPath, pool: PoolSettings, mode: MediaMode) -> Iterator[Problem]:
    if pool.standby == "hot":
        if not pool.recover:
            yield (*path, "standby"), "warm: calls of a pool with recover: false are never carried over"
        if mode != "relay":
            yield (*path, "standby"), "warm: without media: relay nobody can let two backends hear the caller"
        if len(pool.backends) < 2:
            yield (*path, "standby"), "warm: hot needs a second backend"
    elif pool.hot_for:
        yield (*path, "hot_for"), "no rules with standby: warm"
    for index, rule in enumerate(pool.hot_for):
        yield from _names((*path, "hot_for", index, "header"), rule.header, _HEADER)


def _routes(settings: Settings) -> Iterator[Problem]:
    known = list(settings.pools)
    for index, route in enumerate(settings.routes):
        path: KeyPath = ("routes", index)
        for key, pool in (("pool", route.pool), ("from_pool", route.from_pool)):
            if pool is not None and pool not in settings.pools:
                yield (*path, key), f"the name of a pool ({', '.join(known)}){near(pool, known)}"
        yield from _names((*path, "header"), route.header, _HEADER)
        anything = route.from_pool is None and route.source is None and route.user is None and not route.header
        if anything and index < len(settings.routes) - 1:
            yield path, "conditions: this route takes everything, so those below it are never reached"
