"""A source of archives for each test."""

from __future__ import annotations

import pytest

from tests.support.nodes.archive_cache_harness import CountingSource


@pytest.fixture
def source() -> CountingSource:
    return CountingSource()
