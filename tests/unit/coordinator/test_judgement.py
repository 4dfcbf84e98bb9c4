"""Which pictures may go to the server; the looking itself is the test's own."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest
from farm_parts import offer

from coordinator.inspection import NotAPicture, Picture
from coordinator.judgement import MAX_JOBS, BrokenPicture, Judge
from coordinator.leases import Lease

USUAL = (1920, 1080)


def picture(size: tuple[int, int] = USUAL, *, black: bool = False, transparent: bool = False) -> Picture:
    return Picture(width=size[0], height=size[1], channels=4, format="png", is_black=black, is_transparent=transparent)


BLACK, TRANSPARENT = picture(black=True), picture(transparent=True)


class Bench:
    """A judge who is shown pictures instead of files."""

    def __init__(self) -> None:
        self.shown: Picture | None = None
        #: Frames whose earlier picture was held back wrongly.
        self.absolved: list[str] = []
        self.judge = Judge(self._inspect, lambda lease: self.absolved.append(lease.offer.frame))

    def _inspect(self, path: Path) -> Picture:
        if self.shown is None:
            raise NotAPicture("the file is cut off")
        return self.shown

    def show(
        self, frame: str, shown: Picture | None = None, *, pc: str = "n1", job: str = "77", rev: str = "3"
    ) -> None:
        self.shown = shown
        lease = Lease(id="a", session_key="s", offer=offer(frame, job_id=job, revision=rev), node_id=pc)
        self.judge.judge(lease, Path("frame.png"))

    def passes(self, frame: str, shown: Picture | None = None, **who: str) -> bool:
        try:
            self.show(frame, shown or picture(), **who)
        except BrokenPicture:
            return False
        return True


@pytest.fixture
def bench() -> Bench:
    return Bench()


def test_what_cannot_be_read_is_broken_and_says_why(bench: Bench) -> None:
    with pytest.raises(BrokenPicture, match="cut off"):
        bench.show("0001", None)


def test_a_picture_of_another_size_stands_out(bench: Bench) -> None:
    assert bench.passes("0001")
    with pytest.raises(BrokenPicture, match=r"960x540.*1920x1080"):
        bench.show("0002", picture((960, 540)), pc="n2")
    assert bench.passes("0002", pc="n2")


def test_the_size_most_pcs_agree_on_is_the_jobs_even_when_a_wrong_one_came_first(bench: Bench) -> None:
    wrong = picture((960, 540))
    assert bench.passes("0001", wrong, pc="ill")
    assert bench.passes("0002", wrong, pc="ill"), "nobody has said otherwise yet"
    bench.passes("0003", pc="n2")
    assert bench.passes("0004", pc="n3"), "two against one"
    assert not bench.passes("0005", wrong, pc="ill")
    assert bench.passes("0006", pc="n2")


def test_one_pc_that_delivers_often_has_one_voice(bench: Bench) -> None:
    assert bench.passes("0001")
    assert bench.passes("0002", pc="n2")
    assert not any(bench.passes(f"{number:04}", picture((1, 1)), pc="ill") for number in range(3, 30))
    assert bench.passes("0030")


def test_each_job_and_each_revision_has_its_own_size(bench: Bench) -> None:
    other = picture((100, 100))
    assert bench.passes("0001")
    assert bench.passes("0001", other, job="78")
    assert bench.passes("0001", other, rev="4")
    assert not bench.passes("0002", other)


@pytest.mark.parametrize(("empty", "what"), [(BLACK, "black"), (TRANSPARENT, "transparent")])
def test_an_empty_picture_between_others_stands_out(bench: Bench, empty: Picture, what: str) -> None:
    assert bench.passes("0001")
    assert bench.passes("0009")
    with pytest.raises(BrokenPicture, match=f"wholly {what}"):
        bench.show("0005", empty)
    assert bench.passes("0005"), "rendered elsewhere it is not empty"


def test_a_job_that_is_black_throughout_is_no_such_case(bench: Bench) -> None:
    assert all(bench.passes(f"{number:04}", BLACK) for number in (5, 1, 9, 3, 4))


def test_a_fade_to_black_that_has_begun_goes_on(bench: Bench) -> None:
    assert bench.passes("0020", BLACK), "nothing is known of its neighbours"
    assert bench.passes("0010")
    assert bench.passes("0019", BLACK)
    assert bench.passes("0021", BLACK)
    assert not bench.passes("0009", BLACK), "this one is on the other side of the light"


def test_only_the_nearest_frames_are_neighbours(bench: Bench) -> None:
    assert bench.passes("0100", BLACK)
    assert bench.passes("0050")
    assert bench.passes("0060")
    assert not bench.passes("0055", BLACK)


def test_a_frame_is_not_its_own_neighbour(bench: Bench) -> None:
    assert bench.passes("0005")
    assert bench.passes("0005", BLACK), "rendered again; nothing else is known"
    assert bench.passes("0006", BLACK)


def test_a_fade_to_black_begins_with_the_first_frame_that_two_pcs_deliver_black(bench: Bench) -> None:
    assert bench.passes("0049")
    assert not bench.passes("0050", BLACK, pc="n1")
    assert not bench.passes("0050", BLACK, pc="n1"), "the same PC proves nothing"
    assert not bench.passes("0051", BLACK, pc="n1")
    assert not bench.passes("0050", BLACK, pc="n2"), "it stands out, so it stays here"
    assert all(bench.passes(f"{number:04}", BLACK, pc="n1") for number in range(51, 60))


def test_two_pcs_that_differ_begin_no_fade(bench: Bench) -> None:
    assert bench.passes("0049")
    assert not bench.passes("0050", BLACK, pc="n1")
    assert not bench.passes("0050", picture((1, 1), black=True), pc="n2")
    assert not bench.passes("0051", BLACK, pc="n1")


def test_a_pc_is_absolved_when_another_delivers_what_it_was_held_back_for(bench: Bench) -> None:
    wrong = picture((960, 540))
    assert bench.passes("0001", wrong, pc="ill")
    assert not bench.passes("0002", pc="n2"), "outvoted by the one that came first"
    assert bench.passes("0002", pc="n3")
    assert bench.absolved == ["0002"]
    assert not bench.passes("0003", wrong, pc="ill")
    assert bench.passes("0003", pc="n2")
    assert bench.absolved == ["0002"], "the ill one was held back rightly"


def test_nobody_is_absolved_by_himself(bench: Bench) -> None:
    assert bench.passes("0001", picture((960, 540)), pc="ill")
    assert not bench.passes("0002", pc="n2")
    assert bench.passes("0004", pc="n3") is True
    assert bench.passes("0002", pc="n2")
    assert bench.absolved == []


def test_a_frame_whose_name_is_no_number_has_no_neighbours(bench: Bench) -> None:
    assert bench.passes("0001")
    assert bench.passes("cover", BLACK)
    assert not bench.passes("cover", picture((1, 1)), pc="n2"), "its size is compared all the same"


def test_a_picture_that_was_held_back_teaches_nothing_about_its_neighbours(bench: Bench) -> None:
    assert bench.passes("0001")
    assert not bench.passes("0002", BLACK)
    assert not bench.passes("0003", BLACK)


def test_only_the_jobs_worked_on_last_are_remembered(bench: Bench) -> None:
    assert bench.passes("0001", job="first")
    assert bench.passes("0001", job="kept")
    for number in range(MAX_JOBS - 1):
        assert bench.passes("0001", job=f"job {number}")
        bench.passes("0002", job="kept")
    assert bench.passes("0002", picture((1, 1)), job="first"), "forgotten, so it is learned again"
    assert not bench.passes("0003", picture((1, 1)), job="kept")


def test_pictures_of_many_pcs_are_judged_side_by_side(bench: Bench) -> None:
    judge = Judge(lambda _path: picture(), lambda _lease: None)
    errors: list[BaseException] = []

    def deliver(pc: int) -> None:
        try:
            for number in range(100):
                lease = Lease(id="a", session_key="s", offer=offer(str(number * 8 + pc)), node_id=f"n{pc}")
                judge.judge(lease, Path("x"))
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=deliver, args=(pc,)) for pc in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert not errors
