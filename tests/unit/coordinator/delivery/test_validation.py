"""Which pictures may go to the server; the looking itself is the test's own."""

from __future__ import annotations

import threading
from dataclasses import replace
from pathlib import Path

import pytest

from coordinator.delivery.errors import BrokenPicture
from coordinator.delivery.validation import MAX_JOBS, FrameValidator, Verdict
from coordinator.leases.lease import Delivery, HeldBack, Lease
from sheepfold.errors import NotAPicture
from sheepfold.pictures import Picture
from tests.support.coordinator.builders import offer

USUAL = (1920, 1080)


def picture(size: tuple[int, int] = USUAL, *, black: bool = False, transparent: bool = False) -> Picture:
    return Picture(
        width=size[0],
        height=size[1],
        channels=4,
        suffix="png",
        is_black=black,
        is_transparent=transparent,
        is_empty=black or transparent,
    )


BLACK, TRANSPARENT = picture(black=True), picture(transparent=True)
BELIEVED = Verdict(is_empty=True, is_confirmed=True)


def lease_of(
    frame: str, pc: str = "n1", held_back_by: str | None = None, job: str = "77", revision: str = "3"
) -> Lease:
    delivery = Delivery(picture="a.1.png", size=1, render_s=1, memory_kb=1, cores=1, is_empty=True)
    return Lease(
        id="a",
        session_key="s",
        offer=offer(frame, job_id=job, revision=revision),
        node_id=pc,
        held_back=HeldBack(node_id=held_back_by, delivery=delivery) if held_back_by else None,
    )


class ValidatorHarness:
    """A judge who is shown pictures instead of files."""

    def __init__(self) -> None:
        self.shown: Picture | None = None
        #: Frames whose earlier picture was held back wrongly.
        self.absolved: list[str] = []
        self.quarantined: set[str] = set()
        self.judge = FrameValidator(
            self._inspect,
            lambda lease: self.absolved.append(lease.offer.frame),
            lambda node_id: node_id not in self.quarantined,
            self._recall,
        )
        #: What the ledger knows of every job: frame → whether its picture was empty and confirmed.
        self.delivered: dict[str, bool] = {}
        self.recalls = 0

    def _recall(self, _lease: Lease) -> list[tuple[str, Delivery]]:
        self.recalls += 1
        delivery = Delivery(picture="a.1.png", size=1, render_s=1, memory_kb=1, cores=1)
        return [
            (frame, replace(delivery, is_empty=empty, is_confirmed=empty)) for frame, empty in self.delivered.items()
        ]

    def _inspect(self, path: Path) -> Picture:
        if self.shown is None:
            raise NotAPicture("the file is cut off")
        return self.shown

    def show(self, frame: str, shown: Picture | None = None, **who: str) -> Verdict:
        self.shown = shown
        return self.judge.validate(lease_of(frame, **who), Path("frame.png"))

    def passes(self, frame: str, shown: Picture | None = None, **who: str) -> bool:
        try:
            return not self.show(frame, shown or picture(), **who).doubt
        except BrokenPicture:
            return False


@pytest.fixture
def harness() -> ValidatorHarness:
    return ValidatorHarness()


def test_what_cannot_be_read_is_broken_and_says_why(harness: ValidatorHarness) -> None:
    with pytest.raises(BrokenPicture, match="cut off"):
        harness.show("0001", None)


def test_a_picture_of_another_size_stands_out(harness: ValidatorHarness) -> None:
    assert harness.passes("0001")
    with pytest.raises(BrokenPicture, match=r"960x540.*1920x1080"):
        harness.show("0002", picture((960, 540)), pc="n2")
    assert harness.passes("0002", pc="n2")


def test_the_size_most_pcs_agree_on_is_the_jobs_even_when_a_wrong_one_came_first(harness: ValidatorHarness) -> None:
    wrong = picture((960, 540))
    assert harness.passes("0001", wrong, pc="ill")
    assert harness.passes("0002", wrong, pc="ill"), "nobody has said otherwise yet"
    harness.passes("0003", pc="n2")
    assert harness.passes("0004", pc="n3"), "two against one"
    assert not harness.passes("0005", wrong, pc="ill")
    assert harness.passes("0006", pc="n2")


