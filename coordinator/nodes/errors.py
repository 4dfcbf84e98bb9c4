"""Why the coordinator cannot see its nodes, or does not admit one.

::

    BrokerUnreachable   Redis does not answer, or not usefully
    JoinError
    ├── TooManyJoins    one address joins again and again: it may come later
    ├── TooManyNodes    there is no place for one more
    └── NodeRevoked     an operator turned this node out
    UnknownNode         an operator named a node that nobody knows
"""

from __future__ import annotations

from sheepfold.errors import ExitCode, SheepfoldError


class BrokerUnreachable(SheepfoldError):
    """Redis does not answer, or not usefully."""

    def __init__(self, reason: str) -> None:
        self.reason = reason
        super().__init__(f"Redis cannot be used: {reason}")


class JoinError(SheepfoldError):
    """A worker is not admitted now."""


class TooManyJoins(JoinError):
    """Workers of one address join too often."""

    def __init__(self, address: str) -> None:
        self.address = address
        super().__init__(f"too many workers join from {address}: this one is asked to come again in a moment")


class TooManyNodes(JoinError):
    """So many nodes are here that no other can be told from them."""

    def __init__(self, most_nodes: int) -> None:
        self.most_nodes = most_nodes
        super().__init__(f"{most_nodes} nodes are here, and no more are admitted")


class NodeRevoked(JoinError):
    """An operator revoked this node: its identity opens nothing any more."""

    def __init__(self, node_id: str) -> None:
        self.node_id = node_id
        super().__init__(
            f"node {node_id} was revoked: if this PC belongs to the farm all the same, delete node-id and node-secret "
            "in its work folder, and it joins as another node"
        )


class UnknownNode(SheepfoldError):
    """No node of this name or id ever joined."""

    exit_code = ExitCode.WRONG_SETTING

    def __init__(self, name: str) -> None:
        self.name = name
        super().__init__(
            f"no PC called {name!r} joined in the last days; sheepfold status shows who is here, and one that is gone "
            "is named by its id"
        )
