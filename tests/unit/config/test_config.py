"""A configuration is accepted as a whole, or refused with every fault located."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from pydantic import BaseModel, ValidationError

from proxy.config import ConfigError, Fault, Listen, PortRange, Settings, load, parse
from proxy.config.settings import HealthSettings, PoolSettings, RouteSettings, RtpengineSettings
from proxy.serve import relay_options

GOOD = """\
node:
  name: aqueduct
  state_dir: /var/lib/aqueduct
sip:
  listen: ["udp:127.0.0.1:5060", "tcp:127.0.0.1:5060", "udp:[::1]:5060"]
  advertise: null
media:
  mode: relay
  ports: 20000-29999
pools:
  pbx:
    media: direct
    health: {interval_ms: 50, fast_interval_ms: 10, rise: 3}
    recovery: {deadline_s: 30, pace_per_s: 500, unanswered_max: 64}
    backends:
      as1: {address: "127.0.0.11:5060", transport: udp, role: primary, weight: 1, calls_max: 1000}
      as2: {address: "127.0.0.12", role: backup}
  carriers:
    recover: false
    backends: {tel1: {address: "[2001:db8::50]:5070"}}
routes:
  - {from_pool: pbx, pool: carriers}
  - {source: 10.0.0.0/8, user: "^9.*", header: {X-Tenant: "^acme$"}, pool: pbx}
  - {pool: pbx}
