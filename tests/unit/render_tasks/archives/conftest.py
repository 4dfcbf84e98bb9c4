"""A source of archives for each test."""

from __future__ import annotations

import pytest

from tests.support.nodes.archive_cache_harness import Source


@pytest.fixture
def source() -> Source:
    return Source()
