"""When a renderer holds more memory than it may."""

from __future__ import annotations

import sys
from collections.abc import Sequence

import pytest

from render_tasks.blender import memory
from render_tasks.blender.memory import TreeMemory, over_limit

LIMIT_KB = 1000
#: Of the counts that the system tells at once: shared pages are in it more than once.
TOO_MUCH = TreeMemory(now_kb=2 * LIMIT_KB)


@pytest.fixture(autouse=True)
def _on_linux(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "linux")


def exact_counts(monkeypatch: pytest.MonkeyPatch, counts: Sequence[int | None]) -> list[int | None]:
    """What exact counts will find, one after the other; returns what is not counted yet."""
    left = list(counts)
    monkeypatch.setattr(memory, "_exact_kb", lambda _pid: left.pop(0))
    return left


def test_what_is_below_the_limit_is_not_counted_exactly(monkeypatch: pytest.MonkeyPatch) -> None:
    left = exact_counts(monkeypatch, [5000])
    assert over_limit(1, TreeMemory(now_kb=LIMIT_KB), LIMIT_KB) == ""
    assert over_limit(1, TOO_MUCH, None) == ""
    assert left == [5000]


def test_a_fork_amid_an_exact_count_ends_no_render(monkeypatch: pytest.MonkeyPatch) -> None:
    assert exact_counts(monkeypatch, [LIMIT_KB + 500, LIMIT_KB - 1])
    assert over_limit(1, TOO_MUCH, LIMIT_KB) == ""


@pytest.mark.parametrize(
    ("counts", "told_gb"), [([1200, 1300], "0.00124"), ([1200, None], "0.00191"), ([None, None], "0.00191")]
)
def test_too_much_twice_ends_it(monkeypatch: pytest.MonkeyPatch, counts: list[int | None], told_gb: str) -> None:
    left = exact_counts(monkeypatch, counts)
    assert f"it held {told_gb} GB" in over_limit(1, TOO_MUCH, LIMIT_KB)
    assert not left
