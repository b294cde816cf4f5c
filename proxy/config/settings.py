"""`Settings`: everything an operator can set, as frozen pydantic models: default, bounds and a sentence each.

Names carry their unit last (`timeout_ms`) or their bound after (`calls_max`). Unknown keys are refused. The
text below each key is the source of the configuration reference in the docs. Cross-checks that span keys live
in `proxy.config.checks`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field

from proxy.config.alerts import AlertSettings
from proxy.config.control import ControlSettings
from proxy.config.power import PowerSettings
from proxy.config.provision import ParitySettings, ProvisionSettings
from proxy.config.section import Name, Section
from proxy.config.values import (
    AddressValue,
    FolderValues,
    HostValues,
    Listen,
    ListenValue,
    MediaHost,
    MediaHostValues,
    NetworkValue,
    NgAddressValue,
    PatternValue,
    PortRange,
    PortRangeValue,
    Transport,
)

MediaMode = Literal["relay", "rtpengine", "direct"]
Role = Literal["primary", "backup"]
StandbyLevel = Literal["warm", "hot"]


class NodeSettings(Section):
    """This node."""

    name: Name = "aqueduct"
    """Name in logs, reports and the Server header."""
    state_dir: Path = Path("/var/lib/aqueduct")
    """Directory of the control socket, the relay socket and the journal of calls. One node, one directory."""


class SipSettings(Section):
    """Signalling."""

    listen: tuple[ListenValue, ...] = Field(
        default=(Listen("udp", "127.0.0.1", 5060), Listen("tcp", "127.0.0.1", 5060)), min_length=1
    )
    """Where SIP is listened for, each as transport:address:port."""
    advertise: HostValues = ()
    """Host in Via and Contact when it differs from the bound one (NAT, wildcard address). With listeners of both
    address families a list with one of each."""
    t1_ms: int = Field(default=500, ge=50, le=5000)
    """RFC 3261 T1: the round-trip estimate of transactions."""
    t2_ms: int = Field(default=4000, ge=100, le=32000)
    """RFC 3261 T2: the longest retransmission interval."""
    session_expires_s: int = Field(default=1800, ge=90, le=86400)
    """RFC 4028: the session interval that we propose."""
    min_se_s: int = Field(default=90, ge=90, le=86400)
    """RFC 4028: the shortest session interval that we accept."""
    message_bytes_max: int = Field(default=65535, ge=2048, le=1048576)
    """The longest SIP message that is taken."""
    follow_redirects: bool = False
    """Follow a 3xx of a backend instead of passing it on."""

    def advertised(self, host: str) -> str | None:
        """What Via and Contact say instead of `host`, where we listen; None: nothing else."""
        return next((each for each in self.advertise if (":" in each) == (":" in host)), None)


class RtpengineSettings(Section):
    """One rtpengine."""

    address: NgAddressValue
    """Numeric address and port of its ng protocol over UDP (listen-ng); without port 2223."""
    weight: int = Field(default=1, ge=1, le=1000)
    """Share of sessions relative to the others."""


class MediaSettings(Section):
    """Media."""

    mode: MediaMode = "relay"
    """relay: RTP flows through this node. rtpengine: through one of `nodes`. direct: SDP passes through. A pool can
    override it."""
    nodes: tuple[RtpengineSettings, ...] = ()
    """The rtpengine daemons. A call goes to the one with the fewest sessions for its weight; when a daemon dies, its
    calls go to the others."""
    ping_interval_ms: int = Field(default=100, ge=20, le=10000)
    """Time between probes of an rtpengine."""
    ping_fall: int = Field(default=10, ge=2, le=100)
    """Unanswered probes in a row that make it down, besides silence. From the first that is not answered in time they
    follow each other five times as fast. A host that refuses (ICMP) makes it down after two."""
    ping_silence_ms: int = Field(default=400, ge=50, le=60000)
    """But for a refusal it is never down before this long without any answer."""
    address: MediaHostValues = Field(default=(MediaHost("127.0.0.1", "127.0.0.1"),), min_length=1)
    """Our address for media; 192.0.2.1=203.0.113.9 behind NAT, where SDP must say another one than the relay binds. For
    IPv4 and IPv6 a list with one of each. What the first is seen as stands in the o= line of every description."""
    ports: PortRangeValue = PortRange(20000, 29999)
    """Ports of the relay, two a stream."""
    latch: Literal["strict", "address", "any"] = "address"
    """Who may send media on a leg. strict: address and port of its SDP. address: any port of that address.
    any: the first source that sends (NAT)."""
    prompt: Path | None = None
    """A recording (WAV, 8 kHz, mono, 16 bits) that callers with G.711 hear over and over while their backend is silent.
    null: low noise."""

    @property
    def seen_as(self) -> str:
        """What stands for us in the o= line, which has room for one address."""
        return self.address[0].advertised


class RecordingSettings(Section):
    """Recordings that backends make, to be whole after the death of one (docs/recordings.md). Needs media: relay."""

    folders: FolderValues = ()
    """Folders of recordings that this node shares with the backends; /var/spool/asterisk/monitor=/mnt/{backend} where
    one is mounted elsewhere here ({backend} is its name). None: nothing is kept, and nothing is repaired."""
    keep_s: int = Field(default=10, ge=7, le=60)
    """So much of each recorded stream the relay keeps: 14 kB a second. A backend may lose the last 4 s."""


class SyntheticSettings(Section):
    """Test calls to the backends of a pool. Each must hear its own echo, or the backend's tone."""

    extension: str | None = Field(default=None, min_length=1, pattern=r"^[^\s@<>;?]+$")
    """User part of the URI that is called: it answers and echoes, or plays a tone. null: no test calls."""
    interval_s: float = Field(default=30, ge=1, le=3600)
    """Time from the end of a test call to a backend to the next one."""
    deadline_ms: int = Field(default=2000, ge=100, le=30000)
    """Within this it must be answered, and within this again it must hear the tone."""
    listen_ms: int = Field(default=500, ge=20, le=30000)
    """So long it goes on listening, for gaps."""
    tone_hz: int | None = Field(default=None, ge=50, le=3950, multiple_of=50)
    """What the extension plays; null: it echoes what we say."""
    fall: int = Field(default=2, ge=1, le=100)
    """Test calls in a row that hear nothing until it counts."""
    caller: Literal["pjsua2", "builtin"] = "pjsua2"
    """pjsua2: a phone of another make, in a process of its own; where it is not installed: builtin."""


