"""The objects that a scene renders, with those of the collections it instances."""

from __future__ import annotations

from collections.abc import Iterator

from .blend_file import Blend, Block


def objects_of(blend: Blend, scene: Block) -> list[Block]:
    """Every object of the scene, each once; linked ones are mere placeholders (an ``ID``)."""
    found: dict[int, Block] = {}
    collections: set[int] = set()
    waiting = [scene.follow(b"master_collection")]
    for base in scene.listed(b"base"):  # before 2.80
        _add(base.follow(b"object"), found, waiting)
    while waiting:
        collection = waiting.pop()
        if collection is None or collection.address in collections:
            continue
        collections.add(collection.address)
        for member in collection.listed(b"gobject"):
            _add(member.follow(b"ob"), found, waiting)
        waiting += [child.follow(b"collection") for child in collection.listed(b"children")]
    return list(found.values()) or list(blend.blocks(b"OB"))


def _add(item: Block | None, found: dict[int, Block], waiting: list[Block | None]) -> None:
    if item is None or item.address in found:
        return
    found[item.address] = item
    # 2.80 to 3.x wrote it under its old name.
    waiting += [item.follow(b"instance_collection"), item.follow(b"dup_group")]


def has_camera(scene: Block) -> bool:
    """Whether the scene names a camera, or a marker does that switches to one.

    Blender's window finds any camera; a render from the command line does not.
    """
    return any(owner.follow(b"camera") is not None for owner in (scene, *scene.listed(b"markers")))


def nodes_of(tree: Block | None) -> Iterator[Block]:
    """All nodes of a node tree and of the groups in it."""
    seen: set[int] = set()
    waiting = [tree]
    while waiting:
        group = waiting.pop()
        if group is None or group.address in seen or group.type == "ID":
            continue
        seen.add(group.address)
        for node in group.listed(b"nodes"):
            yield node
            if node.text(b"idname").endswith("NodeGroup"):
                waiting.append(node.follow(b"id"))
