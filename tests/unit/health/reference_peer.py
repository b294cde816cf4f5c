"""A process that answers every SIP request with 200, over UDP or TCP: something real to kill.

`python -m tests.unit.health.reference_peer udp|tcp HOST PORT` prints a line when it listens.
"""

from __future__ import annotations

import socket
import sys


def answer(request: bytes) -> bytes:
    return b"SIP/2.0 200 OK\r\n" + request.partition(b"\r\n")[2]


def main(transport: str, host: str, port: int) -> None:
    if transport == "udp":
        sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        sock.bind((host, port))
        print("listening", flush=True)
        while True:
            data, source = sock.recvfrom(65535)
            sock.sendto(answer(data), source)
    listener = socket.create_server((host, port))
    print("listening", flush=True)
    while True:
        stream, _ = listener.accept()
        with stream:
            pending = b""
            while data := stream.recv(65535):
                pending += data
                while b"\r\n\r\n" in pending:
                    head, _, pending = pending.partition(b"\r\n\r\n")
                    stream.sendall(answer(head + b"\r\n\r\n"))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]))
