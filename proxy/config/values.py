"""The kinds of values an `aqueduct.yaml` is made of: addresses, listeners, port ranges, networks, patterns.

Each parses one scalar as an operator writes it, and says in one sentence what it expected when it cannot.
The results are plain immutable values; `proxy.config.settings` puts bounds and defaults around them.
"""

from __future__ import annotations

import ipaddress
import re
import shlex
from typing import Annotated, Any, Literal, NamedTuple
from urllib.parse import urlsplit

from pydantic import BeforeValidator, PlainSerializer

from proxy.net.address import host_port
from proxy.net.api import Address

Transport = Literal["udp", "tcp"]
SIP_PORT = 5060
NG_PORT = 2223
WILDCARDS = ("0.0.0.0", "::")  # all addresses of this machine
Network = ipaddress.IPv4Network | ipaddress.IPv6Network


class Listen(NamedTuple):
    """Where SIP is listened for."""

    transport: Transport
    host: str
    port: int

    def __str__(self) -> str:
        return f"{self.transport}:{host_port((self.host, self.port))}"


class MediaHost(NamedTuple):
    """An address for media: the local one, and what session descriptions say of it (another one behind NAT)."""

    bind: str
    advertised: str

    def __str__(self) -> str:
        return self.bind if self.bind == self.advertised else f"{self.bind}={self.advertised}"


class PortRange(NamedTuple):
    """First and last port, both included."""

    first: int
    last: int

    def __str__(self) -> str:
        return f"{self.first}-{self.last}"


def _port(text: str, lowest: int = 1) -> int:
    if not text.isascii() or not text.isdigit() or not lowest <= int(text) <= 65535:
        raise ValueError(f"a port from {lowest} to 65535, not {text!r}")
    return int(text)


def parse_host(value: Any) -> str:
    """A numeric host in canonical spelling. Not a name: what a name points to can move under a live call."""
    try:
        return str(ipaddress.ip_address(str(value).strip("[]")))
    except ValueError:
        raise ValueError("a numeric IPv4 or IPv6 address, like 192.0.2.10 or 2001:db8::10, not a name") from None


def parse_media_host(value: Any) -> MediaHost:
    """`192.0.2.1`, or behind NAT `192.0.2.1=203.0.113.9`: the local address, and the one that its peers see."""
    if isinstance(value, MediaHost):
        return value
    bind, equals, advertised = str(value).partition("=")
    host = MediaHost(parse_host(bind), parse_host(advertised if equals else bind))
    if (":" in host.bind) != (":" in host.advertised):
        raise ValueError("two addresses of one family, like 192.0.2.1=203.0.113.9")
    return host


class Folder(NamedTuple):
    """A folder of files that is shared with backends: its path there, and here."""

    there: str
    here: str

    def __str__(self) -> str:
        return self.there if self.there == self.here else f"{self.there}={self.here}"


def parse_folder(value: Any) -> Folder:
    """`/var/spool/asterisk/monitor`, or where it is mounted elsewhere here `/var/spool/asterisk/monitor=/mnt/as1`."""
    if isinstance(value, Folder):
        return value
    there, equals, here = str(value).partition("=")
    folder = Folder(there.rstrip("/") or there, here if equals else there)
    unknown = re.search(r"[{}]", folder.there + folder.here.replace("{backend}", ""))
    if unknown or not folder.there.startswith("/") or not folder.here.startswith("/"):
        raise ValueError("an absolute path, or two like /var/spool/asterisk/monitor=/mnt/{backend}")
    return folder


def one_or_more(value: Any) -> Any:
    """A list may be written as its only entry, and an empty one as null."""
    if value is None:
        return ()
    return value if isinstance(value, list | tuple) and not isinstance(value, MediaHost | Folder) else (value,)


def parse_address(value: Any, default_port: int = SIP_PORT) -> Address:
    """`192.0.2.10:5060`, `[2001:db8::10]:5060`, or either without a port (then 5060)."""
    if isinstance(value, tuple):
        return value
    text = str(value).strip()
    if text.startswith("["):
        host, closed, rest = text[1:].partition("]")
        if not closed or (rest and not rest.startswith(":")):
            raise ValueError("an IPv6 address in brackets and a port, like [2001:db8::10]:5060")
        return parse_host(host), _port(rest[1:]) if rest else default_port
    if text.count(":") > 1:
        return parse_host(text), default_port
    host, colon, port = text.partition(":")
    return parse_host(host), _port(port) if colon else default_port


def parse_ng_address(value: Any) -> Address:
    """The same for the ng protocol of rtpengine (without a port 2223)."""
    return parse_address(value, NG_PORT)


def parse_listen(value: Any) -> Listen:
    """`udp:192.0.2.1:5060`, `tcp:[2001:db8::1]:5060`; port 0 lets the kernel choose (tests)."""
    if isinstance(value, Listen):
        return value
    transport, _, address = str(value).partition(":")
    if transport not in ("udp", "tcp") or not address:
        raise ValueError("a transport and an address, like udp:192.0.2.1:5060 or tcp:[2001:db8::1]:5060")
    if address.endswith(":0"):
        return Listen(transport, parse_host(address[:-2]), 0)  # type: ignore[arg-type]
    return Listen(transport, *parse_address(address))  # type: ignore[arg-type]


