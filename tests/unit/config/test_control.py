"""Control sessions in the configuration."""

from __future__ import annotations

import pytest

from proxy.config import ConfigError, ControlSettings, parse


def control(as1: str, **environ: str) -> ControlSettings:
    text = (
        f"pools:\n  pbx:\n    backends:\n      as1: {{address: 192.0.2.1, control: {as1}}}\nroutes: [{{pool: pbx}}]\n"
    )
    settings = parse(text, environ=environ).pools["pbx"].backends["as1"].control
    assert settings is not None
    return settings


def fault(as1: str) -> str:
    with pytest.raises(ConfigError) as caught:
        control(as1)
    (found,) = caught.value.faults
    return str(found)


def test_the_secret_comes_from_the_environment_and_is_not_printed() -> None:
    settings = control("{protocol: ami, user: lab, secret: '${AMI_SECRET}'}", AMI_SECRET="hush")
    assert settings.secret.get_secret_value() == "hush"
    assert "hush" not in f"{settings} {settings!r} {settings.model_dump()} {settings.model_dump_json()}"


def test_asterisk_wants_a_user_and_freeswitch_does_not() -> None:
    assert "control.user" in fault("{protocol: ami, secret: x}")
    assert "control.user" in fault("{protocol: ari, secret: x}")
    assert control("{protocol: esl, secret: x}").user == ""


def test_what_is_wrong_is_said_at_its_place() -> None:
    assert 'did you mean "ami"' in fault("{protocol: amy, user: lab, secret: x}")
    assert "control.secret" in fault("{protocol: ami, user: lab}")
    assert "control.secret" in fault("{protocol: ami, user: lab, secret: ''}")
    assert "control.host" in fault("{protocol: ami, user: lab, secret: x, host: pbx.example}")
