"""Reader and writer, both driven by the one table of ``wire_cases.py``, and what they refuse."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from wire_cases import BARE_JOB, BARE_OFFER, CANONICAL, MD5_A, MD5_B, WIRE_CASES, WireCase

from coordinator.protocol import reading, writing
from coordinator.protocol.errors import MalformedMessage, UnwritableMessage
from coordinator.protocol.messages import (
    ArchiveRequest,
    Beat,
    ComputeMethod,
    Credentials,
    ErrorReport,
    FrameUpload,
    Hardware,
    JobAnswer,
    JobOffer,
    JobRequest,
    RamUnit,
    SignInRequest,
)
from coordinator.protocol.status import JobStatus, explain

READERS: dict[str, Callable[[bytes], Any]] = {
    "sign-in": reading.read_sign_in_answer,
    "job": reading.read_job_answer,
    "validation": reading.read_validation_answer,
    "beat": reading.read_beat_answer,
    "error": reading.read_error_answer,
}
WRITERS: dict[str, Callable[[Any], bytes]] = {
    "sign-in": writing.write_sign_in_answer,
    "job": writing.write_job_answer,
    "validation": writing.write_validation_answer,
    "beat": writing.write_beat_answer,
    "error": writing.write_error_answer,
}
HARDWARE = Hardware(
    os="linux", bits="64bit", cpu_family="6", cpu_model="158", cpu_model_name="A CPU", cpu_cores=8, ram=2**34
)
SIGN_IN = SignInRequest(
    credentials=Credentials(login="a", password="b&c ü"),
    version="3.3.1762",
    hardware=HARDWARE,
)
FIELDS = writing.write_sign_in_request(SIGN_IN)


def named(case: WireCase) -> str:
    return case.name


@pytest.mark.parametrize("case", WIRE_CASES, ids=named)
def test_the_reader_reads_what_travels(case: WireCase) -> None:
    assert READERS[case.kind](case.wire) == case.message


@pytest.mark.parametrize("case", CANONICAL, ids=named)
def test_the_writer_writes_what_travels(case: WireCase) -> None:
    assert WRITERS[case.kind](case.message) == case.wire


@pytest.mark.parametrize("case", WIRE_CASES, ids=named)
def test_what_was_read_can_be_written_and_read_again(case: WireCase) -> None:
    assert READERS[case.kind](WRITERS[case.kind](case.message)) == case.message


def test_a_known_status_reads_as_its_name_and_an_unknown_one_survives() -> None:
    assert reading.read_job_answer(b"<jobrequest status='200'/>").status is JobStatus.NO_JOB
    assert explain(reading.read_job_answer(b"<jobrequest status='742'/>").status) == "unknown error 742"


@pytest.mark.parametrize(
    ("kind", "wire", "names"),
    [
        ("job", b"<jobrequest status='X'/>", "status"),
        ("job", b"<jobrequest/>", "status"),
        ("job", b"<jobrequest status='0'/>", "job"),
        ("job", BARE_JOB.replace(b"frame='12'", b""), "frame"),
        ("job", BARE_JOB.replace(b"id='7' revision='3'", b""), "id, revision"),
        ("job", BARE_JOB.replace(b"path='a.blend'", b"path=''"), "path"),
        ("job", BARE_JOB.replace(b"commandline", b"command"), "commandline"),
        ("job", BARE_JOB.replace(b"<renderer", b"<blender"), "renderer"),
        ("job", BARE_JOB.replace(b"0123456789ABCDEF", b"../../../../../."), "archive_md5"),
        ("job", BARE_JOB.replace(b"f" * 32, b"f" * 31), "md5"),
        ("job", BARE_JOB.replace(b"f" * 32, b"f" * 32 + b"&#10;"), "md5"),
        ("job", BARE_JOB.replace(b"f" * 32, ("\u0664" * 32).encode()), "md5"),
        ("job", b"<jobrequest status='200'><file md5='/etc/passwd' action='delete'/></jobrequest>", "md5"),
        ("job", b"<jobrequest status='" + b"9" * 1_000_000 + b"'/>", "tag|status"),
        ("beat", b"<keepmealive status='1e3'/>", "status"),
        ("beat", b"<keepmealive status='\xd9\xa1'/>", "status"),
        ("sign-in", b"<config status='0'/>", "validate-job, request-job, download-archive, keepmealive"),
        ("sign-in", b"<config status='0'><request type='keepmealive' path=''/></config>", "keepmealive"),
    ],
)
def test_a_message_that_lacks_something_says_what(kind: str, wire: bytes, names: str) -> None:
    with pytest.raises(MalformedMessage, match=names):
        READERS[kind](wire)


def test_a_writer_refuses_what_xml_cannot_carry() -> None:
    for bad in ("\0", "\x1b[31m", "\ud800", "\ufffe", "\x0c"):
        offer = JobOffer(**{**vars(BARE_OFFER), "script": f"print('{bad}')"})
        with pytest.raises(UnwritableMessage, match=r"U\+"):
            writing.write_job_answer(JobAnswer(status=JobStatus.OK, offer=offer))


def test_a_writer_refuses_a_sum_that_is_none() -> None:
    for bad in ("", "../x", MD5_A.upper(), MD5_A + "\n"):
        with pytest.raises(UnwritableMessage, match="MD5"):
            writing.write_job_request(JobRequest(compute_method=ComputeMethod.CPU_ONLY, held_archives=(bad,)))


def test_a_sign_in_travels_with_every_parameter_of_the_specification() -> None:
    assert list(FIELDS) == [
        "login", "password", "version", "os", "bits", "cpu_family", "cpu_model", "cpu_model_name", "cpu_cores", "ram",
    ]  # fmt: skip
    assert reading.read_sign_in_request(FIELDS) == SIGN_IN
    assert "b&c" not in repr(SIGN_IN)


def test_memory_travels_in_bytes_or_in_kilobytes() -> None:
    assert FIELDS["ram"] == str(2**34)
    fields = writing.write_sign_in_request(SIGN_IN, ram_unit=RamUnit.KILOBYTES)
    assert fields["ram"] == str(2**24)
    assert reading.read_sign_in_request(fields, ram_unit=RamUnit.KILOBYTES) == SIGN_IN


def test_a_sign_in_without_version_is_read_and_one_without_login_is_not() -> None:
    assert reading.read_sign_in_request({**FIELDS, "version": ""}).version == ""
    without = {name: text for name, text in FIELDS.items() if name != "version"}
    assert reading.read_sign_in_request(without).version == ""
    with pytest.raises(MalformedMessage, match="missing parameter: login, bits"):
        reading.read_sign_in_request({**FIELDS, "login": "", "bits": ""})


def test_later_parameters_of_a_sign_in_are_passed_over() -> None:
    later = {**FIELDS, "hostname": "pc", "ui": "swing", "headless": "1", "ram_max": "many"}
    assert reading.read_sign_in_request(later) == SIGN_IN


@pytest.mark.parametrize("name", ["cpu_cores", "ram"])
@pytest.mark.parametrize("value", ["many", "-1", "1.5", "9" * 10_000_000, "\u0661"])
def test_a_figure_that_is_none_is_malformed(name: str, value: str) -> None:
    with pytest.raises(MalformedMessage, match=name):
        reading.read_sign_in_request({**FIELDS, name: value})


def test_a_job_request_tells_what_is_held() -> None:
    request = JobRequest(compute_method=ComputeMethod.GPU_ONLY, held_archives=(MD5_A, MD5_B))
    query, body = writing.write_job_request(request)
    assert query == {"computemethod": "2"}
    assert body.endswith(f'<cache><file md5="{MD5_A}"/><file md5="{MD5_B}"/></cache>'.encode())
    assert reading.read_job_request(query, body) == request


def test_a_job_request_with_thousands_of_archives_is_still_one() -> None:
    held = tuple(f"{number:032x}" for number in range(15_000))
    query, body = writing.write_job_request(JobRequest(compute_method=ComputeMethod.CPU_OR_GPU, held_archives=held))
    assert reading.read_job_request(query, body).held_archives == held


@pytest.mark.parametrize("body", [b"", b" \n", b"<cache/>", b"<cache></cache>", b"<cache>\n</cache>"])
def test_a_job_request_may_hold_nothing(body: bytes) -> None:
    assert reading.read_job_request({"computemethod": "0"}, body).held_archives == ()


@pytest.mark.parametrize("fields", [{}, {"computemethod": "3"}, {"computemethod": "x"}, {"computemethod": "-1"}])
def test_a_job_request_needs_its_compute_method(fields: dict[str, str]) -> None:
    with pytest.raises(MalformedMessage, match="computemethod"):
        reading.read_job_request(fields)


def test_archive_requests_go_both_ways() -> None:
    for request in (ArchiveRequest(type="binary", job="1"), ArchiveRequest(type="job", job="1", revision="0")):
        assert reading.read_archive_request(writing.write_archive_request(request)) == request
    with pytest.raises(MalformedMessage, match="revision"):
        reading.read_archive_request({"type": "job", "job": "1"})
    with pytest.raises(MalformedMessage, match="binary or job"):
        reading.read_archive_request({"type": "../x", "job": "1"})


def test_an_upload_carries_the_frame_exactly_as_it_came() -> None:
    upload = FrameUpload(
        job="1", frame="0340", render_time_s=7, revision="0", extras="a b&c", memory_used_kb=5, cores=2
    )
    fields = writing.write_frame_upload(upload)
    assert fields == {
        "job": "1", "frame": "0340", "rendertime": "7", "revision": "0", "extras": "a b&c", "memoryused": "5",
        "cores": "2",
    }  # fmt: skip
    assert reading.read_frame_upload(fields) == upload


def test_extras_that_were_not_given_are_not_sent_and_empty_ones_are() -> None:
    assert "extras" not in writing.write_beat(Beat(job="1", frame="1"))
    assert writing.write_beat(Beat(job="1", frame="1", extras=""))["extras"] == ""
    assert reading.read_beat({"job": "1", "frame": "1"}).extras is None


def test_figures_nobody_depends_on_may_be_nonsense() -> None:
    upload = reading.read_frame_upload(
        {"job": "1", "frame": "1", "rendertime": "3", "revision": "0", "memoryused": "much", "cores": "-1"}
    )
    assert (upload.memory_used_kb, upload.cores) == (None, None)


def test_a_report_is_read_with_either_spelling_of_its_time_and_written_with_the_specified_one() -> None:
    report = ErrorReport(job="1", frame="2", extras="x", render_time_s=30, memory_used_kb=4)
    fields = writing.write_error_report(report)
    assert fields["rendertime"] == "30"
    fields["render_time"] = fields.pop("rendertime")
    assert reading.read_error_report(fields) == report


@pytest.mark.parametrize(
    ("read", "fields", "names"),
    [
        (reading.read_frame_upload, {"job": "1"}, "frame, rendertime, revision"),
        (reading.read_beat, {}, "job, frame"),
        (reading.read_error_report, {"frame": "1"}, "job"),
    ],
)
def test_missing_parameters_are_named(
    read: Callable[[dict[str, str]], Any], fields: dict[str, str], names: str
) -> None:
    with pytest.raises(MalformedMessage, match=f"missing parameter: {names}"):
        read(fields)


def test_half_a_character_cannot_travel_as_a_parameter() -> None:
    with pytest.raises(UnwritableMessage, match="extras"):
        writing.write_beat(Beat(job="1", frame="1", extras="\udc80"))
