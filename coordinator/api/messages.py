"""Bodies of requests that are messages of :mod:`sheepfold.contract`."""

from __future__ import annotations

from typing import TypeVar

import anyio
from fastapi import HTTPException, Request

from sheepfold.contract.codec import from_json
from sheepfold.contract.errors import MalformedContract

from .lease_routes import STALLED_AFTER_S

T = TypeVar("T")


async def message_of(request: Request, kind: type[T], most_bytes: int) -> T:
    """The message in a body.

    Raises HTTPException for what is none (422) or too long (413), and TimeoutError when it stops coming.
    """
    body = bytearray()
    with anyio.fail_after(STALLED_AFTER_S):
        async for chunk in request.stream():
            body += chunk
            if len(body) > most_bytes:
                raise HTTPException(413, f"a {kind.__name__} is never larger than {most_bytes} bytes")
    try:
        return from_json(kind, bytes(body))
    except MalformedContract as error:
        raise HTTPException(422, str(error)) from None
