from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import pytest

from coordinator.jobs.blocks import BlockedBy, JobBlocks
from coordinator.jobs.control import Job, JobControl
from coordinator.jobs.errors import TOLD_JOBS, UnknownJob
from coordinator.leases.key_value import KeyValueStore
from coordinator.leases.lease import Lease, LeaseEvent, LeaseState
from coordinator.leases.ledger import Ledger
from coordinator.leases.ledger_batch import Transition
from coordinator.upstream.errors import ServerSilent
from coordinator.upstream.session import FarmSession
from sheepfold.contract.api_messages import FailureKind, FailureReport
from sheepfold.protocol.messages import ProjectAnswer, ProjectStep
from sheepfold.protocol.session_messages import Endpoints
from sheepfold.protocol.status import ProjectStatus
from tests.support.coordinator.builders import offer, rendering
from tests.support.coordinator.fakes import ENDPOINTS, KEY, FakeSession

OURS = Endpoints(**{**vars(ENDPOINTS), "project": "/server/project"})
SILENCE = ServerSilent("project", "http://server/x", "no answer in time")


class ControlHarness:
    """A job control, and what it does to the farm around it."""

    def __init__(self, ledger: Ledger) -> None:
        self.ledger, self.blocks = ledger, JobBlocks(KeyValueStore(ledger.database), "http://server").load()
        self.session = FakeSession()
        sessions = {KEY: cast("FarmSession", self.session)}
        self.control = JobControl(
            ledger,
            self.blocks,
            sessions,
            self._end_leases,
            self._give_back,
            give_up=lambda lease, report: self.given_up.append((lease.offer.frame, report)),
            on_unblocked=lambda job_id: self.unblocked.append(job_id),
        )
        self.given_up: list[tuple[str, FailureReport]] = []
        #: Jobs that get another chance.
        self.unblocked: list[str] = []
        #: Frame → whether the server was told of it.
        self.ended: dict[str, bool] = {}
        self.reasons: set[str] = set()

    def _end_leases(self, leases: Sequence[Lease], reason: str) -> list[Lease]:
        self.reasons.add(reason)
        steps = [Transition(lease_id=lease.id, event=LeaseEvent.CANCEL, reason=reason) for lease in leases]
        ended = [lease for lease in self.ledger.apply_many(steps) if isinstance(lease, Lease)]
        self.ended |= {lease.offer.frame: False for lease in ended}
        return ended

    def _give_back(self, leases: Sequence[Lease], reason: str) -> None:
        self.reasons.add(reason)
        self.ended |= {lease.offer.frame: True for lease in leases}

    def turn_away(self, lease: Lease) -> None:
        block = self.control.block_of(lease)
        assert block is not None
        self.control.turn_away(lease, block)

    def cancelled(self, job: str, frame: str | None = None) -> list[str]:
        """The frames that end."""
        self.ended.clear()
        assert sum(stopped.frames for stopped in self.control.cancel(job, frame)) == len(self.ended)
        return sorted(self.ended)


@pytest.fixture
def harness(ledger: Ledger) -> ControlHarness:
    return ControlHarness(ledger)


@pytest.fixture
def four_frames(ledger: Ledger) -> dict[str, Lease]:
    """Two of a job, one of another, one that has ended."""
    leases = {
        "0001": rendering(ledger, "0001"),
        "0002": ledger.grant(offer("0002"), KEY),
        "0101": ledger.grant(offer("0101", job_id="78", name=None, path="shots/other.blend"), KEY),
        "0003": rendering(ledger, "0003"),
    }
    leases["0003"] = ledger.apply(leases["0003"].id, LeaseEvent.CANCEL)
    return leases


@pytest.mark.parametrize(
    ("job", "frame", "frames"),
    [
        ("77", None, ["0001", "0002"]),
        ("demo", None, ["0001", "0002"]),
        ("other.blend", None, ["0101"]),
        ("78", "0101", ["0101"]),
        ("77", "0002", ["0002"]),
        # A frame is a text: 2 is not 0002.
        ("77", "2", []),
        ("77", "0003", []),
    ],
)
@pytest.mark.usefixtures("four_frames")
def test_a_job_or_one_frame_of_it_ends_and_each_frame_is_reported(
    harness: ControlHarness, job: str, frame: str | None, frames: list[str]
) -> None:
    assert harness.cancelled(job, frame) == frames
    assert all(harness.ended.values()), "a server of other origin learns it frame by frame"


