"""The parameters of a request, wherever they travel: query, urlencoded body, or multipart body with one file.

A file is written to disk as it arrives, at most ``limit`` bytes of it; everything else is bounded in memory. When both
query and body name a parameter, the query wins.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, TYPE_CHECKING
from urllib.parse import parse_qsl

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header
from starlette.requests import ClientDisconnect, Request

from lab.errors import BadForm

if TYPE_CHECKING:
    from python_multipart.multipart import MultipartCallbacks

MAX_FIELDS = 64
MAX_FIELD_BYTES = 64 * 1024
#: Of a body that is no multipart: a ``<cache>`` list, or an error log as urlencoded text.
MAX_BODY_BYTES = 4 * 1024 * 1024
_MARKS = (b"\xef\xbb\xbf", b"\xff\xfe", b"\xfe\xff")
#: A client that nobody knows says what it has to say in less.
STRANGERS_BODY_BYTES = 64 * 1024
#: Of a body that is too large so much more is read and thrown away, so that the client gets its answer.
MAX_IGNORED_BYTES = 64 * 1024 * 1024
#: Collected before it goes to disk in a thread; a small frame never costs one.
WRITE_AT_BYTES = 1024 * 1024


@dataclass(frozen=True, kw_only=True)
class Form:
    """The fields of a request, from query and body, and its file."""

    fields: Mapping[str, str]
    #: The body, where it is neither urlencoded nor multipart, or is XML whatever it is called.
    body: bytes = b""
    #: The file of a multipart body: where it lies (the reader of the form removes it), or ``None``.
    file: Path | None = None


async def read_form(
    request: Request, *, to: Path | None = None, limit: int = MAX_BODY_BYTES, body_limit: int = MAX_BODY_BYTES
) -> Form:
    """The whole request. A file of ``limit`` bytes goes to ``to``, or nowhere if that is ``None``.

    Any other body may have ``body_limit`` bytes. Raises :class:`BadForm`. A body that is too large is read on all the
    same and thrown away, within :data:`MAX_IGNORED_BYTES`, so that the client gets its answer.
    """
    query = dict(request.query_params)
    if request.method == "GET":
        return Form(fields=query)
    kind, options = parse_options_header(request.headers.get("content-type"))
    try:
        if kind == b"multipart/form-data":
            fields, file = await _read_multipart(request, options.get(b"boundary", b""), to, limit)
            return Form(fields={**fields, **query}, file=file)
        body = await _read_body(request, body_limit)
    except ClientDisconnect:
        raise BadForm("the client hung up") from None
    # Clients until 2020 send XML and call it a form; no form begins like that.
    if kind == b"application/x-www-form-urlencoded" and not _is_document(body):
        return Form(fields={**_urlencoded(body), **query})
    return Form(fields=query, body=body)


def _is_document(body: bytes) -> bool:
    """XML, by its first character after a byte order mark and white space."""
    for mark in _MARKS:
        body = body.lstrip().removeprefix(mark)
    return body.lstrip(b"\0 \t\r\n").startswith(b"<")


def _urlencoded(body: bytes) -> dict[str, str]:
    try:
        return dict(parse_qsl(body.decode("utf-8", "replace"), keep_blank_values=True, max_num_fields=MAX_FIELDS))
    except ValueError:
        raise BadForm("too many parameters", too_large=True) from None


async def _read_body(request: Request, limit: int) -> bytes:
    parts: list[bytes] = []
    size = 0
    async for chunk in request.stream():
        size += len(chunk)
        if size <= limit:
            parts.append(chunk)
        elif size > limit + MAX_IGNORED_BYTES:
            break
    if size > limit:
        raise BadForm(f"the body is larger than {limit} bytes", too_large=True)
    return b"".join(parts)


async def _read_multipart(
    request: Request, boundary: bytes, to: Path | None, limit: int
) -> tuple[dict[str, str], Path | None]:
    parsed = _FormParser(limit=limit, keep_file=to is not None)
    parser = _parser(boundary, parsed)
    file: IO[bytes] | None = None
    failure: BadForm | None = None
    try:
        ignored = 0
        async for chunk in request.stream():
            if failure is not None:
                ignored += len(chunk)
                if ignored > MAX_IGNORED_BYTES:
                    break
                continue
            failure = _fed(parser, chunk)
            if to is not None and parsed.pending_bytes >= WRITE_AT_BYTES:
                file = file or to.open("wb")
                await asyncio.to_thread(file.writelines, parsed.take_pending())
        if failure is None and not parsed.complete:
            failure = BadForm("the form is cut off")
        if to is not None and parsed.has_file and failure is None:
            file = file or to.open("wb")
            file.writelines(parsed.take_pending())
    finally:
        if file is not None:
            file.close()
        if failure is not None and to is not None:
            to.unlink(missing_ok=True)
    if failure is not None:
        raise failure
    return parsed.fields, to if file is not None else None


def _parser(boundary: bytes, parsed: _FormParser) -> MultipartParser:
    if not boundary:
        raise BadForm("the form names no boundary")
    try:
        return MultipartParser(boundary, parsed.callbacks())
    except FormParserError:
        raise BadForm("the form's boundary is too long") from None


def _fed(parser: MultipartParser, chunk: bytes) -> BadForm | None:
    try:
        parser.write(chunk)
    except FormParserError as error:
        return BadForm(f"the form cannot be read: {error}")
    except BadForm as error:
        return error
    return None


@dataclass
class _FormParser:
    """Collects what the parser calls out."""

    limit: int
    keep_file: bool
    fields: dict[str, str] = field(default_factory=dict)
    has_file: bool = False
    complete: bool = False
    pending_bytes: int = 0
    _pending: list[bytes] = field(default_factory=list)
    _header: bytearray = field(default_factory=bytearray)
    _header_value: bytearray = field(default_factory=bytearray)
    _disposition: bytes = b""
    _name: str = ""
    _is_file: bool = False
    _value: bytearray = field(default_factory=bytearray)
    _size: int = 0

    def callbacks(self) -> MultipartCallbacks:
        return {
            "on_part_begin": self._begin,
            "on_header_field": lambda data, start, end: self._header.extend(data[start:end]),
            "on_header_value": lambda data, start, end: self._header_value.extend(data[start:end]),
            "on_header_end": self._end_header,
            "on_headers_finished": self._end_headers,
            "on_part_data": self._data,
            "on_part_end": self._end_part,
            "on_end": self._end,
        }

    def take_pending(self) -> list[bytes]:
        """File bytes that arrived since the last call."""
        pending, self._pending, self.pending_bytes = self._pending, [], 0
        return pending

    def _begin(self) -> None:
        self._disposition, self._name, self._is_file = b"", "", False
        self._value = bytearray()

    def _end_header(self) -> None:
        if bytes(self._header).lower() == b"content-disposition":
            self._disposition = bytes(self._header_value)
        self._header, self._header_value = bytearray(), bytearray()

    def _end_headers(self) -> None:
        _, options = parse_options_header(self._disposition)
        self._name = options.get(b"name", b"").decode("utf-8", "replace")
        self._is_file = b"filename" in options
        if self._is_file and self.has_file:
            raise BadForm("the form has more than one file")
        self.has_file = self.has_file or self._is_file

    def _data(self, data: bytes, start: int, end: int) -> None:
        if not self._is_file:
            if len(self._value) + end - start > MAX_FIELD_BYTES:
                raise BadForm(f"the parameter {self._name[:40]!r} is too long", too_large=True)
            self._value.extend(data[start:end])
            return
        self._size += end - start
        if self._size > self.limit:
            raise BadForm(f"the file is larger than {self.limit} bytes", too_large=True)
        if self.keep_file:
            self._pending.append(data[start:end])
            self.pending_bytes += end - start

    def _end_part(self) -> None:
        if self._is_file:
            return
        if len(self.fields) >= MAX_FIELDS:
            raise BadForm("too many parameters", too_large=True)
        self.fields.setdefault(self._name, self._value.decode("utf-8", "replace"))

    def _end(self) -> None:
        self.complete = True
