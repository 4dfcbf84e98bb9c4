"""Which level is chosen: by facts alone where a fact decides, else by a real run."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import pytest

from render_tasks.blender.sandbox.facts import HostFacts, look_at_host
from render_tasks.blender.sandbox.levels import Level, RenderLimits, levels_of
from render_tasks.blender.sandbox.probe import find_sandbox, why_not
from render_tasks.blender.sandbox.sandbox import Sandbox
from render_tasks.errors import NoSandbox
from render_tasks.settings import SandboxChoice
from sheepfold.errors import ExitCode
from tests.conftest import missing

LIMITS = RenderLimits(disk_bytes=1024**3)
BARE = HostFacts(system="linux", machine="x86_64", uid=1000)


@pytest.fixture(scope="module")
def host_facts() -> HostFacts:
    return look_at_host()


def test_what_is_asked_for_says_which_levels_will_do() -> None:
    assert levels_of(SandboxChoice.REQUIRED) == (Level.BUBBLEWRAP, Level.LANDLOCK)
    assert levels_of(SandboxChoice.PREFERRED) == tuple(Level)
    assert levels_of(SandboxChoice.OFF) == (Level.NONE,)
    assert levels_of(SandboxChoice.LANDLOCK) == (Level.LANDLOCK,)


def test_a_pc_with_nothing_is_refused_and_told_what_to_install() -> None:
    with pytest.raises(NoSandbox) as refused:
        find_sandbox(SandboxChoice.REQUIRED, BARE, LIMITS)
    assert "apt-get install bubblewrap" in refused.value.operator_line
    assert "Landlock" in refused.value.operator_line
    assert "SHEEPFOLD_SANDBOX be preferred" in refused.value.operator_line
    assert refused.value.exit_code is ExitCode.WRONG_SETTING


def test_a_pc_with_nothing_renders_without_where_that_is_allowed() -> None:
    found = find_sandbox(SandboxChoice.PREFERRED, BARE, LIMITS)
    assert found.level is Level.NONE
    assert "apt-get install bubblewrap" in found.why_not_better


@pytest.mark.parametrize("system", ["win32", "darwin"])
def test_other_systems_have_none_and_say_so(system: str) -> None:
    there = replace(BARE, system=system, bwrap="C:/bwrap.exe", landlock=7)
    with pytest.raises(NoSandbox, match="there is none for this system"):
        find_sandbox(SandboxChoice.REQUIRED, there, LIMITS)


def test_a_bwrap_that_lets_everything_through_is_none(tmp_path: Path, host_facts: HostFacts) -> None:
    fraud = tmp_path / "bwrap"
    fraud.write_text('#!/bin/sh\nwhile [ "$1" != -- ]; do shift; done; shift; exec "$@"\n')
    fraud.chmod(0o755)
    lying = replace(host_facts, system="linux", machine="x86_64", bwrap=str(fraud), prlimit="", choom="", nice="")
    if sys.platform != "linux":
        missing("no Linux")
    assert why_not(Sandbox(level=Level.BUBBLEWRAP, host=lying, limits=LIMITS)) == "it can read what it must not"


def test_a_bwrap_that_fails_is_quoted(tmp_path: Path, host_facts: HostFacts) -> None:
    broken = tmp_path / "bwrap"
    broken.write_text("#!/bin/sh\necho 'bwrap: setting up uid map: Permission denied' >&2; exit 1\n")
    broken.chmod(0o755)
    if sys.platform != "linux":
        missing("no Linux")
    there = replace(host_facts, bwrap=str(broken))
    why = why_not(Sandbox(level=Level.BUBBLEWRAP, host=there, limits=LIMITS))
    assert why == "bwrap: setting up uid map: Permission denied"


@pytest.mark.parametrize("level", [Level.BUBBLEWRAP, Level.LANDLOCK])
def test_a_level_that_is_there_works(level: Level, host_facts: HostFacts) -> None:
    if level is Level.BUBBLEWRAP and not host_facts.bwrap:
        missing("no bwrap: install bubblewrap")
    if level is Level.LANDLOCK and not host_facts.landlock:
        missing("no Landlock in this kernel")
    assert why_not(Sandbox(level=level, host=host_facts, limits=LIMITS)) == ""


def test_a_level_in_which_blender_does_not_start_makes_way_for_one_in_which_it_does(host_facts: HostFacts) -> None:
    found = find_sandbox(
        SandboxChoice.PREFERRED, host_facts, LIMITS, starts_blender=lambda sandbox: sandbox.level is Level.NONE
    )
    assert found.level is Level.NONE
    assert not host_facts.bwrap or "SHEEPFOLD_SANDBOX_READS" in found.why_not_better


def test_a_required_sandbox_is_kept_though_blender_does_not_start_in_it(host_facts: HostFacts) -> None:
    if not host_facts.bwrap:
        missing("no bwrap: install bubblewrap")
    found = find_sandbox(SandboxChoice.REQUIRED, host_facts, LIMITS, starts_blender=lambda _: False)
    assert found.level is Level.BUBBLEWRAP
    assert "SHEEPFOLD_SANDBOX_READS" in found.why_not_better
