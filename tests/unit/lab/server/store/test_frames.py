"""The server's own leases: who gets which frame, until when, and what becomes of it."""

import pytest

from lab.errors import NotNow
from lab.project_rules import Compute
from lab.server.store.frame_views import Granted, Verdict, Wanted
from lab.server.store.frames import HOPELESS_AFTER
from lab.server.store.projects import PROJECT_STEPS, ProjectState, ProjectStep
from sheepfold.protocol.error_log import reason_in, write_error_log
from sheepfold.protocol.messages import ComputeMethod
from sheepfold.protocol.status import BeatStatus, JobStatus
from tests.support.lab.store_harness import LEASE_S, StoreHarness

CPU = ComputeMethod.CPU_ONLY


def granted(parts, session, method=CPU):
    answer = parts.frames.grant(session, method)
    assert isinstance(answer, Granted)
    return answer.project.id, answer.frame


def test_the_oldest_project_comes_first_and_its_frames_ascend(parts):
    session, first, second = parts.session(), parts.project((7, 3)), parts.project((1,))
    assert [granted(parts, session) for _ in range(3)] == [(first.id, "0003"), (first.id, "0007"), (second.id, "0001")]
    assert parts.frames.grant(session, CPU) is JobStatus.NO_JOB


def test_project_numbers_never_look_like_a_services_own_test_frames(parts):
    assert parts.project().id >= 100


def test_a_lease_without_heartbeats_is_granted_to_somebody_else(parts):
    session, other, project = parts.session("one"), parts.session("other"), parts.project((1,))
    granted(parts, session)
    parts.now += LEASE_S
    assert parts.frames.grant(other, CPU) is JobStatus.NO_JOB
    parts.now += 1
    assert granted(parts, other) == (project.id, "0001")
    assert parts.frames.beat(session, str(project.id), "0001") is BeatStatus.STOP
    assert parts.frames.beat(other, str(project.id), "0001") is BeatStatus.OK


def test_a_heartbeat_extends_the_lease(parts):
    session, project = parts.session(), parts.project((1,))
    granted(parts, session)
    for _ in range(5):
        parts.now += LEASE_S - 1
        assert parts.frames.beat(session, str(project.id), "0001") is BeatStatus.OK
    assert parts.frames.grant(session, CPU) is JobStatus.NO_JOB


def test_a_new_session_of_the_account_goes_on_beating_and_owns_the_lease_from_then_on(parts):
    old, project = parts.session(), parts.project((1,))
    granted(parts, old)
    new = parts.session()
    assert parts.frames.beat(new, str(project.id), "0001") is BeatStatus.OK
    parts.frames.release(old)
    assert parts.frames.beat(new, str(project.id), "0001") is BeatStatus.OK
    parts.frames.release(new)
    assert parts.frames.beat(new, str(project.id), "0001") is BeatStatus.STOP


def test_a_late_picture_is_taken_as_long_as_the_frame_is_wanted(parts):
    late, quick, project = parts.session("late"), parts.session("quick"), parts.project((1,))
    granted(parts, late)
    parts.now += LEASE_S + 1
    granted(parts, quick)
    assert parts.frames.wanted(late, str(project.id), "0001") is Wanted.TAKE
    assert parts.upload(late, project.id, "0001") is Verdict.ACCEPTED
    assert parts.frames.wanted(quick, str(project.id), "0001") is Wanted.HAVE
    assert parts.frames.beat(quick, str(project.id), "0001") is BeatStatus.STOP


def test_a_frame_that_was_never_this_accounts_is_not_taken(parts):
    owner, stranger, project = parts.session("owner"), parts.session("stranger"), parts.project((1,))
    granted(parts, owner)
    assert parts.frames.wanted(stranger, str(project.id), "0001") is Wanted.UNKNOWN
    assert parts.frames.wanted(owner, "999", "0001") is Wanted.UNKNOWN
    assert parts.frames.wanted(owner, str(project.id), "1") is Wanted.UNKNOWN


def test_a_frame_reported_in_error_is_given_up_after_three_times(parts):
    session, project = parts.session(), parts.project((1, 2))
    for _ in range(3):
        assert granted(parts, session) == (project.id, "0001")
        assert parts.frames.fail(session, str(project.id), "0001", b"boom")
    assert granted(parts, session) == (project.id, "0002")
    parts.upload(session, project.id, "0002")
    assert parts.projects.get(project.id).state is ProjectState.DONE
    assert parts.frames.views.counts()[project.id] == {"failed": 1, "accepted": 1}


def test_an_error_report_that_comes_twice_counts_once(parts):
    session, project = parts.session(), parts.project((1,))
    granted(parts, session)
    assert parts.frames.fail(session, str(project.id), "0001", b"")
    assert not parts.frames.fail(session, str(project.id), "0001", b"")
    assert parts.frames.views.totals()["errors"] == 1


