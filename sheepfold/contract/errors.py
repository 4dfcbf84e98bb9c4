"""What can be wrong with a message between coordinator and worker.

::

    ContractError
    ├── MalformedContract     the text is not the message that was asked for: another version, or a bug
    └── RefusedMessage        an order or a cancel that this node must not follow
        ├── ForgedMessage     its signature is not this farm's coordinator's
        ├── OtherFarm         it was made for another farm
        ├── OtherNode         it was made for another node
        ├── ExpiredMessage    it is too old, or its time is still to come
        ├── ReplayedMessage   it was followed before
        └── AgeUnknown        Redis does not say what time it is
"""

from __future__ import annotations

from sheepfold.errors import SheepfoldError


class ContractError(SheepfoldError):
    """A message between coordinator and worker cannot be used."""


class MalformedContract(ContractError):
    """The text is not a message of the kind asked for."""


class RefusedMessage(ContractError):
    """An order or a cancel that this node must not follow."""


class ForgedMessage(RefusedMessage):
    """It is not signed by this farm's coordinator."""


class OtherFarm(RefusedMessage):
    """It was made for another farm."""

    def __init__(self, farm_id: str) -> None:
        self.farm_id = farm_id
        super().__init__(f"it was made for farm {farm_id[:64]!r}, not for this one")


class OtherNode(RefusedMessage):
    """It was made for another node."""

    def __init__(self, node_id: str) -> None:
        self.node_id = node_id
        super().__init__(f"it was made for node {node_id[:64]!r}, not for this one")


class ExpiredMessage(RefusedMessage):
    """It is too old, or its time is still to come."""

    def __init__(self, age_s: float, good_for_s: float) -> None:
        self.age_s, self.good_for_s = age_s, good_for_s
        when = f"{age_s:.0f} s ago" if age_s >= 0 else f"{-age_s:.0f} s from now"
        super().__init__(f"it was sent {when} by Redis' clock, and is good for {good_for_s:.0f} s")


class ReplayedMessage(RefusedMessage):
    """This node has followed it before, within the time for which it is good."""


class AgeUnknown(RefusedMessage):
    """Redis does not say what time it is, so its age cannot be told."""
