"""Forms of strangers: any bytes, in any pieces, are a form or a :class:`BadForm`, within their bounds."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from starlette.requests import Request

from lab.errors import BadForm
from lab.server.forms import MAX_FIELD_BYTES, MAX_FIELDS, Form, read_form
from tests.support.fuzzing import fuzzed

LIMIT = 2_000
PART = st.sampled_from([
    b"--b\r\n", b"--b--\r\n", b"--", b"b", b"\r\n", b"\n", b"\r\n\r\n", b"Content-Disposition: form-data",
    b'; name="a"', b'; name="file"; filename="x"', b'; name="\xff"', b"; name*=utf-8''a", b"Content-Type: text/xml\r\n",
    b"a=1&", b"%zz", b"%00", b"=&=&", b"x" * 500, b"\0" * 10, b"<cache>", b"\xef\xbb\xbf", b"\xff\xfe",
])  # fmt: skip
KIND = st.sampled_from([
    b"multipart/form-data; boundary=b", b"multipart/form-data", b"multipart/form-data; boundary=" + b"b" * 300,
    b'multipart/form-data; boundary="b\xff"', b"application/x-www-form-urlencoded", b"text/xml", b"", b"\xff",
])  # fmt: skip


def read(kind: bytes, query: bytes, chunks: list[bytes], to: Path | None) -> Form | None:
    """The form, or ``None`` for what is none."""
    pieces = iter(chunks)

    async def receive() -> dict[str, Any]:
        piece = next(pieces, None)
        return {"type": "http.request", "body": piece or b"", "more_body": piece is not None}

    scope = {"type": "http", "method": "POST", "path": "/", "query_string": query, "headers": [(b"content-type", kind)]}
    try:
        return asyncio.run(read_form(Request(scope, receive), to=to, limit=LIMIT))
    except BadForm:
        return None


@fuzzed()
@given(
    kind=KIND,
    query=st.binary(max_size=30).map(lambda text: text.replace(b"\0", b"")),
    chunks=st.lists(PART | st.binary(max_size=40), max_size=30),
    keeps=st.booleans(),
)
def test_whatever_arrives_is_a_form_or_none(
    tmp_path: Path, kind: bytes, query: bytes, chunks: list[bytes], keeps: bool
) -> None:
    path = tmp_path / "file"
    form = read(kind, query, chunks, path if keeps else None)
    if form is None:
        assert not path.exists(), "nothing of a broken form is left"
        return
    assert len(form.fields) <= 2 * MAX_FIELDS
    assert all(len(value.encode("utf-8", "replace")) <= 3 * MAX_FIELD_BYTES for value in form.fields.values())
    if form.file is not None:
        assert form.file.stat().st_size <= LIMIT
        form.file.unlink()
    else:
        path.unlink(missing_ok=True)
