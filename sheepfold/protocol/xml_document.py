"""XML bytes ↔ a small tree of elements, for bytes from an untrusted sender.

A document passes five checks before anything is built from it, each in bounded time and memory:

1. **Size.** Larger than the exchange's limit: refused unread.
2. **Encoding.** UTF-8 unless a byte order mark or the declaration names another of :data:`ENCODINGS`; everything goes
   on as UTF-8. White space and a byte order mark before the declaration are dropped, real servers write them.
3. **Bare ampersands.** ``mode=logout&worker=1`` (the specification's own sample) is read as ``&amp;``. Only an
   ampersand that starts none of XML's five entities and no character reference is touched, and none inside CDATA.
4. **Shape.** Expat walks the document in pieces. A document type (and with it every entity declaration), a tag longer
   than :data:`MAX_TOKEN_BYTES`, too many elements or attributes, or too deep a nest ends it there.
5. **Root.** Another root element than the exchange's is another kind of document.

Only then does xmltodict build the tree. It keeps white space: a script's indentation and last newline are Python.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, cast
from xml.parsers import expat

import xmltodict

from .errors import MalformedMessage, MessageTooLarge, UnwritableMessage

#: Bytes of any message but a job answer.
MAX_MESSAGE_BYTES = 1024 * 1024
#: Bytes of a job answer: it carries a script, and scripts can be long.
MAX_JOB_ANSWER_BYTES = 16 * 1024 * 1024
#: Bytes of one tag, comment or instruction; the longest honest one is a command line of a few kB.
MAX_TOKEN_BYTES = 256 * 1024
#: Bytes given to expat at a time, between two looks at the length of an unfinished tag.
PIECE_BYTES = 64 * 1024
#: The deepest document of the protocol has three levels.
MAX_DEPTH = 16
#: A job request may list every archive of a large cache, one element each.
MAX_ELEMENTS = 25_000
#: Attributes of one element; the longest list of the protocol has about ten.
MAX_ATTRIBUTES = 200
#: Bare ampersands, CDATA sections and comments looked at in a document that has ampersands.
MAX_REPAIRS = 10_000

#: Declared encodings that are read, by lower-case name. "utf-16" without a byte order mark is a well-known slip of
#: servers that build a string first and send it as UTF-8.
ENCODINGS = {
    "utf-8": "utf-8",
    "utf8": "utf-8",
    "utf-16": "utf-8",
    "us-ascii": "utf-8",
    "ascii": "utf-8",
    "iso-8859-1": "latin-1",
    "latin1": "latin-1",
    "latin-1": "latin-1",
    "iso-8859-15": "iso-8859-15",
    "windows-1252": "cp1252",
    "cp1252": "cp1252",
}

_DECLARED = re.compile(rb"""<\?xml\s[^>]{0,100}?encoding\s*=\s*["']([A-Za-z0-9._-]{1,40})["']""")
# An unfinished CDATA section or comment runs to the end (\Z), which keeps the search linear.
_SKIPPED_OR_BARE = re.compile(
    rb"<!\[CDATA\[.*?(?:\]\]>|\Z)|<!--.*?(?:-->|\Z)|&(?!(?:amp|lt|gt|quot|apos|#[0-9]{1,7}|#x[0-9A-Fa-f]{1,6});)",
    re.DOTALL,
)
_UNWRITABLE = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


class Element:
    """One element of a document that passed the checks."""

    def __init__(self, raw: object) -> None:
        self._raw: Mapping[str, Any] = raw if isinstance(raw, dict) else {"#text": raw or ""}

    def attribute(self, name: str) -> str | None:
        """The attribute's value; ``None`` where there is none, which is not the same as an empty one."""
        return self._raw.get(f"@{name}")

    def children(self, name: str) -> list[Element]:
        """All children of this name, in order."""
        found: Any = self._raw.get(name, [])
        children = cast("list[Any]", found) if isinstance(found, list) else [found]
        return [Element(child) for child in children]

    def child(self, name: str) -> Element | None:
        """The first child of this name."""
        return next(iter(self.children(name)), None)

    @property
    def text(self) -> str:
        """The element's own text, white space included."""
        return self._raw.get("#text") or ""


def read_document(data: bytes, root: str, *, limit: int = MAX_MESSAGE_BYTES) -> Element:
    """The root element of ``data``, which must be called ``root``.

    Raises :class:`MessageTooLarge` above ``limit`` bytes and :class:`MalformedMessage` for everything else.
    """
    excerpt = data[:200].decode("utf-8", "replace")
    if len(data) > limit:
        raise MessageTooLarge(f"{len(data)} bytes are more than any <{root}> message needs", excerpt)
    try:
        data = _escape_bare_ampersands(_as_utf8(data))
        _check_shape(data, root)
        parsed = xmltodict.parse(data, encoding="utf-8", strip_whitespace=False)
    except _Refused as refusal:
        raise MalformedMessage(str(refusal), excerpt) from None
    except (expat.ExpatError, UnicodeError) as error:
        raise MalformedMessage(f"not well-formed XML: {error}", excerpt) from None
    return Element(parsed[root])


def write_document(root: str, content: Mapping[str, object]) -> bytes:
    """A whole document in UTF-8; ``content`` is in xmltodict's notation (``@attribute``, ``#text``, lists).

    Raises :class:`UnwritableMessage` for a character that XML has no way to carry.
    """
    text = xmltodict.unparse({root: content}, short_empty_elements=True)
    unwritable = _UNWRITABLE.search(text)
    if unwritable:
        raise UnwritableMessage(f"XML cannot carry the character U+{ord(unwritable[0]):04X}, which <{root}> holds")
    # A reader turns \r\n and \r into \n; only as a reference does \r arrive. In attributes xmltodict has done it.
    return text.replace("\r", "&#13;").encode()


class _Refused(Exception):
    """A check failed; the text says which and why."""


def _as_utf8(data: bytes) -> bytes:
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        return data.decode("utf-16").lstrip().encode()
    if data.startswith((b"<\0", b"\0<")):
        return data.decode("utf-16-le" if data.startswith(b"<") else "utf-16-be").encode()
    data = data.removeprefix(b"\xef\xbb\xbf").lstrip()
    # Once more: white space may come before the mark as well as after it.
    data = data.removeprefix(b"\xef\xbb\xbf").lstrip()
    if not data:
        raise _Refused("an empty body is not a message")
    declared = _DECLARED.match(data)
    if declared is None:
        return data
    name = declared[1].decode("ascii").lower()
    if name not in ENCODINGS:
        raise _Refused(f"the encoding {name} is not supported")
    return data if ENCODINGS[name] == "utf-8" else data.decode(ENCODINGS[name]).encode()


def _escape_bare_ampersands(data: bytes) -> bytes:
    if b"&" not in data:
        return data
    repaired, count = _SKIPPED_OR_BARE.subn(
        lambda found: b"&amp;" if found[0] == b"&" else found[0], data, count=MAX_REPAIRS + 1
    )
    if count > MAX_REPAIRS:
        raise _Refused("too many unescaped ampersands")
    return repaired


def _check_shape(data: bytes, root: str) -> None:
    parser = expat.ParserCreate("utf-8")
    depth = elements = 0

    def start(name: str, attributes: list[str]) -> None:
        nonlocal depth, elements
        depth += 1
        elements += 1
        if elements == 1 and name != root:
            raise _Refused(f"the root element is <{name[:40]}>, not <{root}>")
        if depth > MAX_DEPTH or elements > MAX_ELEMENTS or len(attributes) > 2 * MAX_ATTRIBUTES:
            raise _Refused("more elements, levels or attributes than any message has")

    def end(_name: str) -> None:
        nonlocal depth
        depth -= 1

    def document_type(*_details: object) -> None:
        raise _Refused("a document type is declared, as in HTML pages or entity bombs")

    parser.ordered_attributes = True
    parser.StartElementHandler = start
    parser.EndElementHandler = end
    parser.StartDoctypeDeclHandler = document_type
    for begin in range(0, len(data), PIECE_BYTES):
        piece = data[begin : begin + PIECE_BYTES]
        parser.Parse(piece, False)
        if begin + len(piece) - parser.CurrentByteIndex > MAX_TOKEN_BYTES:
            raise _Refused(f"one tag is longer than {MAX_TOKEN_BYTES} bytes")
    parser.Parse(b"", True)