"""


def faults_of(old: str, new: str, **environ: str) -> list[Fault]:
    assert old in GOOD
    with pytest.raises(ConfigError) as caught:
        parse(GOOD.replace(old, new, 1), "test.yaml", environ)
    return caught.value.faults


ONE_ROUTE = "pools:\n  pbx:\n    backends:\n      as1: {address: 192.0.2.1}\nroutes:\n"


@pytest.mark.parametrize(
    ("route", "fault"),
    [
        ('  - {pool: pbx, user: "["}', "routes[0].user"),
        ("  - {pool: pbx, sorce: 10.0.0.0/8}", "routes[0].sorce"),
        ("  []", "routes: expected at least one entry"),
    ],
)
def test_a_fault_in_the_only_route_is_one_fault(route: str, fault: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse(ONE_ROUTE + route)
    (found,) = caught.value.faults
    assert fault in str(found)


def test_words_that_yaml_once_took_for_truths_are_names() -> None:
    settings = parse(GOOD.replace("as1:", "no:").replace("pbx", "on").replace("recover: false", "recover: no"))
    assert "no" in settings.pools["on"].backends and settings.routes[-1].pool == "on"
    assert settings.pools["carriers"].recover is False


def test_a_name_that_is_a_number_is_named_at_its_place() -> None:
    (fault,) = faults_of("as1:", "12:")
    assert (fault.key, fault.line) == ("pools.pbx.backends.12", 16)
    assert "starts with a letter" in fault.expected


def test_text_that_is_no_name_is_not_said_to_be_one() -> None:
    (fault,) = faults_of("{interval_ms: 50,", "{synthetic: {extension: a@b}, interval_ms: 50,")
    assert (fault.key, fault.value) == ("pools.pbx.health.synthetic.extension", "'a@b'")
    assert fault.expected == r"text that matches ^[^\s@<>;?]+$"


def test_a_good_file_becomes_settings() -> None:
    settings = parse(GOOD)

    assert settings.sip.listen == (
        Listen("udp", "127.0.0.1", 5060), Listen("tcp", "127.0.0.1", 5060), Listen("udp", "::1", 5060)
    )  # fmt: skip
    assert settings.media.ports == PortRange(20000, 29999)
    pbx = settings.pools["pbx"]
    assert pbx.media == "direct" and pbx.recover
    assert pbx.health.fast_interval_ms == 10 and pbx.health.silence_min_ms == HealthSettings().silence_min_ms
    assert pbx.backends["as1"].address == ("127.0.0.11", 5060) and pbx.backends["as1"].calls_max == 1000
    assert pbx.backends["as2"].address == ("127.0.0.12", 5060) and pbx.backends["as2"].role == "backup"
    assert settings.pools["carriers"].backends["tel1"].address == ("2001:db8::50", 5070)
    assert settings.routes[1].user is not None and settings.routes[1].user.pattern == "^9.*"


def test_rtpengines_are_named_by_their_ng_address() -> None:
    nodes = '[{address: "192.0.2.7"}, {address: "[2001:db8::7]:2300", weight: 3}]'
    media = parse(GOOD.replace("mode: relay", f"mode: rtpengine\n  nodes: {nodes}")).media

    assert [(node.address, node.weight) for node in media.nodes] == [
        (("192.0.2.7", 2223), 1),
        (("2001:db8::7", 2300), 3),
    ]


@pytest.mark.parametrize(
    ("address", "expected", "seen_as"),
    [
        ("192.0.2.1", ["192.0.2.1"], "192.0.2.1"),
        ("192.0.2.1=203.0.113.9", ["192.0.2.1=203.0.113.9"], "203.0.113.9"),
        ("[192.0.2.1=203.0.113.9, '2001:DB8::1']", ["192.0.2.1=203.0.113.9", "2001:db8::1"], "203.0.113.9"),
        ("['[2001:db8::1]', 192.0.2.1]", ["2001:db8::1", "192.0.2.1"], "2001:db8::1"),
        ("0.0.0.0=203.0.113.9", ["0.0.0.0=203.0.113.9"], "203.0.113.9"),
    ],
)
def test_addresses_for_media(address: str, expected: list[str], seen_as: str) -> None:
    settings = parse(GOOD.replace("mode: relay", f"address: {address}"))
    assert [str(host) for host in settings.media.address] == expected
    assert settings.media.seen_as == seen_as
    assert list(relay_options(settings).hosts) == expected
    assert Settings.model_validate_json(settings.model_dump_json()) == settings


def test_a_prompt_is_played_by_the_relay() -> None:
    assert relay_options(parse(GOOD)).prompt == ""
    settings = parse(GOOD.replace("mode: relay", "prompt: /srv/please-hold.wav"))
    assert "/srv/please-hold.wav" in relay_options(settings).argv()


def test_each_listener_shows_the_address_of_its_family() -> None:
    sip = parse(GOOD.replace("advertise: null", 'advertise: [203.0.113.9, "2001:db8::9"]')).sip
    assert (sip.advertised("127.0.0.1"), sip.advertised("::1")) == ("203.0.113.9", "2001:db8::9")
    sip = parse(GOOD.replace("advertise: null", "advertise: 203.0.113.9")).sip
    assert (sip.advertised("127.0.0.1"), sip.advertised("::1")) == ("203.0.113.9", None)


def test_a_hot_pool_names_the_calls_that_have_a_standby() -> None:
    hot = "media: relay\n    standby: hot\n    hot_for: [{user: ^conf-}, {header: {X-Role: agent}}]"
    pool = parse(GOOD.replace("media: direct", hot)).pools["pbx"]
    assert pool.standby == "hot"
    by_user, by_header = pool.hot_for
    assert by_user.user is not None and by_user.user.pattern == "^conf-"
    assert by_header.header["X-Role"].pattern == "agent"


@pytest.mark.parametrize(
    ("new", "key", "expected"),
    [
        ("media: direct\n    standby: hot", "pools.pbx.standby", "relay"),
        ("media: relay\n    standby: hot\n    recover: false", "pools.pbx.standby", "recover"),
        ("media: relay\n    hot_for: [{user: x}]", "pools.pbx.hot_for", "warm"),
        ("media: relay\n    standby: hot\n    hot_for: [{header: {'X Role': x}}]", "pools.pbx.hot_for", "header"),
    ],
)
def test_a_standby_that_could_never_be_is_refused(new: str, key: str, expected: str) -> None:
    (fault,) = faults_of("media: direct", new)
    assert fault.key.startswith(key) and expected in fault.expected


def test_settings_are_frozen() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        parse(GOOD).sip.t1_ms = 1


def test_settings_can_be_written_out_and_read_back() -> None:
    settings = parse(GOOD)
    assert Settings.model_validate_json(settings.model_dump_json()) == settings


@pytest.mark.parametrize(
    ("old", "new", "line", "column", "key", "value", "expected"),
    [
        ("interval_ms: 50", "intervall_ms: 50", 13, 14, "pools.pbx.health.intervall_ms", None, '"interval_ms"?'),
        ("routes:", "route:", 1, 1, "routes", None, "no default"),
        ("interval_ms: 50", "interval_ms: 5", 13, 27, "pools.pbx.health.interval_ms", "'5'", "equal to 20"),
        ("interval_ms: 50", "interval_ms: soon", 13, 27, "pools.pbx.health.interval_ms", "'soon'", "integer"),
        ("role: backup", "role: bakup", 17, 42, "pools.pbx.backends.as2.role", "'bakup'", '"backup"?'),
        ("127.0.0.12", "pbx.local", 17, 22, "pools.pbx.backends.as2.address", "'pbx.local'", "numeric"),
        ("0.11:5060", "0.11:99999", 16, 22, "pools.pbx.backends.as1.address", "'127.0.0.11:99999'", "65535"),
        ("127.0.0.12", "127.0.0.11", 17, 22, "pools.pbx.backends.as2.address", "'127.0.0.11'", "as1 has"),
        ("127.0.0.12", "127.0.0.1", 17, 22, "pools.pbx.backends.as2.address", "'127.0.0.1'", "our own listener"),
        ("tel1", "as1", 20, 21, "pools.carriers.backends.as1", None, "unique"),
        ("tel1", "1tel", 20, 16, "pools.carriers.backends.1tel", None, "starts with a letter"),
        ("role: primary", "role: backup", 16, 7, "pools.pbx.backends", None, "role primary"),
        ("{tel1: {address: '2'}}", "{}", 20, 15, "pools.carriers.backends", None, "at least one"),
        ("10.0.0.0/8", "10.0.0.1/8", 23, 14, "routes[1].source", "'10.0.0.1/8'", "did you mean 10.0.0.0/8?"),
        ('"^9.*"', '"^9("', 23, 32, "routes[1].user", "'^9('", "position 2"),
        ("X-Tenant:", '"X Tenant":', 23, 61, "routes[1].header.X Tenant", "'^acme$'", "name of a header"),
        ("pool: carriers", "pool: carrier", 22, 28, "routes[0].pool", "'carrier'", 'did you mean "carriers"?'),
        ("from_pool: pbx", "from_pool: pbz", 22, 17, "routes[0].from_pool", "'pbz'", 'did you mean "pbx"?'),
        ("from_pool: pbx, ", "", 22, 5, "routes[0]", None, "never reached"),
        ("20000-29999", "29999-20000", 9, 10, "media.ports", "'29999-20000'", "below"),
        ("20000-29999", "20000", 9, 10, "media.ports", "'20000'", "two ports"),
        ("20000-29999", "80-29999", 9, 10, "media.ports", "'80-29999'", "1024"),
        ("20000-29999", "5000-29999", 9, 10, "media.ports", "'5000-29999'", "without the SIP port 5060"),
        ("udp:127.0.0.1:5060", "sctp:127.0.0.1:5060", 5, 12, "sip.listen[0]", "'sctp:127.0.0.1:5060'", "udp:"),
        ("tcp:127.0.0.1:5060", "udp:127.0.0.1:5060", 5, 34, "sip.listen[1]", "'udp:127.0.0.1:5060'", "twice"),
        ("udp:127.0.0.1:5060", "udp:0.0.0.0:5060", 6, 14, "sip.advertise", "'null'", "Via and Contact"),
        (', "udp:[::1]:5060"', "", 20, 32, "pools.carriers.backends.tel1.address", "'[2001:db8::50]:5070'", "for IPv6"),
        (
            '5070"}',
            '5070", transport: tcp}',
            20,
            32,
            "pools.carriers.backends.tel1.address",
            "'[2001:db8::50]:5070'",
            "tcp listener for IPv6",
        ),
        ("advertise: null", "t2_ms: 100", 6, 10, "sip.t2_ms", "'100'", "at least t1_ms (500)"),
        ("advertise: null", "min_se_s: 3600", 5, 3, "sip.session_expires_s", None, "min_se_s (3600)"),
        ("fast_interval_ms: 10", "fast_interval_ms: 99", 13, 49, "pools.pbx.health.fast_interval_ms", "'99'", "50"),
        ("interval_ms: 50", "interval_ms: 200", 13, 13, "pools.pbx.health.silence_min_ms", None, "400"),
        ("mode: relay", "mode: relay\n  mode: direct", 9, 3, "media.mode", None, "line 8 already"),
        ("mode: relay", "mode: rtpengine", 8, 3, "media.nodes", None, "at least one rtpengine"),
        (
            "mode: relay",
            "nodes: [{address: 1.2.3.4}, {address: 1.2.3.4}]",
            8,
            41,
            "media.nodes[1].address",
            "'1.2.3.4'",
            "twice",
        ),
        ("mode: relay", "address: pbx.local", 8, 12, "media.address[0]", "'pbx.local'", "numeric"),
        ("mode: relay", "address: [1.2.3.4, 1.2.3.5]", 8, 22, "media.address[1]", "'1.2.3.5'", "one address of each"),
        ("mode: relay", "address: '1.2.3.4=::1'", 8, 12, "media.address[0]", "'1.2.3.4=::1'", "of one family"),
        ("mode: relay", "address: 0.0.0.0", 8, 12, "media.address[0]", "'0.0.0.0'", "0.0.0.0=192.0.2.1"),
        ("mode: relay", "address: []", 8, 12, "media.address", None, "at least one"),
        ("udp:[::1]:5060", "udp:[::]:5060", 6, 14, "sip.advertise", "'null'", "an IPv6 address for Via"),
        ("advertise: null", "advertise: [1.2.3.4, 1.2.3.5]", 6, 24, "sip.advertise[1]", "'1.2.3.5'", "second"),
        ("mode: relay", "mode: ${MODE}", 8, 9, "media.mode", None, "environment variable MODE"),
        ("mode: relay", "mode: {", 10, 6, "", None, "YAML"),
        ("pools:", "pools: 5 #", 11, 3, "", None, "YAML"),
    ],
)
def test_a_fault_is_located(
    old: str, new: str, line: int, column: int, key: str, value: str | None, expected: str
) -> None:
    if old.startswith("{tel1"):
        old = '{tel1: {address: "[2001:db8::50]:5070"}}'

    faults = [fault for fault in faults_of(old, new) if fault.key == key]

    assert len(faults) == 1
    fault = faults[0]
    assert (fault.file, fault.line, fault.column, fault.value) == ("test.yaml", line, column, value)
    assert expected in fault.expected


def test_a_backend_needs_a_listener_of_its_transport() -> None:
    with pytest.raises(ConfigError) as caught:
        parse(GOOD.replace('"tcp:127.0.0.1:5060", ', "").replace("transport: udp", "transport: tcp"))
    (fault,) = caught.value.faults
    assert (fault.line, fault.key, fault.value) == (16, "pools.pbx.backends.as1.transport", "'tcp'")
    assert "no tcp listener for IPv4" in fault.expected


def test_all_faults_are_reported_at_once() -> None:
    text = GOOD.replace("interval_ms: 50", "interval_ms: 5").replace("role: backup", "role: none")
    with pytest.raises(ConfigError) as caught:
        parse(text)
    assert [fault.line for fault in caught.value.faults] == [13, 17]
    assert len(str(caught.value).splitlines()) == 2


def test_a_fault_reads_as_one_line() -> None:
    (fault,) = faults_of("role: backup", "role: bakup")
    assert str(fault) == (
        "test.yaml:17:42: pools.pbx.backends.as2.role: got 'bakup', "
        "expected 'primary' or 'backup'; did you mean \"backup\"?"
    )


def test_values_come_from_the_environment() -> None:
    text = GOOD.replace("127.0.0.12", "${BACKUP}").replace("rise: 3", "rise: '${RISE:-7}'")
    pbx = parse(text, environ={"BACKUP": "192.0.2.7:5080"}).pools["pbx"]
    assert pbx.backends["as2"].address == ("192.0.2.7", 5080)
    assert pbx.health.rise == 7


def test_a_shared_part_can_be_an_anchor() -> None:
    text = GOOD.replace("health: {", "health: &watch {", 1).replace(
        "recover: false", "recover: false\n    health: {<<: *watch, rise: 9}"
    )
    health = parse(text).pools["carriers"].health
    assert health.fast_interval_ms == 10 and health.rise == 9


@pytest.mark.parametrize("text", ["", "# nothing\n", "[]", "5", "a: b: c", "\x00", "pools: !!python/name:os.x {}"])
def test_what_is_not_a_configuration_is_refused_with_a_place(text: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse(text)
    assert all(fault.line >= 1 and fault.column >= 1 and fault.expected for fault in caught.value.faults)


def test_a_file_is_loaded(tmp_path: Path) -> None:
    path = tmp_path / "aqueduct.yaml"
    path.write_text(GOOD)
    assert load(path) == parse(GOOD)


def test_a_file_that_is_not_there_is_a_fault(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="No such file"):
        load(tmp_path / "none.yaml")


def test_bytes_that_are_not_text_are_a_fault(tmp_path: Path) -> None:
    path = tmp_path / "aqueduct.yaml"
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigError, match="UTF-8"):
        load(path)


def _sections(model: type[BaseModel], seen: set[type[BaseModel]]) -> set[type[BaseModel]]:
    seen.add(model)
    for field in model.model_fields.values():
        for part in (field.annotation, *getattr(field.annotation, "__args__", ())):
            if isinstance(part, type) and issubclass(part, BaseModel) and part not in seen:
                _sections(part, seen)
    return seen


def test_every_key_is_documented_and_every_number_bounded() -> None:
    sections = _sections(Settings, set())
    assert {PoolSettings, HealthSettings, RouteSettings, RtpengineSettings} <= sections  # however deep they are
    for section in sections:
        for name, field in section.model_fields.items():
            assert field.description, f"{section.__name__}.{name}"
            if re.search(r"_(ms|s|max|min|per_s|bytes_max)$", name):
                assert len(field.metadata) >= 2 or "None" in str(field.annotation), f"{section.__name__}.{name}"