class HealthSettings(Section):
    """How the backends of a pool are watched. docs/diagnoses.md says what these cost and buy."""

    interval_ms: int = Field(default=50, ge=20, le=60000)
    """Time between OPTIONS probes of a backend."""
    fast_interval_ms: int = Field(default=5, ge=2, le=10000)
    """Time between probes from the first that goes unanswered to the decision."""
    timeout_min_ms: int = Field(default=10, ge=2, le=10000)
    """A probe is never called unanswered earlier than this; above it the round-trip time decides."""
    timeout_max_ms: int = Field(default=500, ge=10, le=60000)
    """A probe is called unanswered at the latest after this, whatever the round-trip time."""
    silence_min_ms: int = Field(default=200, ge=20, le=60000)
    """Without an ICMP refusal a backend is never down before this long without any answer."""
    silence_max_ms: int = Field(default=1000, ge=20, le=120000)
    """What was learned of the network never asks for more silence than this."""
    fall: int = Field(default=20, ge=2, le=1000)
    """Unanswered probes in a row that down needs besides silence."""
    rise: int = Field(default=3, ge=1, le=1000)
    """Answered probes in a row that bring a backend back."""
    rtp_suspect_ms: int = Field(default=45, ge=45, le=4000)
    """Silence of at least 80 % of five or more streams that makes a backend suspect (streams with a packet each
    20 ms; of others accordingly longer)."""
    rtp_silence_ms: int = Field(default=105, ge=65, le=4000)
    """With rtp_fall unanswered probes a backend is down after this long without packets of its streams and answers."""
    rtp_fall: int = Field(default=3, ge=1, le=1000)
    """Unanswered probes in a row that down needs besides silent streams."""
    rtp_dead_ms: int = Field(default=2000, ge=200, le=4000)
    """Silence of at least 80 % of five or more streams that makes a backend MediaDead although it answers probes."""
    live_fall: int = Field(default=5, ge=2, le=1000)
    """Live requests in a row without any response that make a backend Hung."""
    flaps_max: int = Field(default=3, ge=2, le=100)
    """Times down within flap_window_s that make a backend Flapping."""
    flap_window_s: int = Field(default=300, ge=1, le=86400)
    """Window in which times down are counted."""
    flap_hold_s: int = Field(default=60, ge=1, le=86400)
    """A Flapping backend must answer without a break for this long to come back."""
    synthetic: SyntheticSettings = SyntheticSettings()
    """Test calls to them."""


class ReenterRule(Section):
    """Where calls to some numbers go on when they are carried over."""

    user: PatternValue
    """Regular expression that is searched in the user part of the request URI that was dialled."""
    to: str = Field(pattern=r"^[A-Za-z0-9\-_.!~*'()&=+$,;?/%]{1,100}$")
    """User part of the request URI that the backup gets instead."""


