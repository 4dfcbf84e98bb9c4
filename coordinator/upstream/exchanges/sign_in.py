"""How a session begins: what is sent for it, where it is led, and servers whose dialect is unknown.

The password or key is in the query or the form, and in ``secrets``, so that no reason of a failure shows it.
"""

from __future__ import annotations

from typing import Any
from urllib.parse import quote, quote_plus, urlencode, urljoin

from coordinator.upstream.transport.addresses import public
from coordinator.upstream.transport.connections import SharedJar
from coordinator.upstream.transport.http_transport import HttpCall, fixed_body
from sheepfold.protocol import writing
from sheepfold.protocol.dialects import Dialect
from sheepfold.protocol.session_messages import SignInRequest

_FORM = "application/x-www-form-urlencoded"


def sign_in_call(root: str, path: str, request: SignInRequest, dialect: Dialect, *, deadline_s: float) -> HttpCall:
    """The exchange, with a fresh cookie jar, in the words of ``dialect``."""
    secret = request.credentials.password
    params = writing.write_sign_in_request(request, dialect)
    form = urlencode(params)
    details: dict[str, Any] = {"params": params}
    if dialect.sign_in_by_form:
        details = {"method": "POST", "body": fixed_body(form, _FORM)}
    return HttpCall(
        exchange="sign-in",
        base=root,
        path=path,
        jar=SharedJar(),
        deadline_s=deadline_s,
        secrets=(secret, quote(secret), quote_plus(secret)),
        **details,
    )


def base_after(root: str, path: str, final_url: str) -> str:
    """The root URL, or the one that a redirected sign-in shows to be the real one."""
    plain = public(final_url)
    if plain == public(urljoin(root, path)):
        return root
    return plain.removesuffix(path) if plain.endswith("/" + path) else urljoin(plain, "/")
