"""Runs the scripts of this folder inside Blender, with the project on Blender's Python path."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

_HERE = Path(__file__).parent
_PROJECT = _HERE.parents[2]


def run_scene_script(blender: str, script: str, folder: Path, *names: str, timeout: float = 100) -> None:
    """Lets the script of that file name build scenes in ``folder``; all of them, or those that are named.

    Fails with the end of Blender's output when the script does.
    """
    # Blender's Python takes no notice of PYTHONPATH without the first option.
    command = [blender, "-b", "--python-use-system-env", "--factory-startup", "--python-exit-code", "1"]
    command += ["-P", str(_HERE / script), "--", str(folder), *names]
    environment = {**os.environ, "PYTHONPATH": str(_PROJECT)}
    built = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=timeout, check=False)
    assert built.returncode == 0, built.stdout[-3000:] + built.stderr[-3000:]