def test_frames_that_were_given_up_can_be_tried_again(parts):
    session, project = parts.session(), parts.project((1,))
    for _ in range(3):
        granted(parts, session)
        parts.frames.fail(session, str(project.id), "0001", b"")
    assert parts.projects.step(project.id, ProjectStep.RETRY).state is ProjectState.ACTIVE
    granted(parts, session)
    parts.upload(session, project.id, "0001")
    assert parts.projects.get(project.id).state is ProjectState.DONE


@pytest.mark.parametrize("again_by", ["farm", "another"])
def test_a_black_frame_between_others_is_refused_once_and_believed_when_it_comes_again(parts, again_by):
    session, project = parts.session(), parts.project((1, 2))
    granted(parts, session)
    assert parts.upload(session, project.id, "0001") is Verdict.ACCEPTED
    granted(parts, session)
    assert parts.upload(session, project.id, "0002", empty=True) is Verdict.BROKEN
    again = parts.session(again_by)
    granted(parts, again)
    assert parts.upload(again, project.id, "0002", empty=True) is Verdict.ACCEPTED
    assert parts.frames.take_back_refusal(str(project.id), "0002") == session.id
    assert parts.frames.take_back_refusal(str(project.id), "0002") is None
    assert parts.frames.views.totals()["refusals"] == 1


def test_a_black_frame_that_was_made_sure_of_is_believed_at_once(parts):
    session, project = parts.session(), parts.project((1, 2))
    granted(parts, session)
    parts.upload(session, project.id, "0001")
    granted(parts, session)
    assert parts.upload(session, project.id, "0002", empty=True, confirmed=True) is Verdict.ACCEPTED


def test_what_is_next_to_a_black_frame_decides_and_not_what_is_far_away(parts):
    session, project = parts.session(), parts.project(range(1, 7))
    for _ in range(6):
        granted(parts, session)
    assert parts.upload(session, project.id, "0001") is Verdict.ACCEPTED
    assert parts.upload(session, project.id, "0003", empty=True, confirmed=True) is Verdict.ACCEPTED
    assert parts.upload(session, project.id, "0005", empty=True) is Verdict.ACCEPTED, "the film ends in black"
    assert parts.upload(session, project.id, "0002", empty=True) is Verdict.ACCEPTED
    assert parts.upload(session, project.id, "0006") is Verdict.ACCEPTED


def test_a_misshapen_black_frame_is_no_first_word_on_how_the_frame_looks(parts):
    session, project = parts.session(), parts.project((1, 2), width=8, height=8)
    granted(parts, session)
    parts.upload(session, project.id, "0001")
    for width, verdict in ((9, Verdict.BROKEN), (8, Verdict.BROKEN), (9, Verdict.BROKEN), (8, Verdict.ACCEPTED)):
        granted(parts, session)
        assert parts.upload(session, project.id, "0002", empty=True, width=width) is verdict


def test_a_film_may_begin_black(parts):
    session, project = parts.session(), parts.project((1, 2))
    granted(parts, session)
    assert parts.upload(session, project.id, "0001", empty=True) is Verdict.ACCEPTED


def test_a_refused_late_picture_does_not_end_somebody_elses_lease(parts):
    late, quick, project = parts.session("late"), parts.session("quick"), parts.project((1,), width=8, height=8)
    granted(parts, late)
    parts.now += LEASE_S + 1
    granted(parts, quick)
    assert parts.upload(late, project.id, "0001", width=9) is Verdict.BROKEN
    assert parts.frames.beat(quick, str(project.id), "0001") is BeatStatus.OK


def test_a_paused_project_grants_nothing_and_its_leases_end(parts):
    session, project = parts.session(), parts.project((1, 2))
    granted(parts, session)
    parts.projects.step(project.id, ProjectStep.PAUSE)
    assert parts.frames.beat(session, str(project.id), "0001") is BeatStatus.STOP
    assert parts.frames.grant(session, CPU) is JobStatus.NO_JOB
    assert parts.upload(session, project.id, "0001") is Verdict.ACCEPTED
    parts.projects.step(project.id, ProjectStep.RESUME)
    assert granted(parts, session) == (project.id, "0002")


@pytest.mark.parametrize("state", list(ProjectState))
@pytest.mark.parametrize("step", [ProjectStep.PAUSE, ProjectStep.RESUME, ProjectStep.CANCEL, ProjectStep.RETRY])
def test_a_step_that_is_not_in_the_table_changes_nothing(parts, state, step):
    project = parts.project((1,))
    if state is ProjectState.DONE:
        granted(parts, session := parts.session())
        parts.upload(session, project.id, "0001")
    elif state is not ProjectState.ACTIVE:
        parts.projects.step(project.id, ProjectStep.PAUSE if state is ProjectState.PAUSED else ProjectStep.CANCEL)
    if (state, step) in PROJECT_STEPS:
        parts.projects.step(project.id, step)
    else:
        with pytest.raises(NotNow):
            parts.projects.step(project.id, step)
        assert parts.projects.get(project.id).state is state


