"""Reads from a .blend and its libraries what they ask for: blender-asset-tracer's findings, and what it passes over.

It looks for light profiles in lamps alone, takes a clip of frames for one file, names the sound strips of the sequencer
by a path that does not exist, finds the images of a strip only where they are numbered, and cannot write into some of
the fields it finds; those are read here.
"""

from __future__ import annotations

import bisect
import mmap
import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from blender_asset_tracer import blendfile, cdefs
from blender_asset_tracer.blendfile import exceptions, iterators
from blender_asset_tracer.trace import blocks2assets
from blender_asset_tracer.trace.file2blocks import BlockIterator

from .references import Field, Kind, Reference, absolute_path

# Of Blender's DNA headers.
_FAKE_USER = 1 << 9
_CACHE_BAKED = 1 << 0
_FLUID_BAKED = (1 << 1) | (1 << 3) | (1 << 5) | (1 << 7)
_CLIP_OF_FRAMES = 1
_EXTERNAL = 1
_FILES_OF_NODES = {"NodeShaderTexIES", "NodeShaderScript"}
_WITH_NODES = {b"MA", b"WO", b"LA", b"SC", b"TE", b"LS"}
_PICTURES = {cdefs.SEQ_TYPE_IMAGE, cdefs.SEQ_TYPE_MOVIE}
_CACHES = {"PointCache", "FluidDomainSettings"}
#: Screens, windows, workspaces and brushes.
_NOT_RENDERED = {b"SN", b"SR", b"WM", b"WS", b"BR", b"GLOB"}
_NO_FILES = {b"ID", b"WM", b"SN", b"LA"}


def trace(blend: Path) -> list[Reference]:
    """Every reference of the scene and its libraries. On a damaged file nearly any exception comes out of it."""
    blocks = BlockIterator()
    main = blocks.open_blendfile(blend)
    return [
        reference
        for block in blocks.iter_blocks(main)
        for reference in _of_block(block, main)
        if reference.stored.strip(b"/")
    ]


def _of_block(block: Any, main: Any) -> Iterator[Reference]:
    if block.code in _WITH_NODES or block.code == b"NT":
        yield from _of_nodes(block)
    if block.code == b"SC":
        yield from _of_strips(block)
    elif block.code == b"ME":
        yield from _of_mesh(block)
    elif len(block.code) == 2 and block.code not in _NO_FILES:
        for usage in blocks2assets.iter_assets(block):
            reference = _of_usage(usage)
            if not reference.absent() or _is_used(block, usage, main):
                yield reference
            elif usage.block.dna_type_name not in _CACHES:
                yield replace(reference, used=False)
            # Blender names a folder for every simulation; one that was never baked has none.


def _of_usage(usage: Any) -> Reference:
    block, stored = usage.block, bytes(usage.asset_path)
    path = absolute_path(stored, Path(block.bfile.filepath))
    kind = Kind.FILE
    if usage.is_sequence or (block.code == b"MC" and block.get(b"source", default=0) == _CLIP_OF_FRAMES):
        kind = _kind_of_many(block, path)
    fields = () if kind is Kind.MATCHES else _checked(block.bfile, stored, _field(block, usage.path_full_field))
    return Reference(blend=Path(block.bfile.filepath), stored=stored, path=path, kind=kind, fields=fields)


def _kind_of_many(block: Any, path: Path) -> Kind:
    if block.dna_type_name == "PointCache" and "*" in path.name:
        return Kind.MATCHES
    if path.is_dir():
        return Kind.FOLDER
    return Kind.TILES if "<UDIM>" in path.name or "<UVTILE>" in path.name else Kind.FRAMES


def _is_used(block: Any, usage: Any, main: Any) -> bool:
    """As far as the file itself tells; Blender knows better."""
    kind = usage.block.dna_type_name
    if kind == "PointCache":
        return bool(usage.block.get(b"flag", default=0) & (_CACHE_BAKED | cdefs.PTCACHE_EXTERNAL))
    if kind == "FluidDomainSettings":
        return bool(usage.block.get(b"cache_flag", default=0) & _FLUID_BAKED)
    if block.code == b"SO":
        return False
    # What nothing points to is kept for its fake user alone; in a library, for the files that take it from there.
    if block.bfile is not main or block.code == b"LI" or not block.get((b"id", b"flag"), default=0) & _FAKE_USER:
        return True
    return _is_pointed_to(block)


def _is_pointed_to(block: Any) -> bool:
    """Whether a data-block of the same file that a render reads points to this one."""
    file, size = block.bfile, block.bfile.header.pointer_size
    address = block.addr_old.to_bytes(size, "little" if file.header.is_little_endian else "big")
    starts = [other.file_offset for other in file.blocks]
    for offset in _occurrences(file, address):
        index = bisect.bisect_right(starts, offset) - 1
        at = offset - starts[index]
        # A data-block begins with its neighbours in the list of its kind.
        if index < 0 or not 0 <= at < file.blocks[index].size or (at < 2 * size and file.blocks[index].code != b"DATA"):
            continue
        owner = next((other for other in reversed(file.blocks[: index + 1]) if other.code != b"DATA"), None)
        if owner is not None and owner.code not in _NOT_RENDERED:
            return True
    return False


