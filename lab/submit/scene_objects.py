"""The objects that a scene renders, with those of the collections it instances."""

from __future__ import annotations

from collections.abc import Iterator

from .blend_file import Blend, Block

#: An object's kind: a camera.
_CAMERA = 11


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


def may_have_camera(scene: Block, objects: list[Block]) -> bool:
    """Whether Blender finds a camera: the scene's, one that a marker switches to, or any object of the scene.

    What a linked object is, only its library says.
    """
    if scene.follow(b"camera") is not None or any(item.type == "ID" for item in objects):
        return True
    if any(marker.follow(b"camera") is not None for marker in scene.listed(b"markers")):
        return True
    return any(item.number(b"type") == _CAMERA for item in objects)


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
