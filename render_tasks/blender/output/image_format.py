"""The suffix of a picture that Blender named without one (``-x 0``, or a scene saved so). Pure.

The coordinator keeps a picture by its suffix and the server is told a file name, so one is needed; the first bytes say
which. A Targa file has no such bytes.
"""

from __future__ import annotations

import re

#: So many bytes are needed to tell.
HEAD_BYTES = 16
#: What a picture begins with, and its suffix.
KINDS = (
    (rb"\x89PNG\r\n\x1a\n", ".png"),
    (rb"\xff\xd8\xff", ".jpg"),
    (rb"\x76\x2f\x31\x01", ".exr"),
    (rb"II\*\x00|MM\x00\*", ".tif"),
    (rb"RIFF....WEBP", ".webp"),
    (rb"#\?RADIANCE|#\?RGBE", ".hdr"),
    (rb"SDPX|XPDS", ".dpx"),
    (rb"\x80\x2a\x5f\xd7|\xd7\x5f\x2a\x80", ".cin"),
    (rb"\x00\x00\x00\x0cjP  ", ".jp2"),
    (rb"\xff\x4f\xff\x51", ".j2c"),
    (rb"\x01\xda[\x00\x01][\x01\x02]", ".rgb"),
    (rb"BM", ".bmp"),
)


def suffix_of(head: bytes) -> str:
    """The suffix for a picture that begins with these bytes."""
    return next((suffix for shape, suffix in KINDS if re.match(shape, head, re.DOTALL)), ".tga")
