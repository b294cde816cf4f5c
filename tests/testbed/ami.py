"""Questions to Asterisk's manager, to know what is there without asking the code under test."""

from __future__ import annotations

import socket
from dataclasses import dataclass

from proxy.demo.asterisk.instance import AMI_PORT

USER, SECRET = "lab", "lab-secret"


@dataclass(frozen=True)
class Member:
    caller: str  # CallerIDNum
    moderator: bool
    muted: bool


class Manager:
    """A connection that is logged in. `with Manager(host) as manager: ...`."""

    def __init__(self, host: str) -> None:
        self._socket = socket.create_connection((host, AMI_PORT), timeout=5.0)
        self._file = self._socket.makefile("rb")
        self._file.readline()
        self._ask("Login", Username=USER, Secret=SECRET, Events="off")

    def __enter__(self) -> Manager:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()
        self._socket.close()

    def conferences(self) -> dict[str, bool]:
        """Their names, and whether they are locked."""
        rows = self._list("ConfbridgeListRooms", "ConfbridgeListRoomsComplete")
        return {row["Conference"]: row["Locked"] == "Yes" for row in rows}

    def members(self, conference: str) -> list[Member]:
        """In the order in which they joined, last one first, as Asterisk lists them."""
        rows = self._list("ConfbridgeList", "ConfbridgeListComplete", Conference=conference)
        return [Member(row["CallerIDNum"], row["Admin"] == "Yes", row["Muted"] == "Yes") for row in rows]

    def order(self, action: str, **fields: str) -> None:
        answer = self._ask(action, **fields)
        if answer.get("Response") != "Success":
            raise RuntimeError(f"{action}: {answer}")

    def _list(self, action: str, last: str, **fields: str) -> list[dict[str, str]]:
        answer, rows = self._ask(action, **fields), []
        if answer.get("Response") != "Success":  # there is none
            return []
        while (row := self._read()).get("Event") != last:
            if row.get("Event") == action:
                rows.append(row)
        return rows

    def _ask(self, action: str, **fields: str) -> dict[str, str]:
        lines = [f"Action: {action}", *(f"{key}: {value}" for key, value in fields.items())]
        self._socket.sendall(("\r\n".join(lines) + "\r\n\r\n").encode())
        while "Response" not in (answer := self._read()):
            pass
        return answer

    def _read(self) -> dict[str, str]:
        message: dict[str, str] = {}
        while True:
            line = self._file.readline()
            if not line:
                raise ConnectionError("the manager has closed the connection")
            text = line.decode(errors="replace").rstrip("\r\n")
            if not text:
                return message
            key, _, value = text.partition(": ")
            message[key] = value
