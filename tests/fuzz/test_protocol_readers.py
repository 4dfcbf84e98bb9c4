"""The render server's wire: whatever comes is a message or :class:`MalformedMessage`, in bounded time."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from sheepfold.protocol import reading_answers, reading_requests
from sheepfold.protocol.errors import MalformedMessage
from tests.support.fuzzing import damaged, fuzzed
from tests.support.wire.wire_cases import WIRE_CASES

ANSWERS: list[Callable[[bytes], Any]] = [
    reading_answers.read_sign_in_answer, reading_answers.read_job_answer, reading_answers.read_validation_answer,
    reading_answers.read_beat_answer, reading_answers.read_error_answer, reading_answers.read_project_answer,
    reading_requests.read_speed_test_report, lambda body: reading_requests.read_job_request({}, body),
]  # fmt: skip
REQUESTS: list[Callable[[dict[str, str]], Any]] = [
    reading_requests.read_sign_in_request, reading_requests.read_archive_request, reading_requests.read_job_request,
    reading_requests.read_frame_upload, reading_requests.read_beat, reading_requests.read_error_report,
    reading_requests.read_project_step,
]  # fmt: skip
PIECES = st.sampled_from([
    b"<", b">", b"/>", b"</", b"&", b"&amp;", b"&#0;", b"&#x110000;", b"&x;", b"<!--", b"-->", b"<![CDATA[", b"]]>",
    b"<?xml ", b"<!DOCTYPE a [<!ENTITY x 'y'>]>", b"encoding='utf-16'", b"<jobrequest ", b"<job ", b"<renderer ",
    b"<frames remaining='", b"<chunk ", b"<script>", b"status='0'", b'status="', b"id='", b"\xef\xbb\xbf", b"\xff\xfe",
    b"\0", b"\xc3", b"9" * 300,
])  # fmt: skip
HONEST = st.sampled_from([case.wire for case in WIRE_CASES])
#: Far more than any of these needs, and less than one that is quadratic takes.
SOON_S = 5.0
NAMES = st.sampled_from([
    "login", "password", "cpu_family", "cpu_model", "cpu_model_name", "cpu_cores", "os", "ram", "bits", "version",
    "hostname", "extras", "job", "frame", "extra", "type", "rendertime", "memoryused", "cores", "computemethod",
    "max_ram", "rendertime_max", "revision", "id", "x",
])  # fmt: skip
VALUES = st.text(max_size=30) | st.sampled_from(
    ["0", "-1", "1e400", "nan", "9" * 5000, "²", "١", "0x10", " 1", "\0", "1_0"]
)


def reads(reader: Callable[[Any], Any], what: Any) -> None:
    began = time.monotonic()
    with contextlib.suppress(MalformedMessage):
        reader(what)
    assert time.monotonic() - began < SOON_S


@fuzzed(share=0.7)
@given(
    reader=st.sampled_from(ANSWERS),
    wire=HONEST.flatmap(damaged) | st.lists(PIECES | st.binary(max_size=20), max_size=40).map(b"".join),
)
def test_whatever_arrives_as_an_answer_is_a_message_or_malformed(reader: Callable[[bytes], Any], wire: bytes) -> None:
    reads(reader, wire)


@fuzzed(share=0.3)
@given(reader=st.sampled_from(REQUESTS), fields=st.dictionaries(NAMES, VALUES, max_size=16))
def test_whatever_arrives_as_fields_is_a_message_or_malformed(
    reader: Callable[[dict[str, str]], Any], fields: dict[str, str]
) -> None:
    reads(reader, fields)
