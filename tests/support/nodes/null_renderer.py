"""A renderer archive without a renderer: behaves like Blender's command line and writes a tiny PNG.

What it does besides is chosen by the frame's number, so that a test says all in its order::

    1 to 899    a picture, at once
    900         renders for a minute, with a child that made itself a daemon (its pid: $TMPDIR/../../daemon.pid)
    901         dies of SIGSEGV
    902         exit code 127
    903         ends well, without a picture
    904         prints "No space left on device" and fails
    905         renders for two seconds, then a picture
    906         takes 400 MB, and a minute
    907         a picture whose name has no suffix
"""

from __future__ import annotations

import functools
import hashlib
import io
import sys
import zipfile
from pathlib import Path

from sheepfold.contract.orders import ArchiveRef

COMMAND_LINE = ".e --factory-startup --disable-autoexec -b .c -o .o -f .f -x 1"

_PROGRAM = f"""#!{sys.executable} -IS
import binascii, os, signal, struct, subprocess, sys, time, zlib
from pathlib import Path

words = sys.argv[1:]
def after(word):
    return words[words.index(word) + 1]
prefix, frame, scene, script = after("-o"), int(after("-f")), after("-b"), after("-P")
assert Path(scene).is_file() and Path(script).is_file()
print("Blender 3.4.1", flush=True)
print("arguments:", words, flush=True)
print("leaked:", sorted(name for name in os.environ if name.startswith("SHEEPFOLD_")), flush=True)
print(f"Fra:{{frame}} Mem:9.04M (Peak 10.83M) | Time:00:00.01 | Remaining:00:00.03 | Scene | Sample 1/4", flush=True)
if frame == 900:
    code = "import os, time; os.setsid(); time.sleep(120)"
    child = subprocess.Popen([sys.executable, "-ISc", code], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    Path(os.environ["TMPDIR"], "..", "..", "daemon.pid").write_text(str(child.pid))
    time.sleep(60)
if frame == 901:
    os.kill(os.getpid(), signal.SIGSEGV)
if frame == 902:
    sys.exit(127)
if frame == 903:
    sys.exit(0)
if frame == 904:
    print("Error: No space left on device")
    sys.exit(1)
if frame == 905:
    time.sleep(2)
if frame == 906:
    held = bytearray(b"x") * 400_000_000
    time.sleep(60)
def chunk(kind, data):
    body = kind + data
    return struct.pack(">I", len(data)) + body + struct.pack(">I", binascii.crc32(body))
row = b"\\0" + bytes((frame % 256, 40, 80)) * 4
png = b"\\x89PNG\\r\\n\\x1a\\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", 4, 4, 8, 2, 0, 0, 0))
png += chunk(b"IDAT", zlib.compress(row * 4)) + chunk(b"IEND", b"")
path = f"{{prefix}}{{frame:04d}}" + ("" if frame == 907 else ".png")
Path(path).write_bytes(png)
print(f"Saved: '{{path}}'", flush=True)
"""


def packed(files: dict[str, bytes]) -> tuple[ArchiveRef, bytes]:
    """A zip of these files, and how the coordinator names it."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    content = buffer.getvalue()
    return ArchiveRef(md5=hashlib.md5(content).hexdigest(), size=len(content)), content


@functools.cache
def renderer_archive() -> tuple[ArchiveRef, bytes]:
    """The null renderer as a server would ship it."""
    return packed({"rend.exe": _PROGRAM.encode(), "lib/readme.txt": b"no libraries"})


@functools.cache
def scene_archive() -> tuple[ArchiveRef, bytes]:
    """A scene the null renderer does not look into."""
    return packed({"shots/scene.blend": b"BLENDER"})


def unpack(content: bytes, folder: Path) -> Path:
    """The archive's content in a folder, ready to run."""
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        archive.extractall(folder)
    for path in folder.rglob("*"):
        path.chmod(0o755)
    return folder
