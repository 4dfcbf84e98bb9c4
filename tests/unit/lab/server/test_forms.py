"""What a request says, whatever its body is called."""

import asyncio

import pytest
from starlette.requests import Request

from lab.server.forms import Form, read_form

FORM = "application/x-www-form-urlencoded"
CACHE = b'<cache><file md5="0123456789abcdef0123456789abcdef"/></cache>'


def read(body: bytes, kind: str = FORM, query: bytes = b"computemethod=1") -> Form:
    async def receive():
        return {"type": "http.request", "body": body, "more_body": False}

    scope = {"type": "http", "method": "POST", "path": "/", "query_string": query, "headers": []}
    scope["headers"] = [(b"content-type", kind.encode())]
    return asyncio.run(read_form(Request(scope, receive)))


@pytest.mark.parametrize(
    "body",
    [
        CACHE,
        b'<?xml version="1.0"?>' + CACHE,
        b"\xef\xbb\xbf" + CACHE,
        b" \r\n\t" + CACHE,
        b"\n\xef\xbb\xbf\n" + CACHE,
        CACHE.decode().encode("utf-16"),
        CACHE.decode().encode("utf-16-be"),
    ],
)
@pytest.mark.parametrize("kind", [FORM, "application/xml; charset=utf-8", FORM + "; charset=utf-8", ""])
def test_xml_is_a_body_whatever_it_is_called(body, kind):
    form = read(body, kind)
    assert (form.fields, form.body) == ({"computemethod": "1"}, body)


@pytest.mark.parametrize("body", [b"login=a&password=%3Cb%3E", b" login=a&password=<b>", b"login=a&password=\n<b>"])
def test_a_form_stays_a_form(body):
    form = read(body)
    assert form.fields["password"].strip() == "<b>"
    assert form.body == b""
