"""One connection to the event socket, as FreeSWITCH 1.10's mod_event_socket.c serves it.

`read_packet` takes commands (a line, headers, an empty line), `parse_command` answers them in order, `api_exec` runs
an api in the foreground or, for `bgapi`, makes a BACKGROUND_JOB event of what it says; events wait in a queue and are
written between commands.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from urllib.parse import quote

from proxy.net.api import TcpStream

GOODBYE = "Disconnected, goodbye.\nSee you at ClueCon! http://www.cluecon.com/\n"


class Listener:
    def __init__(
        self,
        stream: TcpStream,
        password: str,
        api: Callable[[str], str],
        fire: Callable[[str, Mapping[str, str], str], None],
        chunk_bytes: int | None,
    ) -> None:
        self._stream = stream
        self._password = password
        self._api = api
        self._fire = fire
        self._chunk_bytes = chunk_bytes
        self._buffer = b""
        self.authed = self.closed = False
        self.mute = False  # it hangs: takes everything, says nothing
        self.format = "plain"
        self.events: set[str] = set()
        self.custom: set[str] = set()
        self.commands: list[str] = []
        self.corked: bytearray | None = None  # what is written in one piece later
        self.jobs = True  # what `bgapi` asked for comes to an end
        self.held: list[str] | None = None  # answers to `api` that the test lets go later
        stream.on_data = self._data
        stream.on_close = self._gone

    def greet(self) -> None:
        self.write("Content-Type: auth/request\n\n")

    def reject(self) -> None:
        text = "Access Denied, go away.\n"
        self.write(f"Content-Type: text/rude-rejection\nContent-Length: {len(text)}\n\n{text}")
        self.close()

    def disconnect(self, text: str = GOODBYE) -> None:
        self.write(f"Content-Type: text/disconnect-notice\nContent-Length: {len(text)}\n\n{text}")
        self.close()

    def close(self) -> None:
        self.closed = True
        self._stream.close()

    def write(self, text: str | bytes) -> None:
        data = text.encode() if isinstance(text, str) else text
        if self.closed or self.mute:
            return
        if self.corked is not None:
            self.corked += data
            return
        step = self._chunk_bytes or max(1, len(data))
        for start in range(0, len(data), step):
            self._stream.write(data[start : start + step])

    def uncork(self) -> None:
        corked, self.corked = self.corked, None
        self.write(bytes(corked or b""))

    def event(self, fields: Mapping[str, str], body: str) -> None:
        name = fields["Event-Name"]
        if name not in self.events or (name == "CUSTOM" and fields.get("Event-Subclass") not in self.custom):
            return
        text = in_json(fields, body) if self.format == "json" else in_plain(fields, body)
        data = text.encode("utf-8", "surrogateescape")
        self.write(b"Content-Length: %d\nContent-Type: text/event-%s\n\n" % (len(data), self.format.encode()) + data)

    def _gone(self, _: OSError | None) -> None:
        self.closed = True

    def _data(self, data: bytes) -> None:
        self._buffer += data
        while b"\n\n" in self._buffer and not self.closed:
            packet, _, self._buffer = self._buffer.partition(b"\n\n")
            lines = packet.decode().strip("\n").split("\n")
            headers = {name.lower(): value.lstrip() for name, _, value in (line.partition(":") for line in lines[1:])}
            self.commands.append(lines[0])
            self._command(lines[0], headers)

    def _command(self, line: str, headers: Mapping[str, str]) -> None:
        verb, _, rest = line.partition(" ")
        if not self.authed:
            if verb == "auth" and rest == self._password:
                self.authed = True
                self._reply("+OK accepted")
            else:
                self._reply("-ERR invalid" if verb == "auth" else "-ERR command not found")
                if verb == "auth":
                    self.disconnect()
        elif verb == "api":
            said = self._api(rest) or "-ERR no reply\n"
            answer = f"Content-Type: api/response\nContent-Length: {len(said.encode())}\n\n{said}"
            if self.held is not None:
                self.held.append(answer)
            else:
                self.write(answer)
        elif verb == "bgapi":
            job = headers["job-uuid"]
            # parse_command's "~Reply-Text …\n\n" in listener_run's "Content-Type: command/reply\n%s"
            self.write(f"Content-Type: command/reply\nReply-Text: +OK Job-UUID: {job}\nJob-UUID: {job}\n\n")
            name, _, argument = rest.partition(" ")
            fields = {"Job-UUID": job, "Job-Command": name, "Job-Command-Arg": argument}
            said = self._api(rest)
            if self.jobs:
                self._fire("BACKGROUND_JOB", fields, said)
        elif verb == "event":
            self._subscribe(rest.split())
        elif verb == "exit":
            self._reply("+OK bye")
            self.disconnect()
        else:
            self._reply("-ERR command not found")

    def _subscribe(self, words: list[str]) -> None:
        if words and words[0] in ("plain", "json"):
            self.format = words.pop(0)
        if not words:
            self._reply("-ERR no keywords supplied")
            return
        if "CUSTOM" in words:
            at = words.index("CUSTOM")
            self.custom |= set(words[at + 1 :])
            words = words[: at + 1]
        self.events |= set(words)
        self._reply(f"+OK event listener enabled {self.format}")

    def _reply(self, text: str) -> None:
        self.write(f"Content-Type: command/reply\nReply-Text: {text}\n\n")


def in_plain(fields: Mapping[str, str], body: str) -> str:
    """switch_event_serialize."""
    head = "".join(
        f"{name}: {quote(value, safe='/()*!~_-.', errors='surrogateescape')}\n" for name, value in fields.items()
    )
    return f"{head}Content-Length: {len(body.encode())}\n\n{body}" if body else f"{head}\n"


def in_json(fields: Mapping[str, str], body: str) -> str:
    """switch_event_serialize_json: cJSON leaves bytes above ASCII as they are."""
    everything: dict[str, str] = dict(fields)
    if body:
        everything |= {"Content-Length": str(len(body.encode())), "_body": body}
    return json.dumps(everything, ensure_ascii=False, separators=(",", ":"))
