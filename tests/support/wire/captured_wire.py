"""What public clients sent, letter by letter: the files of ``captures/`` as requests that can be sent again."""

from __future__ import annotations

import json
import re
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import parse_qsl, quote, urlsplit

FOLDER = Path(__file__).parents[2] / "captures"
CLIENTS = ("java2015", "java2020", "java2022", "rust2024")


@dataclass(frozen=True, kw_only=True)
class CapturedRequest:
    """One request of a client."""

    client: str
    #: Its place among the requests of its client, from 0.
    number: int
    method: str
    #: With its query.
    target: str
    headers: tuple[tuple[str, str], ...]
    body: bytes

    @property
    def path(self) -> str:
        return urlsplit(self.target).path

    @property
    def query(self) -> dict[str, str]:
        return dict(parse_qsl(urlsplit(self.target).query, keep_blank_values=True))

    @property
    def form(self) -> dict[str, str]:
        """The parameters of a urlencoded body."""
        return dict(parse_qsl(self.body.decode(), keep_blank_values=True))

    def with_secret(self, secret: str) -> CapturedRequest:
        """With a password in place of the one that was taken out; nothing else is touched."""
        filled = quote(secret, safe="")
        body = self.body.replace(b"password=***", b"password=" + filled.encode())
        return _changed(self, self.target.replace("password=***", f"password={filled}"), body)

    def with_frame(self, *, job: str, frame: str, picture: bytes) -> CapturedRequest:
        """The same words about a frame of ours, with a real picture."""
        target = re.sub(r"\bjob=\d+", f"job={job}", re.sub(r"\bframe=\d+", f"frame={frame}", self.target))
        head, found, _ = self.body.partition(b"(picture)")
        boundary = self.body.partition(b"\r\n")[0]
        body = head + picture + b"\r\n" + boundary + b"--\r\n" if found else self.body
        return _changed(self, target, body)

    def with_chunk(self, chunk: str) -> CapturedRequest:
        """The same words about a piece of ours."""
        return _changed(self, re.sub(r"\bchunk=\w+", f"chunk={chunk}", self.target), self.body)

    def closed(self) -> CapturedRequest:
        """A form that was cut off, with its end."""
        boundary = self.body.partition(b"\r\n")[0]
        return _changed(self, self.target, self.body + b"\r\n" + boundary + b"--\r\n")

    def raw(self, host: str, cookie: str = "") -> bytes:
        """The bytes of the request; its length is that of its body now."""
        lines = [f"{self.method} {self.target} HTTP/1.1", f"Host: {host}"]
        lines += [f"{name}: {value}" for name, value in self.headers if name.lower() != "content-length"]
        lines += [f"Cookie: {cookie}"] if cookie else []
        lines += [f"Content-Length: {len(self.body)}"] if self.body or self.method == "POST" else []
        return "\r\n".join(lines).encode() + b"\r\n\r\n" + self.body


def _changed(request: CapturedRequest, target: str, body: bytes) -> CapturedRequest:
    return CapturedRequest(**{**vars(request), "target": target, "body": body})


def captured(client: str) -> list[CapturedRequest]:
    """All requests of a client, in order."""
    listed = json.loads((FOLDER / f"{client}.json").read_text(encoding="utf-8"))
    return [
        CapturedRequest(
            client=client,
            number=number,
            method=entry["method"],
            target=entry["path"],
            headers=tuple((name, value) for name, value in entry["headers"]),
            body=entry["body"].encode(),
        )
        for number, entry in enumerate(listed)
    ]


@dataclass(frozen=True, kw_only=True)
class RawAnswer:
    """An answer as bytes; header names as they came."""

    status: int
    headers: tuple[tuple[str, str], ...]
    body: bytes

    def exactly(self, name: str) -> str | None:
        """The header of exactly this spelling, as clients before 2018-12 look for it."""
        return dict(self.headers).get(name)

    def header(self, name: str) -> str | None:
        """The header in any spelling."""
        return {key.lower(): value for key, value in self.headers}.get(name.lower())


def exchange(host: str, request: bytes, *, timeout_s: float = 20) -> RawAnswer:
    """Send bytes to ``host:port`` on a connection of its own, and read the answer to its end."""
    name, _, port = host.partition(":")
    with socket.create_connection((name, int(port)), timeout=timeout_s) as connection:
        connection.sendall(request)
        received = b""
        while b"\r\n\r\n" not in received:
            received += _some(connection)
        head, _, body = received.partition(b"\r\n\r\n")
        first, *lines = head.decode("latin-1").split("\r\n")
        headers = tuple((name, value.strip()) for name, _, value in (line.partition(":") for line in lines))
        length = int(_length(dict(headers), request))
        while len(body) < length:
            body += _some(connection)
    return RawAnswer(status=int(first.split()[1]), headers=headers, body=body)


def _length(headers: Mapping[str, str], request: bytes) -> str:
    if request.startswith(b"HEAD "):
        return "0"
    return next(value for name, value in headers.items() if name.lower() == "content-length")


def _some(connection: socket.socket) -> bytes:
    data = connection.recv(65_536)
    assert data, "the server hung up in the middle of its answer"
    return data
