"""Configuration: one YAML file -> frozen `Settings`, or a `ConfigError` naming each fault by line and key."""

from proxy.config.alerts import AlertSettings, WebhookSettings
from proxy.config.control import ControlSettings
from proxy.config.load import ConfigError, Fault, load, parse
from proxy.config.power import DockerSettings, ExecSettings, HookSettings, PowerSettings, SystemdSettings
from proxy.config.provision import ParitySettings, ProvisionSettings
from proxy.config.settings import (
    BackendSettings,
    CallRule,
    HealthSettings,
    MediaMode,
    MediaSettings,
    NodeSettings,
    PoolSettings,
    RecordingSettings,
    RecoverySettings,
    Role,
    RouteSettings,
    RtpengineSettings,
    Settings,
    SipSettings,
    SyntheticSettings,
)
from proxy.config.values import WILDCARDS, Folder, Listen, MediaHost, PortRange, Transport

__all__ = [
    "WILDCARDS",
    "AlertSettings",
    "BackendSettings",
    "CallRule",
    "ConfigError",
    "ControlSettings",
    "DockerSettings",
    "ExecSettings",
    "Fault",
    "Folder",
    "HealthSettings",
    "HookSettings",
    "Listen",
    "MediaHost",
    "MediaMode",
    "MediaSettings",
    "NodeSettings",
    "ParitySettings",
    "PoolSettings",
    "PortRange",
    "PowerSettings",
    "ProvisionSettings",
    "RecordingSettings",
    "RecoverySettings",
    "Role",
    "RouteSettings",
    "RtpengineSettings",
    "Settings",
    "SipSettings",
    "SyntheticSettings",
    "SystemdSettings",
    "Transport",
    "WebhookSettings",
    "load",
    "parse",
]
