"""Configuration: one YAML file -> frozen `Settings`, or a `ConfigError` naming each fault by line and key."""

from proxy.config.load import ConfigError, Fault, load, parse
from proxy.config.power import DockerSettings, ExecSettings, HookSettings, PowerSettings, SystemdSettings
from proxy.config.settings import (
    BackendSettings,
    CallRule,
    HealthSettings,
    MediaMode,
    MediaSettings,
    NodeSettings,
    PoolSettings,
    RecoverySettings,
    Role,
    RouteSettings,
    RtpengineSettings,
    Settings,
    SipSettings,
    SyntheticSettings,
)
from proxy.config.values import WILDCARDS, Listen, MediaHost, PortRange, Transport

__all__ = [
    "WILDCARDS",
    "BackendSettings",
    "CallRule",
    "ConfigError",
    "DockerSettings",
    "ExecSettings",
    "Fault",
    "HealthSettings",
    "HookSettings",
    "Listen",
    "MediaHost",
    "MediaMode",
    "MediaSettings",
    "NodeSettings",
    "PoolSettings",
    "PortRange",
    "PowerSettings",
    "RecoverySettings",
    "Role",
    "RouteSettings",
    "RtpengineSettings",
    "Settings",
    "SipSettings",
    "SyntheticSettings",
    "SystemdSettings",
    "Transport",
    "load",
    "parse",
]
