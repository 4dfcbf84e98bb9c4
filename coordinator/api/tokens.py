"""Whether a caller of the LAN API has the farm token, and how often an address may guess it."""

from __future__ import annotations

import hmac
import threading
from collections import OrderedDict

from starlette.requests import Request

from sheepfold.serving.errors import TooManyGuesses
from sheepfold.serving.guesses import MOST_NAMES, GuessBrake


class TokenCheck:
    """Thread-safe. An address that has shown the token once is never slowed down: behind a router many have one."""

    def __init__(self, farm_token: str) -> None:
        self._token = farm_token.encode()
        self._brake = GuessBrake()
        self._lock = threading.Lock()
        self._known: OrderedDict[str, None] = OrderedDict()

    def is_right(self, given: str, address: str) -> bool:
        """Raises :class:`TooManyGuesses` for an address that has guessed too often; its guess is not looked at."""
        is_known = address in self._known
        if not is_known and (wait_s := self._brake.wait_s(address)):
            raise TooManyGuesses("the farm token", wait_s)
        if not hmac.compare_digest(given.encode("utf-8", "surrogateescape"), self._token):
            self._brake.wrong(address)
            return False
        if not is_known:
            self._brake.right(address)
            with self._lock:
                self._known[address] = None
                while len(self._known) > MOST_NAMES:
                    self._known.popitem(last=False)
        return True


def address_of(request: Request) -> str:
    """IP address of the other end of the connection; empty where there is none, as in tests."""
    return request.client.host if request.client else ""
