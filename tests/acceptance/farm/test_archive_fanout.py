"""One archive for several PCs on cables of their own: few bytes from the coordinator, and nobody waits for the last.

The small version of `benchmarks/lan/archive_fanout.py`, with a real server, a real coordinator and shaped cables.
"""

from __future__ import annotations

import os
import subprocess

import pytest

from benchmarks.lan.archive_fanout import CANNOT_RUN, COORDINATOR_COPIES, TIMES_OF_ALONE, FanoutFigures, main, measure
from benchmarks.lan.network_namespaces import NoNamespaces, check_rights


@pytest.fixture(scope="module")
def figures() -> FanoutFigures:
    try:
        check_rights()
    except NoNamespaces as reason:
        if os.environ.get("CI"):
            pytest.fail(str(reason))
        pytest.skip(str(reason))
    return measure(nodes=4, megabytes=40, mbit=100, limit_s=100)


def test_the_server_sends_an_archive_once(figures: FanoutFigures) -> None:
    assert figures.from_server == figures.size
    assert figures.server_wire < 1.05 * figures.size


def test_the_coordinator_sends_less_than_four_copies_and_less_than_one_for_each(figures: FanoutFigures) -> None:
    assert figures.coordinator_wire < min(COORDINATOR_COPIES, 0.75 * figures.nodes) * figures.size
    assert figures.to_lan >= figures.size


def test_all_have_it_within_twice_the_time_of_one_copy(figures: FanoutFigures) -> None:
    print(figures.table())
    assert figures.alone_s >= 0.9 * figures.line_s, "the cable was shaped"
    assert figures.all_s <= TIMES_OF_ALONE * figures.alone_s
    assert figures.broken() == []


def test_nothing_of_the_lan_is_left(figures: FanoutFigures) -> None:
    left = subprocess.run(["ip", "netns", "list"], capture_output=True, text=True, timeout=10)
    assert figures.run not in left.stdout


def test_without_the_rights_it_says_why(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    monkeypatch.setattr("shutil.which", lambda name: f"/sbin/{name}")
    assert main([]) == CANNOT_RUN
    assert "root" in capsys.readouterr().err
