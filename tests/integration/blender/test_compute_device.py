"""The function that clients since 2017 call at the end of the server's script, in a real Blender."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from lab.server.protocol.render_script import script_for

TOLD = """
preferences = bpy.context.preferences.addons['cycles'].preferences
print('TOLD', preferences.compute_device_type, bpy.context.scene.cycles.device)
"""


def printed_by_blender(blender: str, folder: Path, call: str, *, use_gpu: bool) -> list[str]:
    script = folder / "script.py"
    script.write_text(script_for(use_gpu=use_gpu) + "\n" + call + "\n" + TOLD)
    argv = [blender, "-b", "--factory-startup", "-noaudio", "--python-exit-code", "7", "-P", str(script)]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=110, check=False)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    [line] = [line for line in done.stdout.splitlines() if line.startswith("TOLD")]
    return line.split()[1:]


@pytest.mark.blender
@pytest.mark.parametrize(
    ("call", "use_gpu", "expected"),
    [
        ('sheepit_set_compute_device("NONE", "CPU", "CPU")', False, ["NONE", "CPU"]),
        ('sheepit_set_compute_device("NONE", "CPU", "CPU")', True, ["NONE", "CPU"]),
        ('sheepit_set_compute_device("GOAT", "GPU", "GOAT_0")', True, ["NONE", "CPU"]),
        ('bpy.context.scene.cycles.device = "GPU"\nsheepit_set_compute_device("NONE", "CPU", "x")', False,
         ["NONE", "CPU"]),
    ],
)  # fmt: skip
def test_clients_set_the_device_by_the_servers_own_function(blender, tmp_path, call, use_gpu, expected):
    assert printed_by_blender(blender, tmp_path, call, use_gpu=use_gpu) == expected


@pytest.mark.blender
def test_a_gpu_of_a_kind_this_blender_knows_is_chosen_though_none_is_here(blender, tmp_path):
    script = tmp_path / "kinds.py"
    script.write_text(
        "import bpy\n"
        "preferences = bpy.context.preferences.addons['cycles'].preferences\n"
        "print('KINDS', [kind[0] for kind in preferences.get_device_types(bpy.context)])\n"
    )
    argv = [blender, "-b", "--factory-startup", "-noaudio", "-P", str(script)]
    shown = subprocess.run(argv, capture_output=True, text=True, timeout=110, check=True).stdout
    known = [kind for kind in ("CUDA", "OPTIX", "HIP", "ONEAPI") if f"'{kind}'" in shown]
    if not known:
        pytest.skip("this Blender was built without any kind of GPU")
    call = f'sheepit_set_compute_device("{known[0]}", "GPU", "{known[0]}_0")'
    assert printed_by_blender(blender, tmp_path, call, use_gpu=True) == [known[0], "GPU"]