def test_one_pc_that_delivers_often_has_one_voice(harness: ValidatorHarness) -> None:
    assert harness.passes("0001")
    assert harness.passes("0002", pc="n2")
    assert not any(harness.passes(f"{number:04}", picture((1, 1)), pc="ill") for number in range(3, 30))
    assert harness.passes("0030")


def test_each_job_and_each_revision_has_its_own_size(harness: ValidatorHarness) -> None:
    other = picture((100, 100))
    assert harness.passes("0001")
    assert harness.passes("0001", other, job="78")
    assert harness.passes("0001", other, revision="4")
    assert not harness.passes("0002", other)


@pytest.mark.parametrize(("empty", "what"), [(BLACK, "black"), (TRANSPARENT, "transparent")])
def test_an_empty_picture_between_others_stands_out(harness: ValidatorHarness, empty: Picture, what: str) -> None:
    assert harness.passes("0001")
    assert harness.passes("0009")
    assert f"wholly {what}" in harness.show("0005", empty).doubt
    assert harness.passes("0005"), "rendered elsewhere it is not empty"


def test_a_job_that_is_black_throughout_is_no_such_case(harness: ValidatorHarness) -> None:
    assert all(harness.passes(f"{number:04}", BLACK) for number in (5, 1, 9, 3, 4))


def test_a_fade_to_black_that_has_begun_goes_on(harness: ValidatorHarness) -> None:
    assert harness.passes("0020", BLACK), "nothing is known of its neighbours"
    assert harness.passes("0010")
    assert harness.passes("0019", BLACK)
    assert harness.passes("0021", BLACK)
    assert not harness.passes("0009", BLACK), "this one is on the other side of the light"


def test_only_the_nearest_frames_are_neighbours(harness: ValidatorHarness) -> None:
    assert harness.show("0100", BLACK) == Verdict(is_empty=True), "there was nothing to compare it with"
    assert harness.passes("0050")
    assert harness.passes("0060")
    assert not harness.passes("0055", BLACK)


def test_a_frame_is_not_its_own_neighbour(harness: ValidatorHarness) -> None:
    assert harness.passes("0005")
    assert harness.passes("0005", BLACK), "rendered again; nothing else is known"
    assert harness.passes("0006", BLACK)


@pytest.mark.parametrize("second", ["n2", "n1"])
def test_a_black_frame_is_believed_when_it_was_rendered_twice_and_nobody_was_wrong(
    harness: ValidatorHarness, second: str
) -> None:
    assert harness.passes("0049")
    assert harness.passes("0051")
    assert harness.show("0050", BLACK).doubt
    assert harness.show("0050", BLACK, pc=second, held_back_by="n1") == BELIEVED
    assert harness.absolved == ["0050"]
    assert harness.show("0050", BLACK) == BELIEVED, "the server wanted it once more"


def test_a_film_that_ends_in_black_costs_one_second_render(harness: ValidatorHarness) -> None:
    assert harness.passes("0049")
    assert harness.show("0050", BLACK).doubt
    assert harness.show("0050", BLACK, held_back_by="n1") == BELIEVED
    assert all(harness.show(f"{number:04}", BLACK) == BELIEVED for number in range(51, 60))


def test_a_second_picture_that_shows_something_is_the_right_one(harness: ValidatorHarness) -> None:
    assert harness.passes("0049")
    assert harness.show("0050", BLACK, pc="ill").doubt
    assert harness.show("0050", picture(), pc="n2", held_back_by="ill") == Verdict()
    assert harness.absolved == []
    assert harness.show("0051", BLACK, pc="ill").doubt, "a black frame that was wrong begins no fade"


def test_what_was_held_back_may_go_once_a_frame_next_to_it_is_believed(harness: ValidatorHarness) -> None:
    assert harness.passes("0049")
    for frame in ("0050", "0051", "0053"):
        assert harness.show(frame, BLACK).doubt
        assert not harness.judge.vouches_for(lease_of(frame, held_back_by="n1"))
    assert harness.show("0050", BLACK, held_back_by="n1") == BELIEVED
    assert not harness.judge.vouches_for(lease_of("0051")), "of this one nothing was held back"
    assert harness.judge.vouches_for(lease_of("0051", held_back_by="n1"))
    assert harness.judge.vouches_for(lease_of("0053", held_back_by="n1")), "the one before it that arrived is black"
    assert harness.passes("0054")
    assert not harness.judge.vouches_for(lease_of("0055", held_back_by="n1"))