def _of_nodes(block: Any) -> Iterator[Reference]:
    tree = block if block.code == b"NT" else block.get_pointer(b"nodetree", None)
    if tree is None or tree.dna_type_name != "bNodeTree":
        return
    for node in iterators.listbase(tree.get_pointer((b"nodes", b"first"))):
        storage = _storage(node)
        if storage is None or storage.dna_type_name not in _FILES_OF_NODES or storage.get(b"mode") != _EXTERNAL:
            continue
        stored, field = storage.get(b"filepath", return_field=True)
        blend = Path(block.bfile.filepath)
        fields = _checked(block.bfile, stored, _field(storage, field))
        yield Reference(blend=blend, stored=stored, path=absolute_path(stored, blend), fields=fields)


def _storage(node: Any) -> Any:
    try:
        return node.get_pointer(b"storage")
    except exceptions.SegmentationFault:  # Blender does not save those of nodes that it did not know
        return None


def _of_mesh(block: Any) -> Iterator[Reference]:
    for data in (b"ldata", b"fdata"):
        external = block.get_pointer((data, b"external"), None)
        if external is not None:
            stored, field = external.get(b"filename", return_field=True)
            blend = Path(block.bfile.filepath)
            fields = _checked(block.bfile, stored, _field(external, field))
            yield Reference(blend=blend, stored=stored, path=absolute_path(stored, blend), fields=fields)
            return


def _of_strips(scene: Any) -> Iterator[Reference]:
    editor = scene.get_pointer(b"ed", None)
    if editor is None:
        return
    for strip, kind in iterators.sequencer_strips(editor):
        if kind not in _PICTURES:  # a sound strip's file is that of its sound
            continue
        place = strip.get_pointer(b"strip")
        names = place.get_pointer(b"stripdata") if place else None
        if names is not None:
            yield _of_strip(place, names)


def _of_strip(place: Any, elements: Any) -> Reference:
    folder, folder_field = place.get(b"dir", return_field=True)
    blend, fields = Path(place.bfile.filepath), [_field(place, folder_field)]
    names: list[str] = []
    for index in range(elements.count):
        raw, field = elements.get(b"name", return_field=True, array_index=index)
        name = os.fsdecode(raw)
        offset = elements.file_offset + index * elements.dna_type.size + field.offset
        fields.append(Field(offset=offset, capacity=field.size, name=name))
        names.append(name)
    return Reference(
        blend=blend,
        stored=folder,
        path=absolute_path(folder, blend),
        kind=Kind.LISTED,
        names=tuple(names),
        fields=tuple(field for field in fields if field is not None),
    )


def _field(block: Any, field: Any) -> Field | None:
    if field is None or field.name.is_pointer:
        return None
    return Field(offset=block.file_offset + field.offset, capacity=field.size)


def _checked(file: Any, stored: bytes, field: Field | None) -> tuple[Field, ...]:
    """The field, if the path is there indeed; else wherever it is."""
    if field is not None:
        file.fileobj.seek(field.offset)
        there = file.fileobj.read(field.capacity).partition(b"\0")[0]
        if there.replace(b"\\", b"/") == stored.replace(b"\\", b"/"):
            return (field,)
    return stored_at(Path(file.filepath), stored)


def stored_at(blend: Path, stored: bytes) -> tuple[Field, ...]:
    """Every field of this .blend that holds exactly this path."""
    file: Any = blendfile.open_cached(blend)
    blocks = sorted((block for block in file.blocks if block.size), key=lambda block: block.file_offset)
    starts = [block.file_offset for block in blocks]
    found: list[Field] = []
    for offset in _occurrences(file, stored + b"\0"):
        block = blocks[max(0, bisect.bisect_right(starts, offset) - 1)]
        capacity = _capacity(block, offset - block.file_offset)
        if capacity:
            found.append(Field(offset=offset, capacity=capacity))
    return tuple(found)


def _occurrences(file: Any, wanted: bytes) -> Iterator[int]:
    if len(wanted) < 2:
        return
    with mmap.mmap(file.fileobj.fileno(), 0, access=mmap.ACCESS_READ) as content:
        at = content.find(wanted)
        while at >= 0:
            yield at
            at = content.find(wanted, at + 1)


def _capacity(block: Any, offset: int) -> int:
    """Bytes of the text field that begins at this offset of the block; 0: none does."""
    if not 0 <= offset < block.size:
        return 0
    if block.code == b"DATA" and block.sdna_index == 0:  # a text of its own, such as the folder of a bake
        return block.size if offset == 0 else 0
    size = block.dna_type.size
    if not size:
        return 0
    return next((capacity for start, capacity in _texts(block.dna_type, 0) if start == offset % size), 0)


def _texts(structure: Any, base: int) -> Iterator[tuple[int, int]]:
    for field in structure.fields:
        if field.name.is_pointer or field.name.is_method_pointer:
            continue
        if field.dna_type.dna_type_id == b"char" and field.size > 1:
            yield base + field.offset, field.size
        elif field.dna_type.fields:
            for index in range(field.name.array_size):
                yield from _texts(field.dna_type, base + field.offset + index * field.dna_type.size)
