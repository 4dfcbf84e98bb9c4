"""A renderer archive without a renderer: understands Blender's command line and does what its scene tells it.

The scene is a few lines of shell that a test writes (:func:`scene_text`): how long a frame takes, and which frames do
something else, everywhere or on one PC only. A scene that is a real ``.blend`` goes to the real Blender, so one server
can hand out both kinds of project.

It costs a few milliseconds a frame: a shell, and one record cut out of ``pictures.bin``. Each picture is a small PNG
whose pixels come from the frame's number; behind it stands one line (:func:`maker_of`) with the attempt and the PC that
made it, so that no two renders give the same bytes and a picture at the server can be traced to its lease.

Every start is one line in ``<stage>/journal``: frame, PC, attempt, process id.
"""

from __future__ import annotations

import functools
import io
import struct
import time
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

SIDE = 8
#: Frames from 1 to this one have a picture.
LAST_FRAME = 999
SCENE = "shots/scene.blend"

_PROGRAM = r"""#!/bin/sh
for word in "$@"; do
  case "$last" in -b) scene=$word;; -o) prefix=$word;; -f) frame=$word;; esac
  last=$word
done
read -r first < "$scene"
case "$first" in "# scripted") ;; *) exec "${SHEEPFOLD_BLENDER:-blender}" "$@";; esac
# blender's number has no leading zeros
while [ "${frame#0}" != "$frame" ]; do frame=${frame#0}; done
here=${0%/*}; scratch=${prefix%/out/*}; attempt=${scratch##*/}
work=${scratch%/*/*}; pc=${work##*/}
pictures=pictures.bin

gate() { while [ ! -e "$stage/open" ] && [ ! -e "$stage/open.$frame" ]; do sleep 0.03; done; }
crash() { echo "about to crash on frame $frame"; kill -SEGV $$; }
no_output() { echo "nothing to see on frame $frame"; exit 0; }
missing_library() {
  echo "rend.exe: error while loading shared libraries: libwool.so.3: cannot open shared object file"; exit 127; }
black() { pictures=black.bin; }
wrong_size() { pictures=large.bin; }
hang() { (setsid sleep 600 & setsid sh -c 'sleep 600; true' &); sleep 600; }
fill() { head -c 64M /dev/zero > "$TMPDIR/fill" || exit 1; }

seconds=0
. "$scene"
echo "$frame $pc $attempt $$" >> "$stage/journal"
echo "Blender 3.4.1 (scripted)"
echo "Fra:$frame Mem:9.04M (Peak 10.83M) | Time:00:00.01 | Remaining:00:00.03 | Scene | Sample 1/4"
act
[ "$seconds" = 0 ] || sleep "$seconds"
size=$(cat "$here/$pictures.size")
dd if="$here/$pictures" bs="$size" skip="$frame" count=1 of="$prefix$frame.part" 2>/dev/null || exit 1
echo "made by $attempt on $pc" >> "$prefix$frame.part"
name=$(printf '%s%04d.png' "$prefix" "$frame")
mv "$prefix$frame.part" "$name"
echo "Saved: '$name'"
"""


@dataclass(frozen=True, kw_only=True)
class Maker:
    """Which render made a picture."""

    lease_id: str
    attempt: int
    pc: str


@dataclass(frozen=True, kw_only=True)
class Start:
    """One start of the renderer, from the journal."""

    frame: int
    pc: str
    lease_id: str
    attempt: int
    pid: int


def scene_text(stage: Path, *, seconds: float = 0, acts: Mapping[str, str] | None = None) -> bytes:
    """A scene; ``acts`` maps a shell pattern of ``frame:pc`` to what happens then: ``{"3:*": "crash"}``.

    ``gate`` waits until the test makes the file ``<stage>/open`` or ``<stage>/open.<frame>``.
    """
    cases = "\n".join(f"  {pattern}) {act};;" for pattern, act in (acts or {}).items())
    return (
        f'# scripted\nstage="{stage}"\nseconds={seconds:g}\nact() {{\n  case "$frame:$pc" in\n{cases}\n  esac\n}}\n'
    ).encode()


def starts_in(stage: Path) -> list[Start]:
    """The journal of a stage."""
    journal = stage / "journal"
    rows = [line.split() for line in journal.read_text().splitlines()] if journal.exists() else []
    return [
        Start(
            frame=int(frame),
            pc=pc,
            lease_id=attempt.rpartition(".")[0],
            attempt=int(attempt.rpartition(".")[2]),
            pid=int(pid),
        )
        for frame, pc, attempt, pid in rows
    ]


def maker_of(picture: Path) -> Maker | None:
    """Which render made a picture; ``None`` for Blender's own."""
    words = picture.read_bytes()[-200:].rpartition(b"made by ")[2].decode("ascii", "replace").split()
    if len(words) != 3 or words[1] != "on":
        return None
    lease_id, _, attempt = words[0].rpartition(".")
    return Maker(lease_id=lease_id, attempt=int(attempt), pc=words[2])


def pack_renderer(path: Path) -> Path:
    """Writes the renderer archive."""
    files = {"rend.exe": _PROGRAM.encode()}
    for name, content in _picture_files().items():
        files[name], files[f"{name}.size"] = content, str(len(content) // (LAST_FRAME + 1)).encode()
    path.write_bytes(_zipped(files))
    return path


def pack_scene(text: bytes) -> bytes:
    """A project archive of that scene. No two are equal, so each is downloaded and extracted."""
    return _zipped({SCENE: text, "when.txt": str(time.time_ns()).encode()})


def _zipped(files: Mapping[str, bytes]) -> bytes:
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return target.getvalue()


def picture_of(frame: int) -> bytes:
    """The PNG of a frame, :data:`SIDE` pixels wide and high, without the line that says who made it."""
    return _png(SIDE, _colour(frame))


@functools.cache
def _picture_files() -> dict[str, bytes]:
    numbers = range(LAST_FRAME + 1)
    return {
        "pictures.bin": b"".join(picture_of(number) for number in numbers),
        "black.bin": b"".join(_png(SIDE, b"\0\0\0") for _ in numbers),
        "large.bin": b"".join(_png(SIDE + 1, _colour(number)) for number in numbers),
    }


def _colour(number: int) -> bytes:
    return bytes((number % 256, 40 + number // 256, 80))


def _png(side: int, colour: bytes) -> bytes:
    """Stored, not compressed: every picture of one side is equally long."""
    rows = (b"\0" + colour * side) * side
    header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(rows, 0)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in chunks
    )
