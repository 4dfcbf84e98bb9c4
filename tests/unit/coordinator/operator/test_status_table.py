from __future__ import annotations

from typing import Any

import pytest
from rich.console import Console

from coordinator.operator.status_table import print_status

KEPT_IN = {"sandbox": "bubblewrap", "sandbox_note": ""}


def slot(**changes: Any) -> dict[str, Any]:
    values: dict[str, Any] = {
        "frame": "0012",
        "job_name": "demo",
        "stage": "rendering",
        "progress": 0.42,
        "remaining_s": 63.4,
        "memory_kb": 2048,
    }
    return values | changes


def session(**changes: Any) -> dict[str, Any]:
    values = {"key": "farm:linux/64bit", "name": "linux/64bit", "state": "signed in", "notice": ""}
    return values | {"asked_in_s": 0.0, "has_free_slot": True} | changes


def pc(name: str = "pc-01", *busy: dict[str, Any], slots: int = 2, **changes: Any) -> dict[str, Any]:
    return {"name": name, "slots": slots, "busy": list(busy), "trouble": "", "no_blender": "", **KEPT_IN} | changes


def table_lines(**changes: Any) -> list[str]:
    """The lines an operator sees in a wide terminal."""
    status: dict[str, Any] = {
        "sessions": [session()],
        "frames": {"waiting": 0, "ready": 1, "rendering": 2, "accepted": 9},
        "frames_remaining": None,
        "eta_s": None,
        "nodes": [],
        "quarantined": [],
        "blocked": [],
    }
    console = Console(width=160, color_system=None)
    with console.capture() as capture:
        print_status(status | changes, console)
    return [line.strip() for line in capture.get().splitlines()]


def row(lines: list[str], name: str) -> list[str]:
    found = next(line for line in lines if name in line)
    return [cell.strip() for cell in found.strip("│┃").split("│")]


def test_a_session_is_told_with_the_servers_last_word() -> None:
    silent = session(state="signed out", notice="the server is under maintenance")
    assert "linux/64bit signed out: the server is under maintenance" in table_lines(sessions=[silent])
    assert "linux/64bit signed in" in table_lines()


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"asked_in_s": 1023.0}, "linux/64bit signed in; asks again in 17 min (at once: sheepfold ask)"),
        ({"asked_in_s": 2.0}, "linux/64bit signed in; asks again in 2 s (at once: sheepfold ask)"),
        ({"asked_in_s": 0.0}, "linux/64bit signed in"),
        ({"asked_in_s": 1023.0, "has_free_slot": False}, "linux/64bit signed in; asks for frames when a slot is free"),
        ({"asked_in_s": None}, "linux/64bit signed in"),
    ],
)
def test_it_says_when_the_server_is_asked_next(changes: dict[str, Any], line: str) -> None:
    assert line in table_lines(sessions=[session(**changes)])


@pytest.mark.parametrize(
    ("frame", "label", "target"),
    [(None, "job 101 · film", "101"), ("0012", "frame 0012 of job 101 · film", "101:0012")],
)
def test_what_is_blocked_is_told_with_its_reason_and_what_to_do(frame: str | None, label: str, target: str) -> None:
    block = {"job_id": "101", "frame": frame, "label": label, "by": "farm", "reason": "Cannot render, no camera"}
    assert (
        f"{label} is blocked by the farm: Cannot render, no camera; to render it again: sheepfold unblock {target}"
        in table_lines(blocked=[block])
    )


def test_only_states_that_hold_something_are_named() -> None:
    assert "Frames: 1 ready, 2 rendering, 9 accepted" in table_lines()
    assert "Frames: none yet" in table_lines(frames={"waiting": 0})


@pytest.mark.parametrize(
    ("remaining", "eta_s", "line"),
    [
        (None, None, "Frames: 9 accepted"),
        (0, 0, "Frames: 9 accepted; 0 left at the server"),
        (40, None, "Frames: 9 accepted; 40 left at the server"),
        (40, 3900, "Frames: 9 accepted; 40 left at the server, 1 h 5 min at this pace"),
    ],
)
def test_frames_left_are_told_where_the_server_says_so(remaining: int | None, eta_s: float | None, line: str) -> None:
    assert line in table_lines(frames={"accepted": 9}, frames_remaining=remaining, eta_s=eta_s)


