"""The worker's settings and the folder it lives in."""

from __future__ import annotations

import io
import os
import uuid
from pathlib import Path

import pytest
from pydantic import ValidationError

from render_tasks.errors import WorkDirTaken
from render_tasks.orders.outbox import Outbox, Parcel
from render_tasks.settings import SandboxChoice, WorkerSettings
from render_tasks.work_dir import WorkDir
from sheepfold.contract.api_messages import FrameReport
from sheepfold.contract.presence import Compute


@pytest.fixture(autouse=True)
def _no_settings_in_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    names = "COORDINATOR_URL FARM_TOKEN NODE_NAME WORK_DIR SLOTS COMPUTE CORES CACHE_GB MEMORY_GB TAGS"
    for name in names.split():
        monkeypatch.delenv(f"SHEEPFOLD_{name}", raising=False)
    monkeypatch.chdir(tmp_path)


def test_the_environment_comes_before_the_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "sheepfold.toml").write_text(
        'coordinator_url = "http://farm:8420/"\nfarm_token = "abc"\nslots = 4\nnode_name = "pc-01"\nserver_url = "x"\n'
    )
    monkeypatch.setenv("SHEEPFOLD_SLOTS", "2")
    monkeypatch.setenv("SHEEPFOLD_COMPUTE", "both")
    settings = WorkerSettings()  # type: ignore[call-arg]
    assert (settings.slots, settings.node_name, settings.compute) == (2, "pc-01", Compute.BOTH)
    assert settings.coordinator_url == "http://farm:8420"
    assert "abc" not in repr(settings)


@pytest.mark.parametrize(
    ("name", "value"),
    [("COORDINATOR_URL", "farm:8420"), ("COORDINATOR_URL", "http://"), ("FARM_TOKEN", " "), ("FARM_TOKEN", "töken"),
     ("NODE_NAME", "a b"), ("NODE_NAME", "../x"), ("SLOTS", "0"), ("SLOTS", "many"),
     ("COMPUTE", "tpu"), ("CORES", "0"), ("MEMORY_GB", "0"), ("MEMORY_GB", "much"), ("TAGS", "fast, zu schnell"),
     ("TAGS", ",".join(f"t{number}" for number in range(33)))],
)  # fmt: skip
def test_a_wrong_setting_names_itself_and_not_its_value(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    monkeypatch.setenv("SHEEPFOLD_COORDINATOR_URL", "http://farm:8420")
    monkeypatch.setenv("SHEEPFOLD_FARM_TOKEN", "abc")
    monkeypatch.setenv(f"SHEEPFOLD_{name}", value)
    with pytest.raises(ValidationError) as wrong:
        WorkerSettings()  # type: ignore[call-arg]
    assert {error["loc"][0] for error in wrong.value.errors()} == {name.lower()}
    assert f"input_value={value!r}" not in str(wrong.value)


def test_tags_are_words_with_commas_between_each_of_them_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "sheepfold.toml").write_text(
        'coordinator_url = "http://farm:8420/"\nfarm_token = "abc"\ntags = ["slow", "old-2"]\nmemory_gb = 6\n'
    )
    settings = WorkerSettings()  # type: ignore[call-arg]
    assert (settings.tags, settings.memory_gb) == (("slow", "old-2"), 6)
    monkeypatch.setenv("SHEEPFOLD_TAGS", " fast,GPU_24g , fast,")
    assert WorkerSettings().tags == ("fast", "GPU_24g")  # type: ignore[call-arg]
    monkeypatch.setenv("SHEEPFOLD_TAGS", "")
    assert WorkerSettings().tags == ()  # type: ignore[call-arg]


def test_address_and_token_are_needed() -> None:
    with pytest.raises(ValidationError) as wrong:
        WorkerSettings()  # type: ignore[call-arg]
    assert {error["loc"][0] for error in wrong.value.errors()} == {"coordinator_url", "farm_token"}