@pytest.mark.usefixtures("four_frames")
def test_what_was_cancelled_is_blocked_and_nothing_else(harness: ControlHarness) -> None:
    harness.control.cancel("demo", None)
    assert harness.blocks.is_blocked("77", "0999")
    assert not harness.blocks.is_blocked("78", "0101")
    harness.control.cancel("78", "0101")
    assert [block.label for block in harness.blocks.all()] == ["job 77 · demo", "frame 0101 of job 78 · other.blend"]
    assert {block.by for block in harness.blocks.all()} == {BlockedBy.OPERATOR}


@pytest.mark.usefixtures("four_frames")
def test_the_block_holds_before_the_first_lease_ends(harness: ControlHarness) -> None:
    def end(leases: Sequence[Lease], _reason: str) -> list[Lease]:
        assert harness.blocks.is_blocked("77", "0001")
        assert len(leases) == 2
        return []

    harness.control._end_leases = end
    harness.control.cancel("77", None)


@pytest.mark.usefixtures("four_frames")
@pytest.mark.parametrize(("job", "frame"), [("79", None), ("", None), ("dem", None), ("79", "0001")])
def test_a_job_that_is_not_there_is_said_with_those_that_are(
    harness: ControlHarness, job: str, frame: str | None
) -> None:
    with pytest.raises(UnknownJob, match=r"jobs there are: 77 'demo', 78 'other\.blend'$"):
        harness.control.cancel(job, frame)
    assert harness.blocks.all() == []


def test_a_farm_without_jobs_says_so(harness: ControlHarness) -> None:
    with pytest.raises(UnknownJob, match=r"there is no job '7' here; jobs there are: none$"):
        harness.control.cancel("7", None)


def test_not_more_jobs_are_told_than_a_person_reads(harness: ControlHarness) -> None:
    for number in range(TOLD_JOBS + 1):
        harness.ledger.grant(offer("0001", job_id=str(200 + number)), KEY)
    with pytest.raises(UnknownJob) as raised:
        harness.control.cancel("7", None)
    assert str(raised.value).count("'demo'") == TOLD_JOBS
    assert str(raised.value).endswith(" …")


def test_a_job_between_two_frames_is_still_known(harness: ControlHarness, four_frames: dict[str, Lease]) -> None:
    for frame in ("0001", "0002"):
        harness.ledger.apply(four_frames[frame].id, LeaseEvent.CANCEL)
    assert harness.cancelled("demo") == []
    assert harness.blocks.is_blocked("77", "0004")


def test_of_two_jobs_of_one_name_the_one_that_is_over_is_left_alone(
    harness: ControlHarness, four_frames: dict[str, Lease]
) -> None:
    for frame in ("0001", "0002"):
        harness.ledger.apply(four_frames[frame].id, LeaseEvent.CANCEL)
    harness.ledger.grant(offer("0001", job_id="90"), KEY)
    assert harness.cancelled("demo") == ["0001"]
    assert [block.job_id for block in harness.blocks.all()] == ["90"]


def test_a_number_comes_before_a_name_that_looks_like_it(harness: ControlHarness) -> None:
    harness.ledger.grant(offer("0001", job_id="90", name="77"), KEY)
    harness.ledger.grant(offer("0002", job_id="77", name="film"), KEY)
    assert harness.cancelled("77") == ["0002"]


def test_a_name_may_hold_a_colon(harness: ControlHarness) -> None:
    harness.ledger.grant(offer("0001", name="film:2"), KEY)
    assert harness.cancelled("film", "2") == ["0001"]
    assert [block.frame for block in harness.blocks.all()] == [None]
    assert [block.frame for block in harness.control.unblock("film", "2")] == [None]


# A server of ours


@pytest.mark.usefixtures("four_frames")
def test_a_server_of_ours_stops_the_project_itself_and_needs_no_reports(harness: ControlHarness) -> None:
    harness.session.endpoints = OURS
    [stopped] = harness.control.cancel("demo", None)
    assert harness.session.steps == [ProjectStep(job="77", step="cancel")]
    assert harness.ended == {"0001": False, "0002": False}, "ended, and not reported"
    assert (stopped.frames, stopped.at_server) == (2, "its project is cancelled there too")
    assert [block.at_server for block in harness.blocks.all()] == [True]


@pytest.mark.usefixtures("four_frames")
def test_one_frame_is_given_back_to_a_server_of_ours_and_its_project_goes_on(harness: ControlHarness) -> None:
    harness.session.endpoints = OURS
    assert harness.cancelled("77", "0002") == ["0002"]
    assert harness.session.steps == []
    assert harness.ended == {"0002": True}


@pytest.mark.usefixtures("four_frames")
def test_a_server_of_ours_that_does_not_answer_learns_it_frame_by_frame(harness: ControlHarness) -> None:
    harness.session.endpoints, harness.session.step_answer = OURS, SILENCE
    assert harness.cancelled("77") == ["0001", "0002"]
    assert all(harness.ended.values())
    assert [block.at_server for block in harness.blocks.all()] == [False]


