"""The checksums of a release are read by everybody's ``sha256sum``."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from tools.supply_chain import checksums


def release(folder: Path) -> Path:
    """Two files with their sums."""
    (folder / "sheepfold-1.whl").write_bytes(b"wheel")
    (folder / "requirements.lock").write_bytes(b"lock")
    (folder / checksums.NAME).write_text("of an earlier time")
    checksums.main([str(folder)])
    return folder


def test_every_file_but_the_list_itself_has_its_line(tmp_path: Path) -> None:
    lines = (release(tmp_path) / checksums.NAME).read_text().splitlines()
    assert [line.split("  ")[1] for line in lines] == ["requirements.lock", "sheepfold-1.whl"]


@pytest.mark.skipif(not shutil.which("sha256sum"), reason="sha256sum is of Linux")
def test_sha256sum_takes_them_and_sees_a_change(tmp_path: Path) -> None:
    command = ["sha256sum", "--check", "--strict", "--quiet", checksums.NAME]
    folder = release(tmp_path)
    assert subprocess.run(command, cwd=folder, capture_output=True, check=False).returncode == 0
    (folder / "sheepfold-1.whl").write_bytes(b"another")
    assert subprocess.run(command, cwd=folder, capture_output=True, check=False).returncode == 1
