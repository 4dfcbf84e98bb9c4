"""A project's state, in words."""

from __future__ import annotations

import pytest

from lab.server.store.projects import ProjectState, state_in_words


@pytest.mark.parametrize(
    ("state", "accepted", "failed", "words"),
    [
        (ProjectState.DONE, 3, 0, "done"),
        (ProjectState.DONE, 2, 1, "done with 1 failed"),
        (ProjectState.DONE, 0, 3, "failed"),
        (ProjectState.ACTIVE, 0, 3, "active"),
        (ProjectState.CANCELLED, 1, 1, "cancelled"),
    ],
)
def test_a_project_that_is_done_says_whether_frames_failed(
    state: ProjectState, accepted: int, failed: int, words: str
) -> None:
    assert state_in_words(state, accepted, failed) == words
