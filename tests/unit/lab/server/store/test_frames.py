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


def granted(harness, session, method=CPU):
    answer = harness.frames.grant(session, method)
    assert isinstance(answer, Granted)
    return answer.project.id, answer.frame


def test_the_oldest_project_comes_first_and_its_frames_ascend(harness):
    session, first, second = harness.session(), harness.project((7, 3)), harness.project((1,))
    assert [granted(harness, session) for _ in range(3)] == [
        (first.id, "0003"),
        (first.id, "0007"),
        (second.id, "0001"),
    ]
    assert harness.frames.grant(session, CPU) is JobStatus.NO_JOB


def test_project_numbers_never_look_like_a_services_own_test_frames(harness):
    assert harness.project().id >= 100


def test_a_lease_without_heartbeats_is_granted_to_somebody_else(harness):
    session, other, project = harness.session("one"), harness.session("other"), harness.project((1,))
    granted(harness, session)
    harness.now += LEASE_S
    assert harness.frames.grant(other, CPU) is JobStatus.NO_JOB
    harness.now += 1
    assert granted(harness, other) == (project.id, "0001")
    assert harness.frames.beat(session, str(project.id), "0001") is BeatStatus.STOP
    assert harness.frames.beat(other, str(project.id), "0001") is BeatStatus.OK


def test_a_heartbeat_extends_the_lease(harness):
    session, project = harness.session(), harness.project((1,))
    granted(harness, session)
    for _ in range(5):
        harness.now += LEASE_S - 1
        assert harness.frames.beat(session, str(project.id), "0001") is BeatStatus.OK
    assert harness.frames.grant(session, CPU) is JobStatus.NO_JOB


def test_a_new_session_of_the_account_goes_on_beating_and_owns_the_lease_from_then_on(harness):
    old, project = harness.session(), harness.project((1,))
    granted(harness, old)
    new = harness.session()
    assert harness.frames.beat(new, str(project.id), "0001") is BeatStatus.OK
    harness.frames.release(old)
    assert harness.frames.beat(new, str(project.id), "0001") is BeatStatus.OK
    harness.frames.release(new)
    assert harness.frames.beat(new, str(project.id), "0001") is BeatStatus.STOP


def test_a_late_picture_is_taken_as_long_as_the_frame_is_wanted(harness):
    late, quick, project = harness.session("late"), harness.session("quick"), harness.project((1,))
    granted(harness, late)
    harness.now += LEASE_S + 1
    granted(harness, quick)
    assert harness.frames.wanted(late, str(project.id), "0001") is Wanted.TAKE
    assert harness.upload(late, project.id, "0001") is Verdict.ACCEPTED
    assert harness.frames.wanted(quick, str(project.id), "0001") is Wanted.HAVE
    assert harness.frames.beat(quick, str(project.id), "0001") is BeatStatus.STOP


def test_a_frame_that_was_never_this_accounts_is_not_taken(harness):
    owner, stranger, project = harness.session("owner"), harness.session("stranger"), harness.project((1,))
    granted(harness, owner)
    assert harness.frames.wanted(stranger, str(project.id), "0001") is Wanted.UNKNOWN
    assert harness.frames.wanted(owner, "999", "0001") is Wanted.UNKNOWN
    assert harness.frames.wanted(owner, str(project.id), "1") is Wanted.UNKNOWN


def test_a_frame_reported_in_error_is_given_up_after_three_times(harness):
    session, project = harness.session(), harness.project((1, 2))
    for _ in range(3):
        assert granted(harness, session) == (project.id, "0001")
        assert harness.frames.fail(session, str(project.id), "0001", b"boom")
    assert granted(harness, session) == (project.id, "0002")
    harness.upload(session, project.id, "0002")
    assert harness.projects.get(project.id).state is ProjectState.DONE
    assert harness.frames.views.counts()[project.id] == {"failed": 1, "accepted": 1}


def test_an_error_report_that_comes_twice_counts_once(harness):
    session, project = harness.session(), harness.project((1,))
    granted(harness, session)
    assert harness.frames.fail(session, str(project.id), "0001", b"")
    assert not harness.frames.fail(session, str(project.id), "0001", b"")
    assert harness.frames.views.totals()["errors"] == 1


def test_frames_that_were_given_up_can_be_tried_again(harness):
    session, project = harness.session(), harness.project((1,))
    for _ in range(3):
        granted(harness, session)
        harness.frames.fail(session, str(project.id), "0001", b"")
    assert harness.projects.step(project.id, ProjectStep.RETRY).state is ProjectState.ACTIVE
    granted(harness, session)
    harness.upload(session, project.id, "0001")
    assert harness.projects.get(project.id).state is ProjectState.DONE


