"""The roles of whoever calls the coordinator. People and nodes are apart: neither has the other's rights."""

from __future__ import annotations

from enum import StrEnum


class Role(StrEnum):
    """What a route asks of its caller, and what a caller has shown to be."""

    #: Nothing has to be shown.
    ANYBODY = "anybody"
    #: A worker, by the farm token; for what concerns one node it shows that node's secret, too.
    NODE = "node"
    #: A person who looks: page, status, logs, metrics.
    VIEWER = "viewer"
    #: A person who pauses, cancels, releases, asks; looks too.
    OPERATOR = "operator"
    #: A person who says which PCs belong to the farm; operates and looks too.
    ADMIN = "admin"


#: Each may do what those before it may. Each has a password of its own and signs in under the role's name.
PEOPLE = (Role.VIEWER, Role.OPERATOR, Role.ADMIN)


def may(held: Role, needed: Role) -> bool:
    """Whether somebody who is ``held`` may do what ``needed`` may."""
    if needed in PEOPLE:
        return held in PEOPLE[PEOPLE.index(needed) :]
    return needed in (held, Role.ANYBODY)
