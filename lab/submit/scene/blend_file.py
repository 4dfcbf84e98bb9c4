"""Reads a .blend's own tables, without Blender. Never writes, and never hangs on a damaged file.

A .blend describes itself: every file holds the names and sizes of all structures (Blender's "SDNA"), so fields are
asked by name and a file of any Blender can be read. What is damaged in it shows up as an exception or as a list that
never ends: reading goes forward only, no pointer is followed that the file does not hold, no list is walked twice.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, Literal

from blender_asset_tracer import blendfile
from blender_asset_tracer.blendfile import exceptions, iterators

from lab.errors import UnreadableScene

#: More entries than this has no list of a scene that a person made.
MAX_LISTED = 1_000_000
#: So much of a file is its description at most; Blender's own has 0.2 MB.
MAX_DESCRIPTION_BYTES = 16 * 1024 * 1024

_Field = bytes | int


class Block:
    """One structure of the file. A field that this file's Blender did not have, or has no longer, is the default."""

    def __init__(self, block: Any) -> None:
        self._block = block

    @property
    def address(self) -> int:
        """Where the structure was in Blender's memory: its identity within the file."""
        return int(self._block.addr_old)

    @property
    def type(self) -> str:
        """Name of the structure: ``Object``, ``ClothModifierData``; a linked data-block is an ``ID``."""
        return str(self._block.dna_type_name)

    @property
    def name(self) -> str:
        """The data-block's name as Blender shows it, without the two letters of its kind."""
        return self.text(b"id", b"name")[2:]

    def has(self, field: bytes) -> bool:
        """Whether the structure has such a field."""
        return bool(self._block.has_field(field))

    def number(self, *path: _Field, default: int = 0) -> int:
        """A whole number; also a single ``char``."""
        value = self._get(path, default)
        if isinstance(value, bytes):  # a char, which the file's reader takes for text
            return value[0] if value else 0
        return int(value)

    def real(self, *path: _Field, default: float = 0.0) -> float:
        """A ``float`` or ``double`` of the structure."""
        return float(self._get(path, default))

    def text(self, *path: _Field) -> str:
        """A ``char[]`` of the structure; what is no UTF-8 is replaced."""
        value = self._get(path, b"")
        return value.decode("utf-8", "replace") if isinstance(value, bytes) else ""

    def follow(self, *path: _Field) -> Block | None:
        """The structure a pointer names; ``None`` where it names none, or one that the file does not hold."""
        address = self._get(path, 0)
        found = self._block.bfile.block_from_addr.get(address) if isinstance(address, int) and address else None
        return None if found is None else Block(found)

    def pointed_text(self, *path: _Field) -> str:
        """A text that stands in a block of its own."""
        found = self.follow(*path)
        return "" if found is None else found.raw().split(b"\0")[0].decode("utf-8", "replace")

    def raw(self) -> bytes:
        """The structure as it lies in the file."""
        return bytes(self._block.raw_data())

    def elements(self) -> Iterator[Block]:
        """The structures of an array that is one block."""
        for element in iterators.dynamic_array(self._block):
            yield Block(element)

    def listed(self, *path: _Field, following: tuple[bytes, ...] = (b"next",)) -> Iterator[Block]:
        """The members of a linked list, each once."""
        seen: set[int] = set()
        member = self.follow(*path, b"first")
        while member is not None and member.address not in seen and len(seen) < MAX_LISTED:
            seen.add(member.address)
            yield member
            member = member.follow(*following)

    def _get(self, path: tuple[_Field, ...], default: Any) -> Any:
        try:
            return self._block.get(path)
        except KeyError:  # no such field in this file
            return default


class Blend:
    """A .blend that is open: its structures are found by name."""

    def __init__(self, file: Any) -> None:
        self._file = file

    @property
    def version(self) -> tuple[int, int]:
        """Of the Blender that wrote it: (2, 79), (3, 4)."""
        return divmod(int(self._file.header.version), 100)

    def blocks(self, code: bytes) -> Iterator[Block]:
        """All data-blocks of a kind: ``OB``, ``TX``, ``GLOB``; ``DATA`` is everything that belongs to one of them."""
        for block in self._file.find_blocks_from_code(code):
            yield Block(block)

    def structures(self, *types: str) -> Iterator[Block]:
        """Everything in the file that is one of these structures."""
        wanted = {index for index, found in enumerate(self._file.structs) if found.dna_type_id.decode() in types}
        for block in self._file.blocks:
            if block.sdna_index in wanted:
                yield Block(block)

    def active_scene(self) -> Block | None:
        """The scene that Blender renders when it is given the file."""
        for settings in self.blocks(b"GLOB"):
            return settings.follow(b"curscene")
        return None


@contextmanager
def open_blend(path: Path) -> Generator[Blend]:
    """The file, while the block lasts; raises :class:`~lab.errors.UnreadableScene`, also for what is met inside it."""
    file: Any = None
    try:
        file = _ForwardOnly(path)
        yield Blend(file)
    except UnreadableScene:
        raise
    except exceptions.BlendFileError as error:
        raise UnreadableScene(f"{path.name} cannot be read: {str(error)[:200]}") from None
    except OSError as error:
        raise UnreadableScene(f"{path.name} cannot be read: {error.strerror or type(error).__name__}") from None
    # On a damaged file nearly anything comes out of a reader of a foreign binary format.
    except Exception as error:
        raise UnreadableScene(f"{path.name} is damaged, or no .blend ({type(error).__name__})") from error
    finally:
        if file is not None:
            file.close()


class _ForwardOnly(blendfile.BlendFile):
    """Lets no damaged length send the reader back, where it would read the same blocks for ever."""

    def _open_file(self, path: Path, mode: str) -> IO[bytes]:
        return _Forward(super()._open_file(path, mode))  # pyright: ignore[reportReturnType]

    def decode_structs(self, block: Any) -> None:
        if not 0 <= block.size <= MAX_DESCRIPTION_BYTES:
            raise exceptions.BlendFileError("its description of itself has no sensible size", self.filepath)
        begins = self.fileobj.tell()
        _check_description(self.fileobj.read(block.size), "little" if self.header.is_little_endian else "big")
        self.fileobj.seek(begins)
        super().decode_structs(block)


def _check_description(data: bytes, order: Literal["little", "big"]) -> None:
    """Whether names, types and structures are as many as it says; the reader would make up what is missing."""
    place, count = 4, 0
    for mark in (b"NAME", b"TYPE"):
        count = _counted(data, place, mark, order)
        place += 8
        for _ in range(count):
            place = data.index(b"\0", place) + 1
        place = (place + 3) & ~3
    if data[place : place + 4] != b"TLEN":
        raise ValueError("no lengths of types")
    _counted(data, (place + 4 + 2 * count + 3) & ~3, b"STRC", order)


def _counted(data: bytes, place: int, mark: bytes, order: Literal["little", "big"]) -> int:
    count = int.from_bytes(data[place + 4 : place + 8], order)
    if data[place : place + 4] != mark or count > len(data):
        raise ValueError(f"no sensible number of {mark!r}")
    return count


class _Forward:
    """A file that is never asked to go back from where it is."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file

    def seek(self, offset: int, whence: int = 0) -> int:
        if offset < 0:
            raise ValueError("a negative length")
        return self._file.seek(offset, whence)

    def read(self, size: int = -1) -> bytes:
        if size < 0:
            raise ValueError("a negative length")
        return self._file.read(size)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)