def test_a_folder_is_one_node_for_good_and_takes_one_worker_at_a_time(tmp_path: Path) -> None:
    folder = WorkDir(tmp_path / "work")
    uuid.UUID(folder.node_id)
    with pytest.raises(WorkDirTaken):
        WorkDir(tmp_path / "work")
    (folder.scratch / "left").touch()
    folder.close()
    again = WorkDir(tmp_path / "work")
    assert again.node_id == folder.node_id
    assert not any(again.scratch.iterdir())
    again.close()


def parcel(lease_id: str, name: str = "frame_0001.png") -> Parcel:
    report = FrameReport(name=name, md5="0" * 32, render_s=1, memory_kb=1, cores=1)
    return Parcel(lease_id=lease_id, attempt=1, job_name="demo", frame="0001", report=report)


def test_a_kept_frame_is_there_after_a_restart_and_goes_when_it_is_discarded(tmp_path: Path) -> None:
    picture = tmp_path / "attempt" / "out" / "frame_0001.png"
    picture.parent.mkdir(parents=True)
    picture.write_bytes(b"picture")
    Outbox(tmp_path / "out").keep(picture, lambda _taken: parcel("a"))
    again = Outbox(tmp_path / "out")
    assert again.parcels() == [parcel("a")]
    assert again.picture(parcel("a")).read_bytes() == b"picture"
    again.discard(parcel("a"))
    assert again.parcels() == []


def test_what_a_killed_worker_half_wrote_is_no_frame(tmp_path: Path) -> None:
    (tmp_path / ".new-abc").mkdir()
    (tmp_path / "a.1").mkdir()
    (tmp_path / "a.1" / "delivery.json").write_text("{")
    assert Outbox(tmp_path).parcels() == []
    assert not any(tmp_path.iterdir())


def test_a_frame_that_cannot_be_kept_leaves_nothing(tmp_path: Path) -> None:
    outbox = Outbox(tmp_path / "out")
    with pytest.raises(OSError, match="No such file"):
        outbox.keep(tmp_path / "missing" / "out" / "frame_0001.png", lambda _taken: parcel("a"))
    assert not any((tmp_path / "out").iterdir())


def test_the_token_may_stand_in_a_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "token").write_text("from-a-file\n")
    monkeypatch.setenv("SHEEPFOLD_COORDINATOR_URL", "http://127.0.0.1:1")
    monkeypatch.delenv("SHEEPFOLD_FARM_TOKEN", raising=False)
    monkeypatch.setenv("SHEEPFOLD_FARM_TOKEN_FILE", str(tmp_path / "token"))
    assert WorkerSettings().farm_token.get_secret_value() == "from-a-file"  # type: ignore[call-arg]
    monkeypatch.setenv("SHEEPFOLD_FARM_TOKEN", "from-the-environment")
    assert WorkerSettings().farm_token.get_secret_value() == "from-the-environment"  # type: ignore[call-arg]


def test_the_token_may_come_on_standard_input(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SHEEPFOLD_COORDINATOR_URL", "http://127.0.0.1:1")
    monkeypatch.delenv("SHEEPFOLD_FARM_TOKEN", raising=False)
    monkeypatch.setenv("SHEEPFOLD_FARM_TOKEN_FILE", "-")
    monkeypatch.setattr("sys.stdin", io.StringIO("from-a-pipe\n"))
    assert WorkerSettings().farm_token.get_secret_value() == "from-a-pipe"  # type: ignore[call-arg]


def test_a_sandbox_is_required_and_root_is_not_allowed_unless_a_person_says_so(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("SHEEPFOLD_COORDINATOR_URL", "http://127.0.0.1:1")
    monkeypatch.setenv("SHEEPFOLD_FARM_TOKEN", "t")
    for name in ("SANDBOX", "ALLOW_ROOT", "SANDBOX_READS"):
        monkeypatch.delenv(f"SHEEPFOLD_{name}", raising=False)
    assert WorkerSettings().sandbox is SandboxChoice.REQUIRED  # type: ignore[call-arg]
    assert not WorkerSettings().allow_root  # type: ignore[call-arg]
    monkeypatch.setenv("SHEEPFOLD_SANDBOX_READS", os.pathsep.join(("/srv/ocio", "/srv/fonts")))
    assert WorkerSettings().sandbox_reads == (Path("/srv/ocio"), Path("/srv/fonts"))  # type: ignore[call-arg]
