"""What acceptance tests look at: pixels, what bare Blender makes of a frame, and what lies in Redis."""

from __future__ import annotations

import io
import subprocess
import zipfile
from pathlib import Path

import OpenImageIO as oiio
import redis

COMMAND_LINE = ".e --factory-startup --disable-autoexec -b .c -o .o -f .f -x 1"
#: Starts the Blender of the PC it runs on.
LAUNCHER = b'#!/bin/sh\nexec "${SHEEPFOLD_BLENDER:-blender}" "$@"\n'


def pixels(path: Path) -> tuple[tuple[int, ...], bytes]:
    """Shape and every value of a picture."""
    buffer = oiio.ImageBuf(str(path))
    array = buffer.get_pixels(oiio.FLOAT)
    assert array is not None, oiio.geterror()
    return array.shape, array.tobytes()


def rendered_directly(blender: str, scene: Path, frame: int, folder: Path) -> Path:
    """What Blender makes of the frame with the server's command line and nothing of ours."""
    prefix = folder / "direct_"
    subprocess.run(
        [
            blender,
            "--factory-startup",
            "--disable-autoexec",
            "-b",
            str(scene),
            "-o",
            str(prefix),
            "-f",
            str(frame),
            "-x",
            "1",
        ],
        check=True,
        capture_output=True,
        timeout=120,
    )
    return folder / f"direct_{frame:04d}.png"


def zipped(name: str, data: bytes, mode: int = 0o644) -> bytes:
    """A zip of one file."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        entry = zipfile.ZipInfo(name)
        entry.external_attr = mode << 16
        archive.writestr(entry, data)
    return buffer.getvalue()


def redis_contents(url: str) -> bytes:
    """Every key with its value, as Redis dumps them."""
    with redis.Redis.from_url(url) as client:
        return b"\n".join(key + b" " + _value(client, key) for key in client.scan_iter())


def _value(client: redis.Redis, key: bytes) -> bytes:
    readers = {
        b"string": lambda: [client.get(key)],
        b"hash": lambda: client.hgetall(key).items(),
        b"list": lambda: client.lrange(key, 0, -1),
        b"set": lambda: client.smembers(key),
        b"zset": lambda: client.zrange(key, 0, -1),
    }
    return repr(list(readers[client.type(key)]())).encode()