@pytest.mark.usefixtures("four_frames")
@pytest.mark.parametrize(
    ("status", "reported", "at_server"),
    [
        (ProjectStatus.NOT_NOW, False, "the project's state at the server does not allow it (status 409)"),
        (ProjectStatus.UNKNOWN_PROJECT, True, "the server has no such project (status 404)"),
        (ProjectStatus.NOT_ALLOWED, True, "this account may not manage the server's projects (status 403)"),
    ],
)
def test_what_the_server_says_instead_is_told(
    harness: ControlHarness, status: ProjectStatus, reported: bool, at_server: str
) -> None:
    harness.session.endpoints, harness.session.step_answer = OURS, ProjectAnswer(status=status)
    [stopped] = harness.control.cancel("77", None)
    assert harness.ended == {"0001": reported, "0002": reported}
    assert stopped.at_server == at_server


def test_a_project_that_has_not_begun_is_known_to_its_server(harness: ControlHarness) -> None:
    harness.session.endpoints = OURS
    harness.session.step_answer = ProjectAnswer(status=ProjectStatus.OK, job="105", name="film")
    [stopped] = harness.control.cancel("film", None)
    assert (stopped.job, stopped.frames) == (Job(number="105", name="film"), 0)
    assert harness.session.steps == [ProjectStep(job="film", step="cancel")]
    assert harness.blocks.is_blocked("105", "0001")


@pytest.mark.usefixtures("four_frames")
def test_unblocking_resumes_the_project_where_the_block_had_stopped_it_and_asks_at_once(
    harness: ControlHarness,
) -> None:
    harness.session.endpoints = OURS
    harness.control.cancel("demo", None)
    harness.control.cancel("78", "0101")
    harness.session.steps.clear()
    assert [block.job_id for block in harness.control.unblock("77", None)] == ["77"]
    assert harness.session.steps == [ProjectStep(job="77", step="resume")]
    assert harness.session.asked_now == 1
    assert [block.frame for block in harness.control.unblock("78", None)] == ["0101"]
    assert len(harness.session.steps) == 1


def test_unblocking_what_is_not_blocked_says_what_is(harness: ControlHarness) -> None:
    harness.blocks.block("77", "demo", "no camera", BlockedBy.FARM)
    with pytest.raises(UnknownJob, match=r"blocked are: 77 'demo'$"):
        harness.control.unblock("78", None)
    assert harness.session.asked_now == 0


# Turning away


def test_a_wanted_frame_is_not_touched(harness: ControlHarness) -> None:
    lease = harness.ledger.grant(offer(), KEY)
    assert harness.control.block_of(lease) is None
    assert harness.ledger.get(lease.id).state is LeaseState.GRANTED


def test_a_frame_of_a_blocked_job_is_given_back_and_reported_with_the_reason(harness: ControlHarness) -> None:
    block = harness.blocks.block("77", "demo", "no camera", BlockedBy.FARM)
    lease = harness.ledger.grant(offer("0005"), KEY)
    assert harness.control.block_of(lease) == block
    harness.turn_away(lease)
    assert harness.ended == {"0005": True}
    assert harness.reasons == {"job 77 · demo is blocked: no camera"}
    assert harness.session.steps == []


def test_a_frame_of_a_hopeless_job_fails_with_its_reason_until_the_job_is_unblocked(harness: ControlHarness) -> None:
    harness.blocks.block("77", "demo", "no camera", BlockedBy.FARM, kind=FailureKind.NO_CAMERA.value)
    again = JobBlocks(KeyValueStore(harness.ledger.database), "http://server").load()
    assert [block.kind for block in again.all()] == ["no camera"], "a restart knows it"
    harness.turn_away(harness.ledger.grant(offer("0005"), KEY))
    assert harness.given_up == [("0005", FailureReport(kind=FailureKind.NO_CAMERA, reason="no camera"))]
    assert harness.ended == {}
    harness.control.unblock("demo", None)
    assert harness.unblocked == ["77"]
    assert harness.control.block_of(harness.ledger.grant(offer("0006"), KEY)) is None


def test_a_server_of_ours_that_missed_the_cancel_is_told_with_the_next_offer(harness: ControlHarness) -> None:
    harness.session.endpoints = OURS
    harness.blocks.block("77", "demo", "cancelled", BlockedBy.OPERATOR)
    for frame in ("0005", "0006"):
        harness.turn_away(harness.ledger.grant(offer(frame), KEY))
    assert harness.session.steps == [ProjectStep(job="77", step="cancel")]
    assert [block.at_server for block in harness.blocks.all()] == [True]
    assert harness.ended == {"0005": True, "0006": True}
