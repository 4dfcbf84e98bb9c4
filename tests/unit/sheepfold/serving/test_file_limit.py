"""The limit of open files, in a process of its own."""

from __future__ import annotations

import subprocess
import sys

import pytest


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such limit")
@pytest.mark.parametrize(("soft", "hard", "raised"), [(256, 2048, 2048), (1500, 1500, 1500)])
def test_the_soft_limit_is_raised_as_far_as_the_system_lets_us(soft: int, hard: int, raised: int) -> None:
    code = (
        "import resource; from sheepfold.serving.file_limit import raise_file_limit\n"
        f"resource.setrlimit(resource.RLIMIT_NOFILE, ({soft}, {hard}))\n"
        "print(raise_file_limit(), *resource.getrlimit(resource.RLIMIT_NOFILE))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == [str(raised), str(raised), str(hard)]