def test_a_slot_is_a_row_with_how_far_it_is() -> None:
    cells = row(table_lines(nodes=[pc("pc-01", slot())]), "pc-01")
    assert cells == ["pc-01", "1/2", "0012", "demo", "rendering", "42%", "1 min 3 s", "2.0 MB"]


def test_what_blender_has_not_said_yet_stays_empty() -> None:
    quiet = slot(stage="fetching", progress=None, remaining_s=None, memory_kb=None)
    assert row(table_lines(nodes=[pc("pc-01", quiet)]), "pc-01") == [
        "pc-01",
        "0/2",
        "0012",
        "demo",
        "fetching",
        "",
        "",
        "",
    ]


def test_progress_at_its_very_beginning_is_not_nothing() -> None:
    cells = row(table_lines(nodes=[pc("pc-01", slot(progress=0.0, remaining_s=0.0, memory_kb=0))]), "pc-01")
    assert cells[5:] == ["0%", "0 s", "0 B"]


def test_an_idle_pc_says_so() -> None:
    lines = table_lines(nodes=[pc("pc-02")])
    assert row(lines, "pc-02") == ["pc-02", "0/2", "", "", "idle", "", "", ""]
    assert "1 PC" in lines


def test_a_pc_is_named_once_however_many_slots_it_has() -> None:
    lines = table_lines(nodes=[pc("pc-01", slot(frame="0001"), slot(frame="0002")), pc("pc-02")])
    assert sum("pc-01" in line for line in lines) == 1
    assert row(lines, "0002")[:3] == ["", "", "0002"]
    assert "2 PCs" in lines


def test_a_pc_that_is_quarantined_is_told_with_what_to_do() -> None:
    assert any(line.endswith("sheepfold node release pc-03") for line in table_lines(quarantined=["pc-03"]))


@pytest.mark.parametrize("text", ["[red]x[/red]", "[/]", "[bold", "a\\[b]"])
def test_what_others_named_is_shown_and_never_obeyed(text: str) -> None:
    lines = table_lines(
        sessions=[session(name=text, notice=text)],
        nodes=[pc(text, slot(job_name=text, frame=text))],
        quarantined=[text],
    )
    assert f"{text} signed in: {text}" in lines
    assert row(lines, "42%")[2:4] == [text, text]


def test_a_pc_in_trouble_says_what_to_do_and_that_it_is_paused() -> None:
    lines = table_lines(nodes=[pc(trouble="disk full: 200 MB are free in /work: make room there")])
    assert "pc-01 takes nothing: disk full: 200 MB are free in /work: make room there" in lines
    assert "paused" in row(lines, "pc-01 ")


def test_a_pc_without_a_blender_says_what_it_gets_and_what_to_do() -> None:
    lines = table_lines(nodes=[pc(no_blender="no blender on PATH: install one")])
    assert "pc-01 gets only jobs that bring their own renderer: no blender on PATH: install one" in lines
    assert "idle" in row(lines, "pc-01 ")


def test_names_and_reasons_from_elsewhere_do_nothing_to_the_terminal() -> None:
    hostile = pc("pc\x1b]0;x\x07", slot(job_name="demo\x1b[2J\nCRITICAL"), trouble="full\r\nCRITICAL")
    text = "\n".join(table_lines(nodes=[hostile], quarantined=["pc\u202e-2"]))
    assert not {"\x1b", "\x07", "\u202e"} & set(text)
    assert "demo\\x1b[2J\\nCRITICAL" in text
    assert "full\\r\\nCRITICAL" in text


def test_how_well_renderers_are_kept_in_is_told_by_level_and_a_pc_without_by_name() -> None:
    why = "bubblewrap: not installed"
    lines = table_lines(nodes=[
        pc("pc-01"), pc("pc-02"), pc("pc-03", sandbox="landlock"), pc("pc-04", sandbox="none", sandbox_note=why),
    ])  # fmt: skip
    assert "Renderers are kept in by bubblewrap on pc-01, pc-02" in lines
    assert "Renderers are kept in by landlock on pc-03" in lines
    assert "pc-04 renders without a sandbox: bubblewrap: not installed" in lines