@pytest.mark.parametrize("again_by", ["farm", "another"])
def test_a_black_frame_between_others_is_refused_once_and_believed_when_it_comes_again(harness, again_by):
    session, project = harness.session(), harness.project((1, 2))
    granted(harness, session)
    assert harness.upload(session, project.id, "0001") is Verdict.ACCEPTED
    granted(harness, session)
    assert harness.upload(session, project.id, "0002", empty=True) is Verdict.BROKEN
    again = harness.session(again_by)
    granted(harness, again)
    assert harness.upload(again, project.id, "0002", empty=True) is Verdict.ACCEPTED
    assert harness.frames.take_back_refusal(str(project.id), "0002") == session.id
    assert harness.frames.take_back_refusal(str(project.id), "0002") is None
    assert harness.frames.views.totals()["refusals"] == 1


def test_a_black_frame_that_was_made_sure_of_is_believed_at_once(harness):
    session, project = harness.session(), harness.project((1, 2))
    granted(harness, session)
    harness.upload(session, project.id, "0001")
    granted(harness, session)
    assert harness.upload(session, project.id, "0002", empty=True, confirmed=True) is Verdict.ACCEPTED


def test_what_is_next_to_a_black_frame_decides_and_not_what_is_far_away(harness):
    session, project = harness.session(), harness.project(range(1, 7))
    for _ in range(6):
        granted(harness, session)
    assert harness.upload(session, project.id, "0001") is Verdict.ACCEPTED
    assert harness.upload(session, project.id, "0003", empty=True, confirmed=True) is Verdict.ACCEPTED
    assert harness.upload(session, project.id, "0005", empty=True) is Verdict.ACCEPTED, "the film ends in black"
    assert harness.upload(session, project.id, "0002", empty=True) is Verdict.ACCEPTED
    assert harness.upload(session, project.id, "0006") is Verdict.ACCEPTED


def test_a_misshapen_black_frame_is_no_first_word_on_how_the_frame_looks(harness):
    session, project = harness.session(), harness.project((1, 2), width=8, height=8)
    granted(harness, session)
    harness.upload(session, project.id, "0001")
    for width, verdict in ((9, Verdict.BROKEN), (8, Verdict.BROKEN), (9, Verdict.BROKEN), (8, Verdict.ACCEPTED)):
        granted(harness, session)
        assert harness.upload(session, project.id, "0002", empty=True, width=width) is verdict


def test_a_film_may_begin_black(harness):
    session, project = harness.session(), harness.project((1, 2))
    granted(harness, session)
    assert harness.upload(session, project.id, "0001", empty=True) is Verdict.ACCEPTED


def test_a_refused_late_picture_does_not_end_somebody_elses_lease(harness):
    late, quick, project = harness.session("late"), harness.session("quick"), harness.project((1,), width=8, height=8)
    granted(harness, late)
    harness.now += LEASE_S + 1
    granted(harness, quick)
    assert harness.upload(late, project.id, "0001", width=9) is Verdict.BROKEN
    assert harness.frames.beat(quick, str(project.id), "0001") is BeatStatus.OK


def test_a_paused_project_grants_nothing_and_its_leases_end(harness):
    session, project = harness.session(), harness.project((1, 2))
    granted(harness, session)
    harness.projects.step(project.id, ProjectStep.PAUSE)
    assert harness.frames.beat(session, str(project.id), "0001") is BeatStatus.STOP
    assert harness.frames.grant(session, CPU) is JobStatus.NO_JOB
    assert harness.upload(session, project.id, "0001") is Verdict.ACCEPTED
    harness.projects.step(project.id, ProjectStep.RESUME)
    assert granted(harness, session) == (project.id, "0002")


@pytest.mark.parametrize("state", list(ProjectState))
@pytest.mark.parametrize("step", [ProjectStep.PAUSE, ProjectStep.RESUME, ProjectStep.CANCEL, ProjectStep.RETRY])
def test_a_step_that_is_not_in_the_table_changes_nothing(harness, state, step):
    project = harness.project((1,))
    if state is ProjectState.DONE:
        granted(harness, session := harness.session())
        harness.upload(session, project.id, "0001")
    elif state is not ProjectState.ACTIVE:
        harness.projects.step(project.id, ProjectStep.PAUSE if state is ProjectState.PAUSED else ProjectStep.CANCEL)
    if (state, step) in PROJECT_STEPS:
        harness.projects.step(project.id, step)
    else:
        with pytest.raises(NotNow):
            harness.projects.step(project.id, step)
        assert harness.projects.get(project.id).state is state


