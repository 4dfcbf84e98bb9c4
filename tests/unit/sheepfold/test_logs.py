"""Every command's log has one form."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator

import pytest

from sheepfold.logs import log_to_stderr


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


def test_quiet_loggers_only_warn(capsys: pytest.CaptureFixture[str]) -> None:
    log_to_stderr(quiet=["test.chatty"])
    logging.getLogger("test.chatty").info("a request")
    logging.getLogger("test.chatty").warning("a refusal")
    assert [line.split()[-1] for line in capsys.readouterr().err.splitlines()] == ["refusal"]
