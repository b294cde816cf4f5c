"""PJSIP, set up for measuring: no sound device, one thread for SIP that we poll, audio as it came off the wire.

There is one of it in a process. Its owner polls `endpoint.libHandleEvents`, and every callback of calls and accounts
then comes in the owner's thread; the frames of an `AudioMediaPort` come in that of the media clock.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pjsua2 as pj

CODECS = ("PCMU/8000/1", "PCMA/8000/1")
JITTER_BUFFER_MS = 60  # fixed: an adaptive one takes a loaded machine for gaps
CLOCK_HZ = 8000
FRAME_MS = 20


@dataclass(slots=True, frozen=True)
class Place:
    """Where the endpoint lives: an address of SIP for each family. RTP goes over `ports`; `srtp`: 0 never, 1 when the
    other side wants it, 2 always."""

    sip_hosts: tuple[str, ...]
    media_host: str
    ports: range
    sip_port: int = 0
    user: str = "synthetic"
    agent: str = "aqueduct"
    srtp: int = 0
    dtls: bool = False  # SRTP by DTLS (RFC 5764), not by keys in the description (RFC 4568)
    calls_max: int = 32


def open_endpoint(place: Place) -> tuple[Any, Any]:
    """The endpoint, and the configuration of an account on it. Raises pj.Error."""
    endpoint = pj.Endpoint()
    endpoint.libCreate()
    config = pj.EpConfig()
    config.uaConfig.threadCnt = 0
    config.uaConfig.mainThreadOnly = True
    config.uaConfig.maxCalls = place.calls_max
    config.uaConfig.userAgent = place.agent
    config.logConfig.level = config.logConfig.consoleLevel = 1
    media = config.medConfig
    media.clockRate = media.sndClockRate = CLOCK_HZ
    media.channelCount = 1
    media.audioFramePtime = media.ptime = FRAME_MS
    media.noVad = True
    media.ecTailLen = 0
    media.threadCnt = 1
    media.hasIoqueue = True
    media.maxMediaPorts = 4 * place.calls_max + 16
    media.sndAutoCloseTime = -1
    media.jbInit = media.jbMinPre = media.jbMaxPre = JITTER_BUFFER_MS
    media.jbMax = 4 * JITTER_BUFFER_MS
    media.jbDiscardAlgo = pj.PJMEDIA_JB_DISCARD_NONE
    endpoint.libInit(config)
    udp = [_listen(endpoint, host, place.sip_port) for host in place.sip_hosts]
    endpoint.libStart()
    endpoint.audDevManager().setNullDev()
    for codec in endpoint.codecEnum2():
        endpoint.codecSetPriority(codec.codecId, 255 - CODECS.index(codec.codecId) if codec.codecId in CODECS else 0)
    for name in CODECS:
        # Without packet loss concealment: what is lost must be heard as lost.
        parameters = endpoint.codecGetParam(name)
        parameters.setting.plc = parameters.setting.vad = False
        endpoint.codecSetParam(name, parameters)
    return endpoint, _account(place, endpoint, udp[0])


def parameters(status: int = 0, flags: int = 0) -> Any:
    """What a call, an answer or a re-INVITE offers: one line of audio. PJSIP would offer text (T.140) as well."""
    prm = pj.CallOpParam(True)
    prm.opt.audioCount, prm.opt.videoCount, prm.opt.textCount = 1, 0, 0
    if status:
        prm.statusCode = status
    if flags:
        prm.opt.flag = flags
    return prm


def _account(place: Place, endpoint: Any, udp: int) -> Any:
    host = f"[{place.sip_hosts[0]}]" if ":" in place.sip_hosts[0] else place.sip_hosts[0]
    port = endpoint.transportGetInfo(udp).localName.rpartition(":")[2]
    account = pj.AccountConfig()
    account.idUri = f"sip:{place.user}@{host}:{port}"
    line = account.mediaConfig
    line.transportConfig.boundAddress = place.media_host
    line.transportConfig.port = place.ports.start
    line.transportConfig.portRange = len(place.ports)
    line.ipv6Use = pj.PJSUA_IPV6_ENABLED_PREFER_IPV6 if ":" in place.media_host else pj.PJSUA_IPV6_DISABLED
    line.srtpUse = place.srtp
    line.srtpSecureSignaling = 0
    keyings = pj.IntVector()
    keyings.append(pj.PJMEDIA_SRTP_KEYING_DTLS_SRTP if place.dtls else pj.PJMEDIA_SRTP_KEYING_SDES)
    line.srtpOpt.keyings = keyings
    account.natConfig.iceEnabled = False
    account.callConfig.timerUse = pj.PJSUA_SIP_TIMER_INACTIVE
    return account


def _listen(endpoint: Any, host: str, port: int) -> int:
    """Open UDP and TCP; the number of the UDP transport."""
    kinds = (
        (pj.PJSIP_TRANSPORT_UDP6, pj.PJSIP_TRANSPORT_TCP6)
        if ":" in host
        else (pj.PJSIP_TRANSPORT_UDP, pj.PJSIP_TRANSPORT_TCP)
    )
    transport = pj.TransportConfig()
    transport.boundAddress, transport.port = host, port
    udp, _ = (int(endpoint.transportCreate(kind, transport)) for kind in kinds)
    return udp
