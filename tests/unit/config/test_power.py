"""Power in the configuration: one driver a backend, cold standbys that can be started, secrets that nobody prints."""

from __future__ import annotations

from pathlib import Path

import pytest

from proxy.config import ConfigError, Settings, parse

EXEC = "power: {exec: {start: /bin/start, stop: /bin/stop}}"


def text(as2: str, pool: str = "") -> str:
    return (
        f"pools:\n  pbx:\n    {pool or 'recover: true'}\n    backends:\n      as1: {{address: 192.0.2.1}}\n"
        f"      as2: {{address: 192.0.2.2, {as2}}}\nroutes: [{{pool: pbx}}]\n"
    )


def good(as2: str, **environ: str) -> Settings:
    return parse(text(as2), environ=environ)


def fault(as2: str, pool: str = "", **environ: str) -> str:
    with pytest.raises(ConfigError) as caught:
        parse(text(as2, pool), environ=environ)
    (found,) = caught.value.faults
    return str(found)


def test_a_command_is_a_line_or_a_list() -> None:
    power = good("power: {exec: {start: \"/bin/start --name 'as 2'\", stop: [/bin/stop, as 2]}}").pools["pbx"].backends[
        "as2"
    ].power  # fmt: skip
    assert power is not None and power.exec is not None
    assert (power.exec.start, power.exec.stop) == (("/bin/start", "--name", "as 2"), ("/bin/stop", "as 2"))


@pytest.mark.parametrize("command", ['""', '"\'unclosed"', "[]", "{}"])
def test_what_is_no_command_is_refused_at_its_place(command: str) -> None:
    assert "power.exec.start" in fault(f"power: {{exec: {{start: {command}, stop: /bin/stop}}}}")


def test_a_backend_has_one_driver() -> None:
    assert "exactly one of exec, systemd" in fault("power: {ready_timeout_s: 5}")
    two = "power: {exec: {start: /bin/a, stop: /bin/b}, systemd: {unit: asterisk.service}}"
    assert "exactly one of exec, systemd" in fault(two)
    assert 'did you mean "systemd"' in fault("power: {systmd: {unit: asterisk.service}}")


@pytest.mark.parametrize(
    ("as2", "key", "expected"),
    [
        ("power: {systemd: {unit: asterisk}}", "power.systemd.unit", "a service or target, like asterisk.service"),
        ("power: {docker: {container: a/b}}", "power.docker.container", "the name or id of a container"),
        ("power: {http: {start: 'http://a:99999', stop: 'http://a'}}", "power.http.start", "a URL like https://"),
        ("power: {http: {start: 'http://a', stop: 'http://[::1'}}", "power.http.stop", "a URL like https://"),
        ("power: {http: {start: 'http://a b', stop: 'http://a'}}", "power.http.start", "a URL like https://"),
        ("power: {exec: {start: [/a, null], stop: /b}}", "power.exec.start", "a program and its arguments"),
        ("power: {exec: {start: {a: b}, stop: /b}}", "power.exec.start", "a program and its arguments"),
        ("role: backup, parity: {url: 'ftp://a'}", "parity.url", "a URL like https://"),
    ],
)
def test_what_is_wrong_is_named_by_its_key_with_what_was_expected(as2: str, key: str, expected: str) -> None:
    told = fault(as2)
    assert told.startswith("aqueduct.yaml:6:") and f" pools.pbx.backends.as2.{key}: " in told and expected in told


@pytest.mark.parametrize(
    ("as2", "key", "expected"),
    [
        ("power: {exec: {start: /a, stop: /b, environment: {A=B: hush}}}", "environment.A=B", "the name of a variable"),
        ("power: {http: {start: 'http://a', stop: 'http://a', headers: {'X Y': hush}}}", "X Y", "the name of a header"),
        ("provision: {values: {secret: hush}}", "provision.values.secret", "capital letters, digits and underscores"),
        ("provision: {values: {SECRET: [hush]}}", "provision.values.SECRET", "text"),
        ("control: {protocol: ami, user: lab, secret: 4711}", "control.secret", "text"),
    ],
)
def test_a_fault_of_a_secret_does_not_tell_it(as2: str, key: str, expected: str) -> None:
    told = fault(as2)
    assert f"{key}: expected {expected}" in told and "hush" not in told and "4711" not in told


def test_parity_looks_at_something_and_compares_with_a_primary() -> None:
    assert "parity: expected at least one of files, command, url and required" in fault("role: primary, parity: {}")
    assert "parity: expected parity on a primary too" in fault("role: backup, parity: {files: {a: /a}}")


def test_a_cold_standby_is_a_backup_that_can_be_started_in_time() -> None:
    assert good(f"role: backup, standby: cold, {EXEC}").pools["pbx"].backends["as2"].standby == "cold"
    assert "only a backup can be cold" in fault(f"standby: cold, {EXEC}")
    assert "nobody can start it" in fault("role: backup, standby: cold")
    too_late = fault(f"role: backup, standby: cold, {EXEC}", "recovery: {deadline_s: 10}")
    assert "at most recovery.deadline_s (10)" in too_late


def test_secrets_come_from_the_environment_or_a_file_and_are_not_printed(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("from the file\n")
    entry = f'power: {{exec: {{start: /a, stop: /b, environment: {{A: "${{A}}", B: "${{file:{tmp_path}/secret}}"}}}}}}'
    settings = good(entry, A="12345")
    power = settings.pools["pbx"].backends["as2"].power
    assert power is not None and power.exec is not None
    assert {name: value.get_secret_value() for name, value in power.exec.environment.items()} == {
        "A": "12345", "B": "from the file"
    }  # fmt: skip
    for printed in (repr(settings), settings.model_dump_json()):
        assert "12345" not in printed and "from the file" not in printed


def test_a_secret_that_cannot_be_read_is_a_fault_at_its_place() -> None:
    assert fault('power: {exec: {start: "${file:/nowhere/x}", stop: /b}}').endswith(
        "power.exec.start: expected the file /nowhere/x to be readable: No such file or directory"
    )


def test_a_fault_shows_what_is_written_and_not_what_it_stands_for() -> None:
    told = fault('power: {http: {start: "${TOKEN}", stop: "http://a"}}', TOKEN="s3cret")
    assert "got '${TOKEN}'" in told and "s3cret" not in told