def test_a_pc_that_was_quarantined_has_to_be_confirmed_by_another(harness: ValidatorHarness) -> None:
    assert harness.passes("0049")
    harness.quarantined.add("ill")
    assert harness.show("0050", BLACK, pc="n2", held_back_by="n1") == BELIEVED
    assert not harness.judge.vouches_for(lease_of("0051", held_back_by="ill"))


def test_a_pc_is_absolved_when_another_delivers_what_it_was_held_back_for(harness: ValidatorHarness) -> None:
    wrong = picture((960, 540))
    assert harness.passes("0001", wrong, pc="ill")
    assert not harness.passes("0002", pc="n2"), "outvoted by the one that came first"
    assert harness.passes("0002", pc="n3")
    assert harness.absolved == ["0002"]
    assert not harness.passes("0003", wrong, pc="ill")
    assert harness.passes("0003", pc="n2")
    assert harness.absolved == ["0002"], "the ill one was held back rightly"


def test_nobody_is_absolved_by_himself(harness: ValidatorHarness) -> None:
    assert harness.passes("0001", picture((960, 540)), pc="ill")
    assert not harness.passes("0002", pc="n2")
    assert harness.passes("0004", pc="n3") is True
    assert harness.passes("0002", pc="n2")
    assert harness.absolved == []


def test_a_frame_whose_name_is_no_number_has_no_neighbours(harness: ValidatorHarness) -> None:
    assert harness.passes("0001")
    assert harness.passes("cover", BLACK)
    assert not harness.passes("cover", picture((1, 1)), pc="n2"), "its size is compared all the same"


def test_after_a_restart_the_frames_next_to_an_empty_one_are_recalled_once(harness: ValidatorHarness) -> None:
    harness.delivered = {"0001": False, "0002": False, "0008": True, "cover": False}
    assert harness.passes("0004")
    assert harness.recalls == 0, "nobody asked"
    assert harness.show("0003", BLACK).doubt, "between two that show something"
    assert harness.show("0009", BLACK) == BELIEVED, "the film ended in black before"
    assert harness.show("0008", BLACK) == BELIEVED
    assert harness.recalls == 1


def test_what_arrived_since_is_not_recalled(harness: ValidatorHarness) -> None:
    harness.delivered = {"0001": True}
    assert harness.passes("0001")
    assert harness.show("0002", BLACK).doubt


def test_a_picture_that_was_held_back_teaches_nothing_about_its_neighbours(harness: ValidatorHarness) -> None:
    assert harness.passes("0001")
    assert not harness.passes("0002", BLACK)
    assert not harness.passes("0003", BLACK)


def test_a_second_picture_of_another_size_is_broken_all_the_same(harness: ValidatorHarness) -> None:
    assert harness.passes("0001")
    with pytest.raises(BrokenPicture, match="1x1"):
        harness.show("0002", picture((1, 1), black=True), pc="n2", held_back_by="n1")


def test_only_the_jobs_worked_on_last_are_remembered(harness: ValidatorHarness) -> None:
    assert harness.passes("0001", job="first")
    assert harness.passes("0001", job="kept")
    for number in range(MAX_JOBS - 1):
        assert harness.passes("0001", job=f"job {number}")
        harness.passes("0002", job="kept")
    assert harness.passes("0002", picture((1, 1)), job="first"), "forgotten, so it is learned again"
    assert not harness.passes("0003", picture((1, 1)), job="kept")


def test_pictures_of_many_pcs_are_judged_side_by_side(harness: ValidatorHarness) -> None:
    judge = FrameValidator(lambda _path: picture(), lambda _lease: None)
    errors: list[BaseException] = []

    def deliver(pc: int) -> None:
        try:
            for number in range(100):
                lease = Lease(id="a", session_key="s", offer=offer(str(number * 8 + pc)), node_id=f"n{pc}")
                judge.validate(lease, Path("x"))
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=deliver, args=(pc,)) for pc in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert not errors
