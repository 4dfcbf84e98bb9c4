"""Whatever can be written is read back as it was: hypothesis looks for what is not."""

from __future__ import annotations

import contextlib
import string
from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as some

from sheepfold.protocol import reading_answers, reading_requests, writing
from sheepfold.protocol.dialects import SPECIFICATION
from sheepfold.protocol.errors import MalformedMessage
from sheepfold.protocol.messages import (
    ArchiveRequest,
    Beat,
    BeatAnswer,
    Chunk,
    ComputeMethod,
    ErrorReport,
    FrameUpload,
    JobAnswer,
    JobOffer,
    JobRequest,
    ProjectAnswer,
    ProjectStep,
    RendererOffer,
)
from sheepfold.protocol.session_messages import Credentials, Endpoints, Hardware, RamUnit, SignInAnswer, SignInRequest
from sheepfold.protocol.status import BeatStatus, JobStatus, ProjectStatus, SignInStatus, status_of

#: Every character XML can carry, line ends of all systems included.
xml_text = some.text(
    some.characters(exclude_categories=["Cs", "Cc"], exclude_characters="\ufffe\uffff")
    | some.sampled_from("\t\n\r &<>\"'")
)
field_text = some.text(some.characters(exclude_categories=["Cs"]))
name_text = xml_text.filter(bool)
field_name = field_text.filter(bool)
md5 = some.text(string.hexdigits.lower()[:16], min_size=32, max_size=32)
count = some.integers(0, 10**18 - 1)
code = some.integers(-(10**6), 10**6)


offers = some.builds(
    JobOffer,
    job_id=name_text,
    frame=name_text,
    path=name_text,
    use_gpu=some.booleans(),
    archive_md5=md5,
    revision=name_text,
    renderer=some.builds(RendererOffer, md5=md5, command_line=name_text, update_method=xml_text),
    script=xml_text,
    extras=some.none() | xml_text,
    synchronous_upload=some.booleans(),
    name=some.none() | xml_text,
    chunks=some.lists(some.builds(Chunk, id=name_text, md5=md5), max_size=3).map(tuple),
    password=some.none() | xml_text,
    validation_url=some.none() | name_text,
)


@given(offers, some.none() | count, some.lists(md5, max_size=4).map(tuple))
def test_a_job_comes_back_as_it_was(offer: JobOffer, remaining: int | None, unneeded: tuple[str, ...]) -> None:
    answer = JobAnswer(status=JobStatus.OK, offer=offer, frames_remaining=remaining, delete_archives=unneeded)
    assert reading_answers.read_job_answer(writing.write_job_answer(answer)) == answer


@given(
    some.builds(
        Endpoints,
        validate_job=name_text,
        request_job=name_text,
        download_archive=name_text,
        error=xml_text,
        keepmealive=name_text,
        logout=xml_text,
        max_period_s=some.none() | some.integers(1, 10**9),
        project=xml_text,
        reads_confirmed=some.booleans(),
    )
)
def test_endpoints_come_back_as_they_were(endpoints: Endpoints) -> None:
    answer = SignInAnswer(status=SignInStatus.OK, endpoints=endpoints)
    assert reading_answers.read_sign_in_answer(writing.write_sign_in_answer(answer)) == answer


@given(code)
def test_every_status_comes_back_as_it_was(number: int) -> None:
    answer = BeatAnswer(status=status_of(BeatStatus, number))
    assert reading_answers.read_beat_answer(writing.write_beat_answer(answer)) == answer


hardware = some.builds(
    Hardware,
    os=field_name,
    bits=field_name,
    cpu_family=field_name,
    cpu_model=field_name,
    cpu_model_name=field_name,
    cpu_cores=count,
    ram=some.integers(0, 2**44).map(lambda kilobytes: kilobytes * 1024),
)


@given(
    some.builds(
        SignInRequest,
        credentials=some.builds(Credentials, login=field_name, password=field_name),
        version=field_text,
        hardware=hardware,
        extras=some.none() | field_text,
    ),
    some.sampled_from(RamUnit),
)
def test_a_sign_in_comes_back_as_it_was(request: SignInRequest, unit: RamUnit) -> None:
    fields = writing.write_sign_in_request(request, replace(SPECIFICATION, ram_unit=unit))
    assert reading_requests.read_sign_in_request(fields, ram_unit=unit) == request


@given(some.sampled_from(ComputeMethod), some.lists(md5, max_size=5).map(tuple))
def test_a_job_request_comes_back_as_it_was(method: ComputeMethod, held: tuple[str, ...]) -> None:
    request = JobRequest(compute_method=method, held_archives=held)
    query, body, _ = writing.write_job_request(request)
    assert reading_requests.read_job_request(query, body or b"") == request


@given(
    some.builds(
        FrameUpload,
        job=field_name,
        frame=field_name,
        render_time_s=count,
        revision=field_name,
        extras=some.none() | field_text,
        memory_used_kb=some.none() | count,
        cores=some.none() | count,
        is_confirmed=some.booleans(),
    )
)
def test_an_upload_comes_back_as_it_was(upload: FrameUpload) -> None:
    assert reading_requests.read_frame_upload(writing.write_frame_upload(upload)) == upload


@given(some.builds(Beat, job=field_name, frame=field_name, extras=some.none() | field_text))
def test_a_beat_comes_back_as_it_was(beat: Beat) -> None:
    assert reading_requests.read_beat(writing.write_beat(beat)) == beat


@given(
    some.builds(
        ErrorReport,
        job=field_name,
        frame=field_name,
        extras=some.none() | field_text,
        render_time_s=some.none() | count,
        memory_used_kb=some.none() | count,
    )
)
def test_a_report_comes_back_as_it_was(report: ErrorReport) -> None:
    assert reading_requests.read_error_report(writing.write_error_report(report)) == report


@given(code, some.none() | some.integers(1, 10**9))
def test_how_long_to_wait_comes_back_as_it_was(number: int, wait_s: int | None) -> None:
    answer = JobAnswer(status=status_of(JobStatus, number or 200), wait_s=wait_s)
    assert reading_answers.read_job_answer(writing.write_job_answer(answer)) == answer


@given(field_name, some.sampled_from(["cancel", "resume"]), code, xml_text, xml_text)
def test_a_word_about_a_project_and_its_answer_come_back_as_they_were(
    job: str, step: str, number: int, found: str, name: str
) -> None:
    step_of_job = ProjectStep(job=job, step=step)
    assert reading_requests.read_project_step(writing.write_project_step(step_of_job)) == step_of_job
    answer = ProjectAnswer(status=status_of(ProjectStatus, number), job=found, name=name)
    assert reading_answers.read_project_answer(writing.write_project_answer(answer)) == answer


@given(some.sampled_from(["job", "binary"]), field_name, field_name)
def test_an_archive_request_comes_back_as_it_was(kind: str, job: str, revision: str) -> None:
    request = ArchiveRequest(type=kind, job=job, revision=revision)
    assert reading_requests.read_archive_request(writing.write_archive_request(request)) == request


@settings(max_examples=200)
@given(some.binary(max_size=200) | xml_text.map(str.encode))
def test_any_bytes_are_a_message_or_malformed(data: bytes) -> None:
    for read in (
        reading_answers.read_job_answer,
        reading_answers.read_sign_in_answer,
        reading_answers.read_beat_answer,
    ):
        for wire in (data, b"<jobrequest status='0'>" + data + b"</jobrequest>"):
            with contextlib.suppress(MalformedMessage):
                read(wire)
