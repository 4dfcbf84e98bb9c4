"""Frame ranges as people write them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lab.errors import BadFrameRange
from lab.frame_range import MAX_FRAME, MAX_FRAMES, frame_number, frame_text, parse_frames


def test_ranges_steps_and_single_frames_are_read():
    assert parse_frames("1-5,9") == (1, 2, 3, 4, 5, 9)
    assert parse_frames("1-10x4") == (1, 5, 9)
    assert parse_frames(" 7 , 3 ") == (3, 7)


def test_each_frame_is_wanted_once_and_in_order():
    assert parse_frames("5,1-3,2-6") == (1, 2, 3, 4, 5, 6)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "no frame is named"),
        ("10-1", "1 comes before 10"),
        ("1-5x0", "a step is at least 1"),
        ("1,,2", "a frame is a number"),
        ("-5", "a frame is a number"),
        ("1-2-3", "a frame is a number"),
        ("seven", "a frame is a number"),
        ("1.5", "a frame is a number"),
        ("١٢", "a frame is a number"),
        (str(MAX_FRAME + 1), "Blender's last frame"),
        (f"0-{MAX_FRAMES}", "more than"),
        ("1," * 6000, "longer than"),
    ],
)
def test_what_cannot_be_read_is_refused_with_the_piece_that_is_wrong(text, reason):
    with pytest.raises(BadFrameRange, match=reason) as refused:
        parse_frames(text)
    assert len(str(refused.value)) < 200


@given(st.integers(0, MAX_FRAME))
def test_a_frame_number_comes_back_from_its_text(number):
    assert frame_number(frame_text(number)) == number


@pytest.mark.parametrize("text", ["7", "00007", "", "-001", "0x07", "００07", "99999999999"])
def test_a_frame_that_is_written_otherwise_is_another_frame(text):
    assert frame_number(text) is None