def parse_port_range(value: Any) -> PortRange:
    """`20000-29999`. RTP takes even ports and RTCP the odd one above (RFC 3550 §11): a call needs four."""
    if isinstance(value, PortRange):
        return value
    first, dash, last = str(value).replace(" ", "").partition("-")
    if not dash:
        raise ValueError("two ports, like 20000-29999")
    ports = PortRange(_port(first, 1024), _port(last, 1024))
    if ports.last - ports.first < 3:
        raise ValueError("first port below last port with room for at least four, like 20000-29999")
    return ports


def parse_network(value: Any) -> Network:
    """`10.0.0.0/8`, or one address."""
    if isinstance(value, ipaddress.IPv4Network | ipaddress.IPv6Network):
        return value
    try:
        return ipaddress.ip_network(str(value))
    except ValueError as error:
        hint = ""
        if "host bits" in str(error):
            hint = f"; did you mean {ipaddress.ip_network(str(value), strict=False)}?"
        raise ValueError(f"a network like 10.0.0.0/8, or one address{hint}") from None


def parse_pattern(value: Any) -> re.Pattern[str]:
    """A Python regular expression, searched (not anchored: write ^ and $)."""
    if isinstance(value, re.Pattern):
        return value
    try:
        return re.compile(str(value))
    except re.error as error:
        raise ValueError(f"a regular expression; this one fails at position {error.pos}: {error.msg}") from None


def parse_command(value: Any) -> tuple[str, ...]:
    """A program and its arguments: a list of them, or a line with the quotes of a shell and nothing else of it."""
    expected = 'a program and its arguments, like /usr/local/bin/start-as2 --now or ["/bin/x", "a b"]'
    try:
        words = shlex.split(value) if isinstance(value, str) else value
    except ValueError:
        raise ValueError(expected) from None
    if not isinstance(words, list | tuple) or not words or not words[0]:
        raise ValueError(expected)
    if not all(isinstance(word, str | int | float) and not isinstance(word, bool) for word in words):
        raise ValueError(expected)
    return tuple(map(str, words))


def parse_url(value: Any) -> str:
    """An absolute URL of http or https."""
    text = str(value)
    try:
        parts = urlsplit(text)
        good = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:  # brackets without an address, a port that is none
        good = False
    if not good or re.search(r"\s", text):
        raise ValueError("a URL like https://192.0.2.1:8443/start")
    return text


def parse_unit(value: Any) -> str:
    """systemd.unit(5): letters, digits and `:-_.\\`, `@` before an instance; only what can be started and stopped."""
    if not re.fullmatch(r"[A-Za-z0-9:_.@\\-]+\.(service|target)", str(value)):
        raise ValueError("the name of a service or target, like asterisk.service")
    return str(value)


def parse_container(value: Any) -> str:
    """What Docker takes as the name of a container, or its id."""
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]+", str(value)):
        raise ValueError("the name or id of a container, like asterisk2")
    return str(value)


def _text(value: Any) -> str:
    return host_port(value) if type(value) is tuple else str(getattr(value, "pattern", value))


class Like(str):
    """An example of how a value is written, for the configuration reference."""

    __slots__ = ()


_AS_TEXT = PlainSerializer(_text, return_type=str, when_used="json")


HostValue = Annotated[str, BeforeValidator(parse_host), Like("192.0.2.1")]
HostValues = Annotated[tuple[HostValue, ...], BeforeValidator(one_or_more)]
MediaHostValue = Annotated[MediaHost, BeforeValidator(parse_media_host), _AS_TEXT, Like("192.0.2.1=203.0.113.9")]
MediaHostValues = Annotated[tuple[MediaHostValue, ...], BeforeValidator(one_or_more)]
AddressValue = Annotated[tuple[str, int], BeforeValidator(parse_address), _AS_TEXT, Like("192.0.2.11:5060")]
NgAddressValue = Annotated[tuple[str, int], BeforeValidator(parse_ng_address), _AS_TEXT, Like("192.0.2.21:2223")]
ListenValue = Annotated[Listen, BeforeValidator(parse_listen), _AS_TEXT, Like("udp:192.0.2.1:5060")]
PortRangeValue = Annotated[PortRange, BeforeValidator(parse_port_range), _AS_TEXT, Like("20000-29999")]
FolderValue = Annotated[Folder, BeforeValidator(parse_folder), _AS_TEXT, Like("/var/spool/asterisk/monitor")]
FolderValues = Annotated[tuple[FolderValue, ...], BeforeValidator(one_or_more)]
NetworkValue = Annotated[Network, BeforeValidator(parse_network), _AS_TEXT, Like("10.0.0.0/8")]
PatternValue = Annotated[re.Pattern[str], BeforeValidator(parse_pattern), _AS_TEXT, Like("^9.*")]
CommandValue = Annotated[tuple[str, ...], BeforeValidator(parse_command), Like("/usr/local/bin/start-as2 --now")]
UnitValue = Annotated[str, BeforeValidator(parse_unit), Like("asterisk.service")]
ContainerValue = Annotated[str, BeforeValidator(parse_container), Like("asterisk2")]
UrlValue = Annotated[str, BeforeValidator(parse_url), Like("https://192.0.2.1:8443/start")]
