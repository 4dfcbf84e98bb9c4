"""The coordinator in each of its dialects, at our own server: real processes, scripted renders."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.farm.faulty_farm import FaultyFarm

FRAMES = 6


@pytest.mark.parametrize("year", ["2015", "2017", "2020", "2022"])
def test_every_dialect_renders_signs_in_again_by_key_and_logs_out(tmp_path: Path, year: str) -> None:
    farm = FaultyFarm(tmp_path, environment={"SHEEPFOLD_DIALECT": year})
    try:
        farm.begin("pc-01")
        first = farm.submit(f"1-{FRAMES}", seconds=0.05)
        farm.wait_until_accepted(first, FRAMES)
        farm.fault("request-job", "status:202")
        second = farm.submit("1-2", seconds=0.05)
        farm.wait_until_accepted(second, 2)
        accounting = farm.accounting()
        assert (accounting["accepted"], accounting["errors"]) == (FRAMES + 2, 0)
        log = farm.log_of("coordinator").read_text(encoding="utf-8")
        assert farm.password not in log
        assert "no longer takes its public key" not in log
    finally:
        farm.end()
