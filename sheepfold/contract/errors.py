"""What can be wrong with a message between coordinator and worker.

::

    ContractError
    ├── MalformedContract   the text is not the message that was asked for: another version, or a bug
    └── ForgedOrder         the order is not from this farm's coordinator, or not for this node
"""

from __future__ import annotations

from sheepfold.errors import SheepfoldError


class ContractError(SheepfoldError):
    """A message between coordinator and worker cannot be used."""


class MalformedContract(ContractError):
    """The text is not a message of the kind asked for."""


class ForgedOrder(ContractError):
    """The order's signature is not the coordinator's, or it was made for another node."""
