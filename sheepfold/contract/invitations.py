"""The one line that a person carries from the coordinator to a PC that is to join. Pure.

::

    sheepfold://192.168.1.10:8420/<SHA-256 of the farm's authority>/<one-time code>
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from .errors import MalformedContract

_LINE = re.compile(
    r"sheepfold://(?P<address>(?:[0-9A-Za-z._-]{1,253}|\[[0-9A-Fa-f:.]{2,45}\]):[0-9]{1,5})"
    r"/(?P<fingerprint>[0-9a-f]{64})/(?P<code>[0-9a-f]{8,128})",
    re.ASCII,
)


@dataclass(frozen=True, kw_only=True)
class Invitation:
    """Where a PC joins, how it knows the farm, and what makes it welcome."""

    #: ``host:port`` of the LAN API.
    address: str
    #: SHA-256 of the farm's authority, hex: whoever else answers is told nothing.
    fingerprint: str
    #: Good for one PC and for a short time; never logged.
    code: str = field(repr=False)

    @property
    def url(self) -> str:
        """Root of the LAN API, without a slash at its end."""
        return f"https://{self.address}"

    @property
    def line(self) -> str:
        """As it is printed, and typed on the PC."""
        return f"sheepfold://{self.address}/{self.fingerprint}/{self.code}"

    @classmethod
    def from_line(cls, line: str) -> Invitation:
        """Reads what was typed. Raises MalformedContract, whose text does not hold the line."""
        found = _LINE.fullmatch(line.strip())
        if found is None:
            raise MalformedContract("this is no line of `sheepfold node invite`: copy the whole of it")
        return cls(address=found["address"], fingerprint=found["fingerprint"], code=found["code"])
