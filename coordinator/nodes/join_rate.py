"""How often workers of one address may join.

A worker joins when it starts and when it lost Redis. Whoever joins again and again under new names would fill the
ledger and the names, so an address has a budget. A studio whose PCs all come through one proxy is hardly slowed down.
"""

from __future__ import annotations

import ipaddress
from collections import OrderedDict
from collections.abc import Callable

from .errors import TooManyJoins

#: Joins at once, and a second after that, of one address.
BURST, PER_S = 200, 5.0
#: Addresses that are remembered; the one not heard of longest is forgotten first.
MOST_ADDRESSES = 4096


class JoinRate:
    """Counts joins by address. Not thread-safe: whoever owns it holds a lock.

    This machine's own processes are not counted: they have the farm's files anyway.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        #: Address → joins left, and the clock's seconds at which they were counted.
        self._left: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def count(self, address: str) -> None:
        """A join came from this address. Raises :class:`TooManyJoins`; this PC itself is never counted."""
        if _is_loopback(address):
            return
        now = self._clock()
        left, at = self._left.pop(address, (float(BURST), now))
        left = min(float(BURST), left + (now - at) * PER_S)
        self._left[address] = (max(0.0, left - 1), now)
        while len(self._left) > MOST_ADDRESSES:
            self._left.popitem(last=False)
        if left < 1:
            raise TooManyJoins(address)


def _is_loopback(address: str) -> bool:
    try:
        return ipaddress.ip_address(address).is_loopback
    except ValueError:
        return False
