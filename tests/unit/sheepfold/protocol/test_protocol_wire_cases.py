"""Reader and writer, both driven by the one table of ``wire_cases.py``, and what they refuse."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from sheepfold.protocol import reading_answers, reading_requests, writing
from sheepfold.protocol.dialects import DIALECTS, SPECIFICATION, Dialect, dialect_of, spoken_with
from sheepfold.protocol.errors import MalformedMessage, UnwritableMessage
from sheepfold.protocol.messages import (
    ArchiveRequest,
    Beat,
    ComputeMethod,
    ErrorReport,
    FrameUpload,
    JobAnswer,
    JobOffer,
    JobRequest,
)
from sheepfold.protocol.session_messages import Credentials, Endpoints, Hardware, RamUnit, SignInRequest
from sheepfold.protocol.status import JobStatus, explain
from tests.support.wire.wire_cases import BARE_JOB, BARE_OFFER, CANONICAL, MD5_A, MD5_B, WIRE_CASES, WireCase

READERS: dict[str, Callable[[bytes], Any]] = {
    "sign-in": reading_answers.read_sign_in_answer,
    "job": reading_answers.read_job_answer,
    "validation": reading_answers.read_validation_answer,
    "beat": reading_answers.read_beat_answer,
    "error": reading_answers.read_error_answer,
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


ARCHIVE = re.search(rb"archive_md5='[^']*'", BARE_JOB)[0]  # type: ignore[index]


def case_name(case: WireCase) -> str:
    return case.name


@pytest.mark.parametrize("case", WIRE_CASES, ids=case_name)
def test_the_reader_reads_what_travels(case: WireCase) -> None:
    assert READERS[case.kind](case.wire) == case.message


@pytest.mark.parametrize("case", CANONICAL, ids=case_name)
def test_the_writer_writes_what_travels(case: WireCase) -> None:
    assert WRITERS[case.kind](case.message) == case.wire


@pytest.mark.parametrize("case", WIRE_CASES, ids=case_name)
def test_what_was_read_can_be_written_and_read_again(case: WireCase) -> None:
    assert READERS[case.kind](WRITERS[case.kind](case.message)) == case.message


def test_a_known_status_reads_as_its_name_and_an_unknown_one_survives() -> None:
    assert reading_answers.read_job_answer(b"<jobrequest status='200'/>").status is JobStatus.NO_JOB
    assert explain(reading_answers.read_job_answer(b"<jobrequest status='742'/>").status) == "unknown error 742"


@pytest.mark.parametrize(
    ("kind", "wire", "names"),
    [
        ("job", b"<jobrequest status='X'/>", "status"),
        ("job", b"<jobrequest/>", "status"),
        ("job", b"<jobrequest status='0'/>", "job"),
        ("job", BARE_JOB.replace(b"frame='12'", b""), "frame"),
        ("job", BARE_JOB.replace(b"id='7'", b""), "id"),
        ("job", b"<jobrequest status='200'><file md5='/etc/passwd' action='delete'/></jobrequest>", "md5"),
        ("job", b"<jobrequest status='" + b"9" * 1_000_000 + b"'/>", "tag|status"),
        ("beat", b"<keepmealive status='1e3'/>", "status"),
        ("beat", b"<keepmealive status='\xd9\xa1'/>", "status"),
    ],
)
def test_a_message_that_lacks_something_says_what(kind: str, wire: bytes, names: str) -> None:
    with pytest.raises(MalformedMessage, match=names):
        READERS[kind](wire)


@pytest.mark.parametrize(
    ("wire", "names"),
    [
        (BARE_JOB.replace(b"path='a.blend'", b"path=''"), "path"),
        (BARE_JOB.replace(b"archive_md5", b"archive"), "archive_md5"),
        (BARE_JOB.replace(b"commandline", b"command"), "commandline"),
        (BARE_JOB.replace(b"<renderer", b"<blender"), "renderer"),
        (BARE_JOB.replace(b"0123456789ABCDEF", b"../../../../../."), "archive_md5"),
        (BARE_JOB.replace(b"f" * 32, b"f" * 31), "md5"),
        (BARE_JOB.replace(b"f" * 32, b"f" * 32 + b"&#10;"), "md5"),
        (BARE_JOB.replace(b"f" * 32, ("\u0664" * 32).encode()), "md5"),
        (BARE_JOB.replace(b"<renderer", b"<chunks><chunk id='1' md5='no'/></chunks><renderer"), "md5"),
        (BARE_JOB.replace(b"<renderer", b"<chunks><chunk md5='" + b"a" * 32 + b"'/></chunks><renderer"), "id"),
    ],
)
def test_an_offer_that_cannot_be_followed_still_names_its_frame(wire: bytes, names: str) -> None:
    answer = reading_answers.read_job_answer(wire)
    assert answer.offer is None
    assert answer.unreadable is not None
    assert (answer.unreadable.job, answer.unreadable.frame) == ("7", "12")
    assert names in answer.unreadable.reason


def test_an_offer_may_come_in_chunks_alone_locked_and_with_an_address_of_its_own() -> None:
    wire = (
        BARE_JOB.replace(ARCHIVE, b"password='s3cret'")
        .replace(b"revision='3'", b"validation_url='https%3A%2F%2Fup.example%2Fput%3Fjob%3D7%26key%3Da%252Bb+c'")
        .replace(
            b"<renderer",
            f"<chunks><chunk id='a/../b' md5='{MD5_A}'/><chunk id='2' md5='{MD5_B}'/></chunks><renderer".encode(),
        )
    )
    offer = reading_answers.read_job_answer(wire).offer
    assert offer is not None
    assert offer.scene_md5s == (MD5_A, MD5_B)
    assert (offer.archive_md5, offer.revision, offer.password) == ("", "", "s3cret")
    assert offer.validation_url == "https://up.example/put?job=7&key=a%2Bb c"
    assert "s3cret" not in repr(offer)
    assert "key" not in repr(offer)
    assert (
        reading_answers.read_job_answer(writing.write_job_answer(JobAnswer(status=JobStatus.OK, offer=offer))).offer
        == offer
    )


def test_a_configuration_is_read_whatever_it_lacks_and_tells_what_nobody_knows() -> None:
    answer = reading_answers.read_sign_in_answer(
        b"<config status='0' publickey='s3cret'><request type='warp' path='/w'/><request type='keepmealive' path='/k'/>"
        b"<speedtest><target url='http://a/1'/><target url='http://a/2'/></speedtest></config>"
    )
    assert answer.endpoints is not None
    assert SPECIFICATION.missing_in(answer.endpoints) == ("request-job", "download-archive", "validate-job")
    assert spoken_with(answer.endpoints, SPECIFICATION) is None
    assert answer.unknown_requests == ("warp",)
    assert answer.public_key == "s3cret"
    assert "s3cret" not in repr(answer)
    assert answer.speed_test_targets == ("http://a/1", "http://a/2")


@pytest.mark.parametrize(
    ("has", "then"),
    [
        ("validate_job request_job download_archive keepmealive", 2015),
        ("request_job download_archive keepmealive", 2020),
        ("request_job download_archive keepmealive speedtest_answer", 2022),
        ("request_job download_binary download_chunk keepmealive speedtest_answer", 2024),
        ("validate_job request_job download_archive download_binary download_chunk keepmealive speedtest_answer", 2015),
    ],
)
def test_the_request_types_of_a_server_choose_what_is_spoken_after_the_sign_in(has: str, then: int) -> None:
    spoken = spoken_with(
        Endpoints(**{"request_job": "", "keepmealive": ""} | dict.fromkeys(has.split(), "/x")), SPECIFICATION
    )
    assert spoken is not None
    assert spoken.year == then


def test_a_dialect_that_nobody_knows_is_refused_with_those_there_are() -> None:
    assert dialect_of(2020).year == 2020
    with pytest.raises(ValueError, match="2015, 2017, 2020, 2022, 2024"):
        dialect_of(1999)


@pytest.mark.parametrize("dialect", DIALECTS, ids=lambda dialect: str(dialect.year))
def test_what_a_generation_sends_is_read_as_it_was_meant(dialect: Dialect) -> None:
    assert (
        reading_requests.read_sign_in_request(writing.write_sign_in_request(SIGN_IN, dialect)).hardware.ram
        == HARDWARE.ram
    )
    held = JobRequest(compute_method=ComputeMethod.CPU_ONLY, held_archives=(MD5_A,), cpu_cores=4, ram_max_kb=5)
    query, body, kind = writing.write_job_request(held, dialect)
    read = reading_requests.read_job_request(query, body or b"")
    assert read.compute_method is ComputeMethod.CPU_ONLY
    assert read.render_time_max_s is None
    assert read.held_archives == ((MD5_A,) if kind else ())
    beat = reading_requests.read_beat(writing.write_beat(Beat(job="1", frame="02", paused=False), dialect))
    assert (beat.job, beat.frame) == ("1", "02")
    report = reading_requests.read_error_report(
        writing.write_error_report(ErrorReport(job="1", frame="02", type=8), dialect)
    )
    assert (report.job, report.frame) == ("1", "02")


def test_the_memory_of_a_pc_is_told_by_its_size() -> None:
    for ram, read in (("24903680", 24903680 * 1024), (str(2**30), 2**30), (str(2**30 - 1), (2**30 - 1) * 1024)):
        assert reading_requests.read_sign_in_request({**FIELDS, "ram": ram}).hardware.ram == read


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
    assert reading_requests.read_sign_in_request(FIELDS) == SIGN_IN
    assert "b&c" not in repr(SIGN_IN)


def test_memory_travels_in_bytes_or_in_kilobytes() -> None:
    assert FIELDS["ram"] == str(2**34)
    fields = writing.write_sign_in_request(SIGN_IN, replace(SPECIFICATION, ram_unit=RamUnit.KILOBYTES))
    assert fields["ram"] == str(2**24)
    assert reading_requests.read_sign_in_request(fields, ram_unit=RamUnit.KILOBYTES) == SIGN_IN


def test_a_sign_in_without_version_is_read_and_one_without_login_is_not() -> None:
    assert reading_requests.read_sign_in_request({**FIELDS, "version": ""}).version == ""
    without = {name: text for name, text in FIELDS.items() if name != "version"}
    assert reading_requests.read_sign_in_request(without).version == ""
    with pytest.raises(MalformedMessage, match="missing parameter: login, bits"):
        reading_requests.read_sign_in_request({**FIELDS, "login": "", "bits": ""})


def test_later_parameters_of_a_sign_in_are_passed_over() -> None:
    later = {**FIELDS, "ui": "swing", "headless": "1", "ram_max": "many"}
    assert reading_requests.read_sign_in_request(later) == SIGN_IN


@pytest.mark.parametrize("name", ["cpu_cores", "ram"])
@pytest.mark.parametrize("value", ["many", "-1", "1.5", "9" * 10_000_000, "\u0661"])
def test_a_figure_that_is_none_is_malformed(name: str, value: str) -> None:
    with pytest.raises(MalformedMessage, match=name):
        reading_requests.read_sign_in_request({**FIELDS, name: value})


def test_a_job_request_tells_what_is_held() -> None:
    request = JobRequest(compute_method=ComputeMethod.GPU_ONLY, held_archives=(MD5_A, MD5_B))
    query, body, kind = writing.write_job_request(request)
    assert body is not None
    assert kind == "application/x-www-form-urlencoded"
    assert query == {"computemethod": "2"}
    assert body.endswith(f'<cache><file md5="{MD5_A}"/><file md5="{MD5_B}"/></cache>'.encode())
    assert reading_requests.read_job_request(query, body) == request


def test_a_job_request_with_thousands_of_archives_is_still_one() -> None:
    held = tuple(f"{number:032x}" for number in range(15_000))
    query, body, _ = writing.write_job_request(JobRequest(compute_method=ComputeMethod.CPU_OR_GPU, held_archives=held))
    assert reading_requests.read_job_request(query, body or b"").held_archives == held


@pytest.mark.parametrize("body", [b"", b" \n", b"<cache/>", b"<cache></cache>", b"<cache>\n</cache>"])
def test_a_job_request_may_hold_nothing(body: bytes) -> None:
    assert reading_requests.read_job_request({"computemethod": "0"}, body).held_archives == ()


@pytest.mark.parametrize("fields", [{}, {"computemethod": "3"}, {"computemethod": "x"}, {"computemethod": "-1"}])
def test_a_job_request_needs_its_compute_method(fields: dict[str, str]) -> None:
    with pytest.raises(MalformedMessage, match="computemethod"):
        reading_requests.read_job_request(fields)


def test_archive_requests_go_both_ways() -> None:
    for request in (ArchiveRequest(type="binary", job="1"), ArchiveRequest(type="job", job="1", revision="0")):
        assert reading_requests.read_archive_request(writing.write_archive_request(request)) == request
    chunk = ArchiveRequest(type="chunk", chunk="a/../b")
    assert writing.write_archive_request(chunk) == {"chunk": "a/../b"}
    assert reading_requests.read_archive_request({"chunk": "a/../b"}, kind="chunk") == chunk
    assert writing.write_archive_request(ArchiveRequest(type="binary", job="1"), by_type=False) == {"job": "1"}
    assert reading_requests.read_archive_request({"job": "1"}, kind="binary") == ArchiveRequest(type="binary", job="1")
    with pytest.raises(MalformedMessage, match="chunk"):
        reading_requests.read_archive_request({"job": "1"}, kind="chunk")
    with pytest.raises(MalformedMessage, match="binary or job"):
        reading_requests.read_archive_request({"type": "../x", "job": "1"})


def test_an_upload_carries_the_frame_exactly_as_it_came() -> None:
    upload = FrameUpload(
        job="1", frame="0340", render_time_s=7, revision="0", extras="a b&c", memory_used_kb=5, cores=2
    )
    fields = writing.write_frame_upload(upload)
    assert fields == {
        "job": "1", "frame": "0340", "rendertime": "7", "revision": "0", "extras": "a b&c", "memoryused": "5",
        "cores": "2",
    }  # fmt: skip
    assert reading_requests.read_frame_upload(fields) == upload


def test_extras_that_were_not_given_are_not_sent_and_empty_ones_are() -> None:
    assert "extras" not in writing.write_beat(Beat(job="1", frame="1"))
    assert writing.write_beat(Beat(job="1", frame="1", extras=""))["extras"] == ""
    assert reading_requests.read_beat({"job": "1", "frame": "1"}).extras is None


def test_figures_nobody_depends_on_may_be_nonsense() -> None:
    upload = reading_requests.read_frame_upload(
        {"job": "1", "frame": "1", "rendertime": "3", "revision": "0", "memoryused": "much", "cores": "-1"}
    )
    assert (upload.memory_used_kb, upload.cores) == (None, None)


def test_a_report_is_read_with_either_spelling_of_its_time_and_written_with_the_specified_one() -> None:
    report = ErrorReport(job="1", frame="2", extras="x", render_time_s=30, memory_used_kb=4)
    fields = writing.write_error_report(report)
    assert fields["rendertime"] == "30"
    fields["render_time"] = fields.pop("rendertime")
    assert reading_requests.read_error_report(fields) == report


@pytest.mark.parametrize(
    ("read", "fields", "names"),
    [
        (reading_requests.read_frame_upload, {"job": "1"}, "frame, rendertime"),
        (reading_requests.read_archive_request, {"type": "job"}, "job"),
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