def test_a_client_is_given_what_it_can_compute(harness):
    session = harness.session()
    cpu, gpu, either = (
        harness.project((1,), compute=compute) for compute in (Compute.CPU, Compute.GPU, Compute.EITHER)
    )
    assert granted(harness, session, ComputeMethod.GPU_ONLY)[0] == gpu.id
    assert granted(harness, session, ComputeMethod.GPU_ONLY)[0] == either.id
    assert harness.frames.grant(session, ComputeMethod.GPU_ONLY) is JobStatus.NO_JOB
    assert granted(harness, session, ComputeMethod.CPU_ONLY)[0] == cpu.id


def test_a_session_holds_no_more_frames_than_allowed(tmp_path):
    harness = StoreHarness(tmp_path, max_unvalidated=2)
    session, project = harness.session(), harness.project(range(1, 6))
    granted(harness, session)
    granted(harness, session)
    assert harness.frames.grant(session, CPU) is JobStatus.NO_JOB
    assert granted(harness, harness.session()) == (project.id, "0003")
    harness.upload(session, project.id, "0001")
    assert granted(harness, session) == (project.id, "0004")
    harness.store.close()


def test_only_archives_nobody_wants_any_more_are_to_be_deleted(harness):
    session, done = harness.session(), harness.project((1,), archive_md5="a" * 32)
    harness.project((1,), archive_md5="b" * 32)
    held = ("a" * 32, "b" * 32, "c" * 32)
    assert harness.projects.no_longer_needed(held) == ()
    granted(harness, session)
    harness.upload(session, done.id, "0001")
    assert harness.projects.no_longer_needed(held) == ("a" * 32,)


def test_everything_is_there_after_a_restart(harness, tmp_path):
    session, project = harness.session(), harness.project((1, 2))
    granted(harness, session)
    harness.upload(session, project.id, "0001")
    granted(harness, session)
    harness.store.close()
    again = StoreHarness(tmp_path / "server")
    assert again.projects.get(project.id).remaining == 1
    assert again.frames.beat(session, str(project.id), "0002") is BeatStatus.OK
    assert again.frames.views.totals()["accepted"] == 1
    again.store.close()


NO_CAMERA = write_error_log("no camera: Cannot render, no camera", "Blender 3.4.1", is_scenes_fault=True).encode()


def test_a_frame_that_every_client_would_fail_is_given_up_at_once(harness):
    session, project = harness.session(), harness.project((1, 2))
    job, frame = granted(harness, session)
    assert harness.frames.fail(session, str(job), frame, NO_CAMERA)
    assert harness.frames.views.row(project, frame).state == "failed"
    assert harness.frames.views.row(project, "0002").state == "waiting"


def test_a_project_whose_scene_cannot_be_rendered_ends_with_the_reason_after_a_few_frames(harness):
    session, project = harness.session(), harness.project(range(1, 251))
    for _ in range(HOPELESS_AFTER):
        _, held = granted(harness, session), granted(harness, session)
        assert harness.projects.get(project.id).state is ProjectState.ACTIVE
        assert harness.frames.fail(session, str(held[0]), held[1], NO_CAMERA)
    ended = harness.projects.get(project.id)
    assert (ended.state, ended.remaining) == (ProjectState.DONE, 0)
    assert {row.state for row in harness.frames.views.rows(project)} == {"failed"}
    logs = harness.frames.views.folder(project) / "logs"
    assert {reason_in(path.read_text()) for path in logs.iterdir()} == {"no camera: Cannot render, no camera"}
    assert len(list(logs.iterdir())) == 250
    harness.projects.step(project.id, ProjectStep.RETRY)
    assert harness.projects.get(project.id).remaining == 250


def test_a_project_with_a_picture_goes_on_whatever_some_of_its_frames_lack(harness):
    session, project = harness.session(), harness.project(range(1, 11))
    job, frame = granted(harness, session)
    assert harness.upload(session, job, frame) is Verdict.ACCEPTED
    for _ in range(HOPELESS_AFTER + 2):
        job, frame = granted(harness, session)
        harness.frames.fail(session, str(job), frame, NO_CAMERA)
    assert harness.projects.get(project.id).state is ProjectState.ACTIVE


def test_other_failures_leave_a_frame_its_chances(harness):
    session, project = harness.session(), harness.project((1,))
    for state in ("waiting", "waiting", "failed"):
        job, frame = granted(harness, session)
        harness.frames.fail(session, str(job), frame, write_error_log("renderer crashed: SIGSEGV", "").encode())
        assert harness.frames.views.row(project, frame).state == state
