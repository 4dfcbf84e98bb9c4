"""Every command's log has one form."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator

import pytest

from sheepfold.logs import log_to_stderr, printable_lines


@pytest.fixture(autouse=True)
def _logging_as_before() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    root.handlers.clear()
    yield
    root.handlers[:], root.level = handlers, level


def test_a_line_has_time_level_module_and_text(capsys: pytest.CaptureFixture[str]) -> None:
    log_to_stderr()
    logging.getLogger("farm.node").info("joined")
    assert re.fullmatch(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3} INFO    farm\.node: joined\n", capsys.readouterr().err)


FORGED = "pc-1\n2026-11-27 04:00:00,000 CRITICAL coordinator.app: the account is banned"


@pytest.mark.parametrize("ending", ["\n", "\r\n", "\r", "\v", "\f", "\x1c", "\x85", "\u2028", "\u2029"])
def test_a_name_with_a_line_end_begins_no_line(capsys: pytest.CaptureFixture[str], ending: str) -> None:
    log_to_stderr()
    logging.getLogger("farm.node").info("%s joined", FORGED.replace("\n", ending))
    (line,) = capsys.readouterr().err.splitlines()
    assert " INFO    farm.node: pc-1\\" in line
    assert line.endswith("the account is banned joined")


@pytest.mark.parametrize("text", ["\x1b[2J\x1b]0;owned\x07", "\u202egnp.exe", "\x00", "\udce4", "a\x08b", "\x9b31m"])
def test_what_would_do_something_to_a_terminal_is_written_out(capsys: pytest.CaptureFixture[str], text: str) -> None:
    log_to_stderr()
    logging.getLogger("farm").warning("Blender says: %s", text)
    assert capsys.readouterr().err.rstrip("\n").isprintable()


def test_a_traceback_follows_behind_a_bar_and_forges_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    log_to_stderr()
    try:
        raise ValueError(FORGED)
    except ValueError:
        logging.getLogger("farm").exception("an attempt met an error of ours")
    first, *rest = capsys.readouterr().err.splitlines()
    assert first.endswith("farm: an attempt met an error of ours")
    assert all(line.startswith("    | ") for line in rest)
    assert rest[-1].startswith("    | 2026-11-27 04:00:00,000 CRITICAL")


def test_other_alphabets_stay_as_they_are(capsys: pytest.CaptureFixture[str]) -> None:
    log_to_stderr()
    logging.getLogger("farm").info("frame 0012 · 木目 é")
    assert capsys.readouterr().err.endswith("frame 0012 · 木目 é\n")


def test_a_text_of_several_lines_keeps_its_lines_and_tabs() -> None:
    assert printable_lines("a\tb\r\n\x1b[31mred\n") == "a\tb\n\\x1b[31mred"


def test_quiet_loggers_only_warn(capsys: pytest.CaptureFixture[str]) -> None:
    log_to_stderr(quiet=["test.chatty"])
    logging.getLogger("test.chatty").info("a request")
    logging.getLogger("test.chatty").warning("a refusal")
    assert [line.split()[-1] for line in capsys.readouterr().err.splitlines()] == ["refusal"]