class RecoverySettings(Section):
    """How calls are carried over to a backup."""

    deadline_s: float = Field(default=30, ge=1, le=600)
    """A call that is not recovered within this is ended with a BYE."""
    pace_per_s: int = Field(default=1000, ge=1, le=10000)
    """INVITEs a second that a backup is given in a failover."""
    unanswered_max: int = Field(default=64, ge=1, le=1000)
    """INVITEs without any answer at one backup; a default UDP receive buffer holds about 90."""
    verify_audio_ms: int = Field(default=500, ge=20, le=10000)
    """Within this, audio must flow on a recovered leg."""
    bypass: bool = True
    """Two people whom the dead backend had connected (X-Aqueduct-Pair) talk on past it until the backup has both."""
    bypass_max_s: int = Field(default=120, ge=1, le=3600)
    """So long they may talk on without any backup; then their calls end as at the deadline."""
    settle_ms: int = Field(default=200, ge=0, le=10000)
    """When all calls that belong together are answered by the backup, the time that it gets to connect them."""
    outbound_user: str | None = Field(default=None, min_length=1)
    """User part that a recovered outbound call is placed to on the backup; null: as it was dialled."""
    reenter: tuple[ReenterRule, ...] = ()
    """Calls to a queue or an IVR, which go on at another point than at their beginning: the first rule that takes the
    number. What a backend says of a call (X-Aqueduct-Reenter) comes first."""
    answer_timeout_ms: int = Field(default=2000, ge=100, le=60000)
    """A backup that has not answered an INVITE after this is passed over."""


class BackendSettings(Section):
    """One backend."""

    address: AddressValue
    """Numeric address and port: 192.0.2.10:5060 or [2001:db8::10]:5060; without port 5060."""
    transport: Transport = "udp"
    """Transport of SIP towards it."""
    role: Role = "primary"
    """A backup takes calls when no primary can."""
    weight: int = Field(default=1, ge=1, le=1000)
    """Share of calls relative to the others of its role."""
    calls_max: int | None = Field(default=None, ge=1, le=1_000_000)
    """Live calls at most; null: no limit."""
    standby: Literal["warm", "cold"] = "warm"
    """Of a backup. warm: it runs. cold: it is started when calls need it, by `power`."""
    power: PowerSettings | None = None
    """How it is started and stopped; null: only by others."""
    provision: ProvisionSettings | None = None
    """What is written before it is started; null: nothing."""
    parity: ParitySettings | None = None
    """What must be the same as on the primary, which needs this too; null: nobody looks."""
    control: ControlSettings | None = None
    """Over what it says what it is doing; null: nothing is known but what SIP tells."""


class CallRule(Section):
    """Some calls: all conditions that are given must hold."""

    user: PatternValue | None = None
    """Regular expression that is searched in the user part of the request URI."""
    header: dict[str, PatternValue] = {}
    """Regular expressions that are searched in the headers of these names in the INVITE."""


class PoolSettings(Section):
    """A pool of interchangeable backends."""

    media: MediaMode | None = None
    """Overrides media.mode for legs to this pool."""
    recover: bool = True
    """false for carriers: a leg to it is never recovered, only ended cleanly."""
    standby: StandbyLevel = "warm"
    """warm: a call is placed on a backup when its backend dies. hot: each call has a second leg on a backup from the
    start, and media is switched to it; needs the relay and twice the calls on the backends."""
    hot_for: tuple[CallRule, ...] = ()
    """With standby: hot, the calls that have it: those that one of these rules takes. None: all calls."""
    media_timeout_s: float | None = Field(default=None, ge=1, le=3600)
    """Neither RTP nor RTCP on a leg of a call for this long, though it is not on hold, is its media timeout; null:
    none. Only where media flows through the relay."""
    on_media_timeout: Literal["log", "end"] = "log"
    """What follows on a call's media timeout. log: a warning. end: both legs get a BYE."""
    start_on: Literal["suspect", "down"] = "down"
    """When a cold standby is started: as soon as the others may not be enough, or when they are not."""
    cold_after_s: float | None = Field(default=900, ge=1, le=86400)
    """A cold standby that we have started is stopped when it has had no calls and was not needed for so long; null:
    it runs on."""
    health: HealthSettings = HealthSettings()
    """How its backends are watched."""
    recovery: RecoverySettings = RecoverySettings()
    """How its calls are carried over to a backup."""
    backends: dict[Name, BackendSettings] = Field(min_length=1)
    """Its members by name."""


class RouteSettings(Section):
    """One routing rule: all conditions that are given must hold."""

    from_pool: Name | None = None
    """The request comes from a backend of this pool."""
    source: NetworkValue | None = None
    """The request comes from this network."""
    user: PatternValue | None = None
    """Regular expression that is searched in the user part of the request URI."""
    header: dict[str, PatternValue] = {}
    """Regular expressions that are searched in the headers of these names."""
    pool: Name
    """The pool that takes the call."""


class Settings(Section):
    """A whole configuration."""

    node: NodeSettings = NodeSettings()
    """This node."""
    sip: SipSettings = SipSettings()
    """Signalling."""
    media: MediaSettings = MediaSettings()
    """Media."""
    recordings: RecordingSettings = RecordingSettings()
    """What backends record."""
    alerts: AlertSettings = AlertSettings()
    """Alerts."""
    pools: dict[Name, PoolSettings] = Field(min_length=1)
    """Pools of backends by name."""
    routes: tuple[RouteSettings, ...] = Field(min_length=1)
    """Routing rules; the first that matches decides."""

    def uses_media(self, mode: MediaMode) -> bool:
        """Is there a pool whose media goes this way, or is it the way of the node?"""
        return mode == self.media.mode or any(pool.media == mode for pool in self.pools.values())
