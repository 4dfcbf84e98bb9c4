"""Durations and sizes as people read them."""

from __future__ import annotations

import pytest

from sheepfold.units import bytes_text, duration_text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (-3, "0 s"), (0.4, "0 s"), (59.4, "59 s"), (59.6, "1 min"), (83, "1 min 23 s"), (600, "10 min"),
        (3569, "59 min"), (3600, "1 h"), (3900, "1 h 5 min"), (86_390, "1 d"), (86_400 * 3 + 7200, "3 d 2 h"),
    ],
)  # fmt: skip
def test_a_duration_has_at_most_two_units(seconds: float, text: str) -> None:
    assert duration_text(seconds) == text


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0 B"), (999, "999 B"), (1000, "1.0 kB"), (1536, "1.5 kB"), (101_582, "99 kB"), (257 * 1024**2, "257 MB"),
        (22 * 1024**3, "22 GB"), (1023 * 1024**3, "1.0 TB"), (5000 * 1024**4, "5000 TB"),
    ],
)  # fmt: skip
def test_a_size_has_its_largest_unit(count: float, text: str) -> None:
    assert bytes_text(count) == text
