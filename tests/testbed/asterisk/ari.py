"""ARI without an Asterisk: a WebSocket that takes REST requests, for what a real one cannot be made to do.

What it says was recorded from Asterisk 22.10.1. Works over any `proxy.net.api.Network`, so in virtual time too.
"""

from __future__ import annotations

import json
from base64 import b64encode
from hashlib import sha1
from typing import Any

from proxy.net.api import Address, Network, TcpListener, TcpStream

INFO = {
    "system": {"version": "22.10.1", "entity_id": "02:00:7f:00:00:0b"},
    "config": {"name": "as1", "default_language": "en", "max_channels": 500},
    "status": {"startup_time": "2026-11-23T20:20:00.000+0000", "last_reload_time": "2026-11-23T20:20:00.000+0000"},
}
PING = {"ping": "pong", "timestamp": "2026-11-23T20:21:00.500+0000", "asterisk_id": "02:00:7f:00:00:0b"}


def channel(number: int, call_id: str = "", *, state: str = "Up", name: str = "PJSIP/sbc") -> dict[str, Any]:
    return {
        "id": f"as1-1795465250.{number}",
        "name": f"{name}-{number:08x}",
        "state": state,
        "protocol_id": call_id,
        "caller": {"name": "", "number": "alice"},
        "connected": {"name": "", "number": ""},
        "accountcode": "",
        "dialplan": {"context": "room", "exten": "join", "priority": 11, "app_name": "ConfBridge", "app_data": "7001"},
        "creationtime": "2026-11-23T20:20:50.094+0000",
        "language": "en",
    }


def bridge(name: str, *channels: dict[str, Any], creator: str = "ConfBridge") -> dict[str, Any]:
    return {
        "id": f"56727c83-410d-433f-8ba5-{name:0>12}",
        "technology": "softmix",
        "bridge_type": "mixing",
        "bridge_class": "base",
        "creator": creator,
        "name": name,
        "channels": [each["id"] for each in channels],
        "creationtime": "2026-11-23T20:20:50.101+0000",
        "video_mode": "none",
    }


class Connection:
    def __init__(self, server: Ari, stream: TcpStream) -> None:
        self._server = server
        self._stream = stream
        self._buffer = b""
        self._upgraded = False
        self.closed = False
        self.head = ""
        self.pongs: list[bytes] = []
        stream.on_data = self._data
        stream.on_close = self._gone

    def write(self, data: bytes) -> None:
        if not self.closed:
            self._stream.write(data)

    def send(self, opcode: int, data: bytes) -> None:
        if len(data) < 126:
            self.write(bytes((0x80 | opcode, len(data))) + data)
        else:
            self.write(bytes((0x80 | opcode, 127)) + len(data).to_bytes(8, "big") + data)

    def event(self, kind: str, **fields: Any) -> None:
        whole = {"type": kind, "timestamp": "2026-11-23T20:20:50.094+0000", **fields, "application": "aqueduct"}
        self.send(1, json.dumps(whole).encode())

    def _gone(self, _: OSError | None) -> None:
        self.closed = True

    def _data(self, data: bytes) -> None:
        self._buffer += data
        if not self._upgraded:
            head, blank, self._buffer = self._buffer.partition(b"\r\n\r\n")
            if not blank:
                self._buffer = head
                return
            self._shake(head.decode())
        while len(self._buffer) >= 6:
            length, start = self._buffer[1] & 0x7F, 2
            if length == 126:
                length, start = int.from_bytes(self._buffer[2:4], "big"), 4
            if len(self._buffer) < start + 4 + length:
                return
            mask, masked = self._buffer[start : start + 4], self._buffer[start + 4 : start + 4 + length]
            opcode = self._buffer[0] & 0x0F
            self._buffer = self._buffer[start + 4 + length :]
            plain = bytes(byte ^ mask[at % 4] for at, byte in enumerate(masked))
            if opcode == 1:
                self._request(json.loads(plain))
            elif opcode == 10:
                self.pongs.append(plain)

    def _shake(self, head: str) -> None:
        self.head = head
        if self._server.unanswered > 0:
            self._server.unanswered -= 1
            return
        if self._server.refusal:
            self.write(f"HTTP/1.1 {self._server.refusal}\r\nContent-Length: 0\r\n\r\n".encode())
            self._stream.close()
            return
        key = next(line.split()[1] for line in head.split("\r\n") if line.lower().startswith("sec-websocket-key:"))
        accept = b64encode(sha1(f"{key}258EAFA5-E914-47DA-95CA-C5AB0DC85B11".encode()).digest()).decode()
        self._upgraded = True
        lines = ("HTTP/1.1 101 Switching Protocols", "Upgrade: websocket", "Connection: Upgrade")
        self.write("\r\n".join([*lines, f"Sec-WebSocket-Accept: {accept}", "", ""]).encode())

    def _request(self, request: dict[str, Any]) -> None:
        self._server.requests.append(f"{request['method']} {request['uri']}")
        if self._server.mute:
            return
        said = self._server.answer(request["method"], request["uri"].partition("?")[0])
        status = {200: "OK", 204: "No Content", 404: "Not Found"}
        code = 404 if said is None else 200
        response = {
            "type": "RESTResponse",
            "transaction_id": request["transaction_id"],
            "request_id": request["request_id"],
            "status_code": code,
            "reason_phrase": status[code],
            "uri": request["uri"],
            "content_type": "application/json",
            "message_body": json.dumps({"message": "Channel not found"} if said is None else said),
            "application": "aqueduct",
        }
        self.send(1, json.dumps(response).encode())


class Ari:
    def __init__(self, network: Network, address: Address) -> None:
        self._network = network
        self._address = address
        self._port: TcpListener | None = None
        self.connections: list[Connection] = []
        self.requests: list[str] = []
        self.channels: list[dict[str, Any]] = []
        self.bridges: list[dict[str, Any]] = []
        self.unanswered = 0  # so many handshakes
        self.refusal = ""  # the status of all others
        self.mute = False  # requests are taken and not answered

    async def start(self) -> None:
        self._port = await self._network.listen_tcp(self._address, self._accept)

    def _accept(self, stream: TcpStream) -> None:
        self.connections.append(Connection(self, stream))

    @property
    def connection(self) -> Connection:
        return self.connections[-1]

    def answer(self, method: str, uri: str) -> Any:
        match method, uri:
            case "GET", "asterisk/info":
                return INFO
            case "GET", "asterisk/ping":
                return PING
            case "GET", "channels":
                return self.channels
            case "GET", "bridges":
                return self.bridges
            case "PUT", _ if uri.endswith("/eventFilter"):
                return {"name": "aqueduct"}
            case "GET", _ if uri.startswith("channels/"):
                return next((each for each in self.channels if each["id"] == uri.removeprefix("channels/")), None)
        return None
