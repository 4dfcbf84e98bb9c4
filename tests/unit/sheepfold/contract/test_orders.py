"""What an order says, and how a scene of several archives is called."""

from __future__ import annotations

import dataclasses
import hashlib

from sheepfold.contract.orders import RenderOrder, scene_key


def test_no_order_has_a_place_for_a_password() -> None:
    assert not [field.name for field in dataclasses.fields(RenderOrder) if "password" in field.name]


def test_a_scene_of_one_archive_is_called_as_that_one_and_others_by_all_their_names_in_order() -> None:
    first, second = "a" * 32, "b" * 32
    assert scene_key([first]) == first
    assert scene_key([first, second]) == hashlib.md5((first + second).encode()).hexdigest()
    assert len({scene_key(md5s) for md5s in ([first], [second], [first, second], [second, first], [first] * 2)}) == 5
