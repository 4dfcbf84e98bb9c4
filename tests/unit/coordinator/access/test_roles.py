"""What each role may do, and that people and nodes are apart."""

from __future__ import annotations

import pytest

from coordinator.access.roles import Role, may


@pytest.mark.parametrize(
    ("held", "allowed"),
    [
        (Role.ANYBODY, {Role.ANYBODY}),
        (Role.NODE, {Role.ANYBODY, Role.NODE}),
        (Role.VIEWER, {Role.ANYBODY, Role.VIEWER}),
        (Role.OPERATOR, {Role.ANYBODY, Role.VIEWER, Role.OPERATOR}),
        (Role.ADMIN, {Role.ANYBODY, Role.VIEWER, Role.OPERATOR, Role.ADMIN}),
    ],
)
def test_a_role_may_what_the_roles_below_it_may(held: Role, allowed: set[Role]) -> None:
    assert {needed for needed in Role if may(held, needed)} == allowed
