"""What the lab server can be told, and what it says when that is wrong."""

import pytest
from pydantic import ValidationError

from lab.errors import BadInput
from lab.server.store.renderers import gather_renderers, launcher
from lab.settings import ServerSettings, parse_renderers


@pytest.fixture(autouse=True)
def _only_a_login_in_environment(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    for name in ("LOGIN", "PASSWORD", "PASSWORD_FILE", "RENDERERS", "SERVER_PORT"):
        monkeypatch.delenv(f"SHEEPFOLD_{name}", raising=False)
    monkeypatch.setenv("SHEEPFOLD_LOGIN", "anna")
    monkeypatch.setenv("SHEEPFOLD_PASSWORD", "sheep")


def test_the_environment_comes_before_the_file(monkeypatch, tmp_path):
    (tmp_path / "sheepfold.toml").write_text("server_port = 1\nmax_period_s = 77\nslots = 4\n")
    monkeypatch.setenv("SHEEPFOLD_SERVER_PORT", "2")
    settings = ServerSettings()
    assert (settings.server_port, settings.max_period_s, settings.lease_s) == (2, 77, 137)


def test_the_password_may_be_in_a_file(monkeypatch, tmp_path):
    monkeypatch.delenv("SHEEPFOLD_PASSWORD")
    (tmp_path / "secret").write_text("from a file\n")
    monkeypatch.setenv("SHEEPFOLD_PASSWORD_FILE", str(tmp_path / "secret"))
    settings = ServerSettings()
    assert settings.secret() == "from a file"
    assert "from a file" not in repr(settings)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("SERVER_PORT", "99999"),
        ("MAX_PERIOD_S", "0"),
        ("MIN_VERSION", "new"),
        ("RENDERERS", "amiga=/a.zip"),
        ("SERVER_URL", "ftp://server"),
        ("FAULT_RATE", "2"),
        ("SERVER_MODE", "party"),
        ("CHUNK_MB", "0"),
        ("TEST_FRAMES", "20"),
        ("MAX_UNVALIDATED", "0"),
    ],
)
def test_a_wrong_setting_is_refused(monkeypatch, name, value):
    monkeypatch.setenv(f"SHEEPFOLD_{name}", value)
    with pytest.raises(ValidationError) as refused:
        ServerSettings()
    assert [error["loc"] for error in refused.value.errors()] == [(name.lower(),)]


def test_no_password_or_an_empty_file_is_refused(monkeypatch, tmp_path):
    monkeypatch.delenv("SHEEPFOLD_PASSWORD")
    with pytest.raises(ValidationError, match="SHEEPFOLD_PASSWORD"):
        ServerSettings()
    (tmp_path / "secret").write_text("")
    monkeypatch.setenv("SHEEPFOLD_PASSWORD_FILE", str(tmp_path / "secret"))
    with pytest.raises(ValidationError, match="is empty"):
        ServerSettings()


def test_reading_is_open_on_loopback_only():
    assert ServerSettings(server_host="127.0.0.1").open_to_look
    assert not ServerSettings(server_host="0.0.0.0").open_to_look
    assert ServerSettings(server_host="0.0.0.0", server_open=True).open_to_look


def test_the_times_that_nobody_sets_leave_frames_to_clients_that_beat_every_15_minutes():
    settings = ServerSettings()
    assert settings.lease_s >= 900 + 120
    assert settings.cautions() == ()


@pytest.mark.parametrize(("period_s", "grace_s", "cautions"), [(960, 60, 0), (960, 59, 1), (120, 60, 1), (900, 120, 0)])
def test_times_that_take_frames_from_them_are_told(period_s, grace_s, cautions):
    lines = ServerSettings(max_period_s=period_s, lease_grace_s=grace_s).cautions()
    assert len(lines) == cautions
    assert all("SHEEPFOLD_MAX_PERIOD_S" in line and "900 s" in line and "\n" not in line for line in lines)


def test_a_studio_gives_its_own_renderers(harness, tmp_path):
    path = tmp_path / "blender.zip"
    path.write_bytes(launcher("linux/64bit") + b"")
    given = parse_renderers([f"windows/64bit={path}"])
    assert given == ServerSettings(renderers=f"windows/64bit={path}").renderers
    renderers = gather_renderers(harness.store, given)
    assert set(renderers) == {"windows/64bit", "linux/64bit", "linux/32bit", "mac/64bit"}
    assert renderers["windows/64bit"].path == path


def test_a_renderer_that_is_none_is_refused_by_name(harness, tmp_path):
    (tmp_path / "a.zip").write_bytes(b"no zip")
    for path in (tmp_path / "a.zip", tmp_path / "nowhere.zip"):
        with pytest.raises(BadInput, match="SHEEPFOLD_RENDERERS"):
            gather_renderers(harness.store, {"linux/64bit": path})
