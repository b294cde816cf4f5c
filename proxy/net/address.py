"""Addresses as they are written: an IPv6 host in brackets (RFC 3261 §25.1, RFC 3986 §3.2.2)."""

from __future__ import annotations

from proxy.net.api import Address


def bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def host_port(address: Address) -> str:
    return f"{bracketed(address[0])}:{address[1]}"
