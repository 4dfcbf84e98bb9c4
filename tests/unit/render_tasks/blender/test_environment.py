"""What of a worker's environment a renderer gets."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from render_tasks.blender.environment import environment, renderer_binary

#: What was found in the environment of a worker on a desktop, and got through a list of what is forbidden.
FOUND = (
    "SSH_AUTH_SOCK", "SSH_AGENT_PID", "DBUS_SESSION_BUS_ADDRESS", "XDG_RUNTIME_DIR", "XAUTHORITY", "DISPLAY",
    "HTTPS_PROXY", "https_proxy", "DATABASE_URL", "PGPASSFILE", "AWS_PROFILE", "GNUPGHOME", "KRB5CCNAME", "PYTHONPATH",
    "LD_PRELOAD", "BASH_ENV", "USER", "LOGNAME", "MAIL", "SHEEPFOLD_FARM_TOKEN", "SHEEPFOLD_PASSWORD_FILE",
    "REDIS_URL", "MY_API_KEY", "GITHUB_TOKEN", "BLENDER_SYSTEM_SCRIPTS", "A_NAME_THAT_NOBODY_THOUGHT_OF",
)  # fmt: skip


@pytest.mark.parametrize("name", FOUND)
def test_what_is_not_on_the_list_stays_with_the_worker(name: str) -> None:
    assert name not in environment(Path("/r"), Path("/s"), "mark", {name: "private"})


def test_language_devices_and_the_path_of_blender_are_passed_on() -> None:
    ours = {"PATH": "/bin", "LC_ALL": "C.UTF-8", "TZ": "UTC", "CUDA_VISIBLE_DEVICES": "1", "SHEEPFOLD_BLENDER": "/b"}
    env = environment(Path("/r"), Path("/s"), "mark", ours)
    assert {name: env[name] for name in ours} == ours
    assert env["SHEEPFOLD_RENDER_MARK"] == "mark"


def test_everything_of_a_user_lies_in_the_scratch_folder() -> None:
    ours = {"HOME": "/home/ada", "TMPDIR": "/home/ada/tmp", "APPDATA": "c", "BLENDER_USER_CONFIG": "/home/ada/config"}
    env = environment(Path("/r"), Path("/s"), "mark", ours)
    assert env["HOME"] == env["APPDATA"] == str(Path("/s"))
    assert env["TMPDIR"] == str(Path("/s/tmp"))
    assert env["BLENDER_USER_CONFIG"] == str(Path("/s/config"))
    assert not [value for value in env.values() if "ada" in value]


@pytest.mark.skipif(sys.platform != "linux", reason="the loader's variable is Linux'")
def test_the_renderers_own_libraries_are_found_first() -> None:
    env = environment(Path("/r"), Path("/s"), "mark", {"LD_LIBRARY_PATH": "/opt/lib"})
    assert env["LD_LIBRARY_PATH"] == "/r/lib:/opt/lib"


def test_the_binary_lies_where_the_archive_of_this_system_has_it() -> None:
    assert renderer_binary(Path("/r"), "linux") == renderer_binary(Path("/r"), "win32") == Path("/r/rend.exe")
    assert renderer_binary(Path("/r"), "darwin") == Path("/r/Blender/blender.app/Contents/MacOS/blender")


def test_the_workers_own_virtual_environment_is_not_on_path(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "prefix", "/opt/farm")
    env = environment(Path("/r"), Path("/s"), "mark", {"PATH": "/opt/farm/bin:/usr/bin:/bin"})
    assert env["PATH"] == "/usr/bin:/bin"
