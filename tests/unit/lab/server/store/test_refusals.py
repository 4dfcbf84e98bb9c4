"""Why an upload is refused, in words."""

from __future__ import annotations

import pytest

from lab.server.store.refusals import why_refused
from sheepfold.pictures import Picture


def picture(width: int, height: int) -> Picture:
    return Picture(
        width=width, height=height, channels=3, suffix="png", is_black=False, is_transparent=False, is_empty=False
    )


@pytest.mark.parametrize(
    ("upload", "size", "refusal"),
    [
        (None, (64, 48), "refused (302): what came is no picture"),
        (picture(32, 24), (64, 48), "refused (301): 32 x 24 pixels, not 64 x 48"),
        (picture(64, 48), (64, 48), "refused (301): it is all black, and other frames are not"),
        (picture(64, 48), (None, None), "refused (301): it is all black, and other frames are not"),
    ],
)
def test_a_refusal_says_what_is_wrong(
    upload: Picture | None, size: tuple[int | None, int | None], refusal: str
) -> None:
    assert why_refused(upload, *size) == refusal