def test_a_client_is_given_what_it_can_compute(parts):
    session = parts.session()
    cpu, gpu, either = (parts.project((1,), compute=compute) for compute in (Compute.CPU, Compute.GPU, Compute.EITHER))
    assert granted(parts, session, ComputeMethod.GPU_ONLY)[0] == gpu.id
    assert granted(parts, session, ComputeMethod.GPU_ONLY)[0] == either.id
    assert parts.frames.grant(session, ComputeMethod.GPU_ONLY) is JobStatus.NO_JOB
    assert granted(parts, session, ComputeMethod.CPU_ONLY)[0] == cpu.id


def test_a_session_holds_no_more_frames_than_allowed(tmp_path):
    parts = StoreHarness(tmp_path, max_unvalidated=2)
    session, project = parts.session(), parts.project(range(1, 6))
    granted(parts, session)
    granted(parts, session)
    assert parts.frames.grant(session, CPU) is JobStatus.NO_JOB
    assert granted(parts, parts.session()) == (project.id, "0003")
    parts.upload(session, project.id, "0001")
    assert granted(parts, session) == (project.id, "0004")
    parts.store.close()


def test_only_archives_nobody_wants_any_more_are_to_be_deleted(parts):
    session, done = parts.session(), parts.project((1,), archive_md5="a" * 32)
    parts.project((1,), archive_md5="b" * 32)
    held = ("a" * 32, "b" * 32, "c" * 32)
    assert parts.projects.no_longer_needed(held) == ()
    granted(parts, session)
    parts.upload(session, done.id, "0001")
    assert parts.projects.no_longer_needed(held) == ("a" * 32,)


def test_everything_is_there_after_a_restart(parts, tmp_path):
    session, project = parts.session(), parts.project((1, 2))
    granted(parts, session)
    parts.upload(session, project.id, "0001")
    granted(parts, session)
    parts.store.close()
    again = StoreHarness(tmp_path / "server")
    assert again.projects.get(project.id).remaining == 1
    assert again.frames.beat(session, str(project.id), "0002") is BeatStatus.OK
    assert again.frames.views.totals()["accepted"] == 1
    again.store.close()


NO_CAMERA = write_error_log("no camera: Cannot render, no camera", "Blender 3.4.1", is_scenes_fault=True).encode()


def test_a_frame_that_every_client_would_fail_is_given_up_at_once(parts):
    session, project = parts.session(), parts.project((1, 2))
    job, frame = granted(parts, session)
    assert parts.frames.fail(session, str(job), frame, NO_CAMERA)
    assert parts.frames.views.row(project, frame).state == "failed"
    assert parts.frames.views.row(project, "0002").state == "waiting"


def test_a_project_whose_scene_cannot_be_rendered_ends_with_the_reason_after_a_few_frames(parts):
    session, project = parts.session(), parts.project(range(1, 251))
    for _ in range(HOPELESS_AFTER):
        _, held = granted(parts, session), granted(parts, session)
        assert parts.projects.get(project.id).state is ProjectState.ACTIVE
        assert parts.frames.fail(session, str(held[0]), held[1], NO_CAMERA)
    ended = parts.projects.get(project.id)
    assert (ended.state, ended.remaining) == (ProjectState.DONE, 0)
    assert {row.state for row in parts.frames.views.rows(project)} == {"failed"}
    logs = parts.frames.views.folder(project) / "logs"
    assert {reason_in(path.read_text()) for path in logs.iterdir()} == {"no camera: Cannot render, no camera"}
    assert len(list(logs.iterdir())) == 250
    parts.projects.step(project.id, ProjectStep.RETRY)
    assert parts.projects.get(project.id).remaining == 250


def test_a_project_with_a_picture_goes_on_whatever_some_of_its_frames_lack(parts):
    session, project = parts.session(), parts.project(range(1, 11))
    job, frame = granted(parts, session)
    assert parts.upload(session, job, frame) is Verdict.ACCEPTED
    for _ in range(HOPELESS_AFTER + 2):
        job, frame = granted(parts, session)
        parts.frames.fail(session, str(job), frame, NO_CAMERA)
    assert parts.projects.get(project.id).state is ProjectState.ACTIVE


def test_other_failures_leave_a_frame_its_chances(parts):
    session, project = parts.session(), parts.project((1,))
    for state in ("waiting", "waiting", "failed"):
        job, frame = granted(parts, session)
        parts.frames.fail(session, str(job), frame, write_error_log("renderer crashed: SIGSEGV", "").encode())
        assert parts.frames.views.row(project, frame).state == state
