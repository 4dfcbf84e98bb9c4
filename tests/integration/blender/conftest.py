"""What every renderer process needs."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from render_tasks.blender.orphan_guard import OrphanGuard


@pytest.fixture
def guard() -> Iterator[OrphanGuard]:
    guard = OrphanGuard()
    guard.start()
    yield guard
    guard.stop()
