"""Bytes from somebody who means harm: a typed error, in bounded time and memory.

Time is measured against reading an honest message of the same size on the same machine, memory against the size of what
came, so that the tests say the same on a slow machine.
"""

from __future__ import annotations

import codecs
import time
import tracemalloc
from collections.abc import Callable

import pytest

from sheepfold.protocol.errors import MalformedMessage, MessageTooLarge
from sheepfold.protocol.reading_answers import read_beat_answer, read_job_answer, read_sign_in_answer
from sheepfold.protocol.reading_requests import read_job_request
from sheepfold.protocol.xml_document import MAX_JOB_ANSWER_BYTES, MAX_MESSAGE_BYTES
from tests.support.wire.wire_cases import BARE_JOB

NEAR_LIMIT = MAX_JOB_ANSWER_BYTES - 100
#: A script near the limit, as honest as it can be.
ORDINARY = BARE_JOB.replace(b"</job>", b"<script>" + b"print(1)\n" * (NEAR_LIMIT // 10) + b"</script></job>")
#: The expensive part is building the tree; nothing hostile may cost much more than something honest.
TIMES_ORDINARY = 10
#: Input, a repaired copy, its text, and the pieces the text is joined from.
TIMES_INPUT = 6

LAUGHS = (
    '<?xml version="1.0"?><!DOCTYPE jobrequest [<!ENTITY l0 "lol">'
    + "".join(f'<!ENTITY l{n} "{f"&l{n - 1};" * 10}">' for n in range(1, 10))
    + ']><jobrequest status="&l9;"/>'
)
TYPED: dict[str, bytes] = {
    "entity bomb": LAUGHS.encode(),
    "entity bomb in UTF-16": LAUGHS.encode("utf-16"),
    "quadratic entities": b'<!DOCTYPE jobrequest [<!ENTITY a "' + b"a" * 10**6 + b'">]><jobrequest>' + b"&a;" * 10**5,
    "external entity": b'<!DOCTYPE jobrequest [<!ENTITY x SYSTEM "file:///etc/passwd">]><jobrequest status="0">&x;'
    b"</jobrequest>",
    "parameter entity": b'<!DOCTYPE jobrequest [<!ENTITY % p SYSTEM "http://127.0.0.1/x"> %p;]><jobrequest/>',
    "document type alone": b'<!DOCTYPE jobrequest SYSTEM "http://127.0.0.1/x.dtd"><jobrequest status="200"/>',
    "attributes by the hundred thousand": b"<jobrequest " + b"".join(b'a%d="" ' % n for n in range(10**5)) + b"/>",
    "attributes, small enough for one tag": b"<jobrequest " + b"".join(b'a%d="" ' % n for n in range(20_000)) + b"/>",
    "an endless attribute": b'<jobrequest status="' + b"0" * NEAR_LIMIT,
    "an endless name": b"<" + b"j" * NEAR_LIMIT,
    "an endless declaration": b"<?xml version='1.0'" + b" " * NEAR_LIMIT,
    "an endless comment": b"<jobrequest><!--" + b"x" * NEAR_LIMIT,
    "a deep nest": b"<jobrequest>" + b"<a>" * (NEAR_LIMIT // 3),
    "a broad tree": b"<jobrequest status='200'>" + b"<a/>" * (NEAR_LIMIT // 4 - 20) + b"</jobrequest>",
    "bare ampersands only": b"<jobrequest>" + b"&" * NEAR_LIMIT,
    "unfinished references": b"<jobrequest>" + b"&#1" * (NEAR_LIMIT // 3),
    "unfinished CDATA": b"<jobrequest>&" + b"<![CDATA[" * (NEAR_LIMIT // 9),
    "unfinished comments": b"<jobrequest>&" + b"<!--" * (NEAR_LIMIT // 4),
    "less-than signs": b"<" * NEAR_LIMIT,
    "white space": b" " * NEAR_LIMIT,
    "wrong root": b'<config status="0"/>',
    "wrong root, right child": b'<x><jobrequest status="200"/></x>',
    "root in another namespace": b'<a:jobrequest xmlns:a="b" status="200"/>',
    "truncated": BARE_JOB[:150],
    "two roots": BARE_JOB + BARE_JOB,
    "text after": BARE_JOB + b"PHP Warning: x",
    "HTML": b"<!DOCTYPE html><html><head><title>502 Bad Gateway</title></head></html>",
    "HTML without type": b"<html><body><h1>It works!<br></body></html>",
    "JSON": b'{"status": 0}',
    "empty": b"",
    "a byte order mark alone": b"\xef\xbb\xbf",
    "NUL bytes": b"<jobrequest status='200'\0/>",
    "NUL as a reference": b"<jobrequest status='200' x='&#0;'/>",
    "control characters": b"<jobrequest status='200' x='\x1b[31m'/>",
    "not UTF-8": b"<jobrequest status='200' x='\xff\xfe'/>",
    "UTF-16 cut in the middle": codecs.BOM_UTF16_LE + b"<\0j",
    "UTF-32": "<jobrequest status='200'/>".encode("utf-32"),
    "an encoding nobody reads": b"<?xml version='1.0' encoding='utf-7'?><jobrequest status='200'/>",
    "a codec that is no encoding": b"<?xml version='1.0' encoding='zlib_codec'?><jobrequest status='200'/>",
    "attribute twice": b"<jobrequest status='0' status='200'/>",
}


def seconds_and_peak(work: Callable[[], object]) -> tuple[float, int]:
    """Wall seconds without tracing, then bytes at the peak with it."""
    begun = time.perf_counter()
    work()
    seconds = time.perf_counter() - begun
    tracemalloc.start(1)
    try:
        work()
        return seconds, tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.fixture(scope="module")
def ordinary_seconds() -> float:
    return max(0.05, min(seconds_and_peak(lambda: read_job_answer(ORDINARY))[0] for _ in range(3)))


@pytest.mark.parametrize("name", TYPED)
def test_harm_ends_in_a_typed_error_soon_and_small(name: str, ordinary_seconds: float) -> None:
    def read() -> None:
        with pytest.raises(MalformedMessage) as caught:
            read_job_answer(TYPED[name])
        assert len(str(caught.value)) < 1500

    seconds, peak = seconds_and_peak(read)

    assert seconds < TIMES_ORDINARY * ordinary_seconds
    # pytest's own bookkeeping of an exception needs a little, whatever the input.
    assert peak < TIMES_INPUT * len(TYPED[name]) + 4_000_000


def test_a_hundred_megabytes_of_attributes_are_refused_unread() -> None:
    huge = b"<jobrequest " + b'a="1" ' * (100_000_000 // 6) + b"/>"

    def read() -> None:
        with pytest.raises(MessageTooLarge):
            read_job_answer(huge)

    seconds, peak = seconds_and_peak(read)
    assert seconds < 0.5
    assert peak < 1_000_000


def test_an_honest_script_near_the_limit_is_read() -> None:
    answers: list[object] = []
    _, peak = seconds_and_peak(lambda: answers.append(read_job_answer(ORDINARY).offer))
    assert answers[0]
    assert peak < TIMES_INPUT * len(ORDINARY)


def test_only_a_job_answer_may_be_long() -> None:
    long = b"<!-- " + b"x" * MAX_MESSAGE_BYTES + b" -->"
    with pytest.raises(MessageTooLarge):
        read_beat_answer(long + b"<keepmealive status='0'/>")
    with pytest.raises(MessageTooLarge):
        read_sign_in_answer(long + b"<config status='0'/>")
    with pytest.raises(MessageTooLarge):
        read_job_request({"computemethod": "0"}, long + b"<cache/>")


def test_an_error_shows_the_beginning_of_what_came_and_no_more() -> None:
    with pytest.raises(MalformedMessage) as caught:
        read_beat_answer(b"<html>" + b"x" * 10_000)
    assert caught.value.excerpt.startswith("<html>xxx")
    assert len(caught.value.excerpt) == 200
