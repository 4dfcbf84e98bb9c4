"""Lines of every Blender from 2.7 to 5.x."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from render_tasks.blender.output.progress import Progress, read_line

#: (version, method, line, fraction, remaining seconds, peak kB)
LINES = [
    ("2.79 internal", "blenderinternal",
     "Fra:1 Mem:8.46M (0.00M, Peak 9.42M) | Time:00:00.35 | Mem:1.90M | Sce: Scene Ve:8 Fa:6 La:1 | Part 3-16",
     3 / 16, None, 9646),
    ("2.79 cycles", "remainingtime",
     "Fra:340 Mem:39.50M (0.00M, Peak 49.61M) | Time:00:01.00 | Remaining:00:03.00 | Mem:0.95M, Peak:5.26M"
     " | Scene, RenderLayer | Path Tracing Tile 5/24",
     0.25, 3.0, 50800),
    ("2.79 cycles", "by_tile",
     "Fra:340 Mem:39.50M (0.00M, Peak 49.61M) | Time:00:01.20 | Mem:0.95M, Peak:5.26M"
     " | Scene, RenderLayer | Path Tracing Tile 5/24",
     5 / 24, None, 50800),
    ("2.83", "by_tile",
     "Fra:1 Mem:10.83M (Peak 10.83M) | Time:00:00.31 | Remaining:00:01.43 | Mem:0.06M, Peak:5.26M | Scene, View Layer"
     " | Rendered 3/16 Tiles, Sample 12/64",
     3 / 16 + 12 / 64 / 16, 1.43, 11089),
    ("2.93", "remainingtime",
     "Fra:1 Mem:175.20M (Peak 230.10M) | Time:01:10:05.20 | Remaining:01:10:05.20 | Mem:20.54M, Peak:21.00M"
     " | Scene, ViewLayer | Rendered 0/1 Tiles, Sample 1/128",
     0.5, 4205.2, 235622),
    ("3.4", "remainingtime",
     "Fra:12 Mem:10.05M (Peak 10.83M) | Time:00:00.03 | Remaining:00:00.01 | Mem:0.90M, Peak:0.90M"
     " | Scene, ViewLayer | Sample 1/8",
     0.75, 0.01, 11089),
    ("3.4 without a guess", "remainingtime",
     "Fra:12 Mem:10.11M (Peak 10.83M) | Time:00:00.04 | Mem:0.90M, Peak:0.90M | Scene, ViewLayer | Sample 8/8",
     1.0, None, 11089),
    ("3.4 eevee", "by_tile",
     "Fra:1 Mem:61.18M (Peak 61.30M) | Time:00:00.90 | Rendering 13 / 64 samples", 13 / 64, None, 62771),
    ("4.2", "by_tile",
     "Fra:1 Mem:1.20G (Peak 1.50G) | Time:00:09.77 | Remaining:02:01.27 | Mem:512.00M, Peak:512.00M | Scene, ViewLayer"
     " | Sample 64/1024",
     64 / 1024, 121.27, 1572864),
    ("5.0", "by_tile",
     "00:02.345  render           | Fra: 1 | Remaining: 00:03.12 | Mem: 120M | Sample 16/64", 0.25, 3.12, 122880),
]  # fmt: skip

SILENT = [
    "Blender 3.4.1",
    "Read blend: /x/tiny.blend",
    "Saved: '/x/frame_0012.png'",
    " Time: 00:00.15 (Saving: 00:00.11)",
    "Blender quit",
    "Part 3-0",
    "Sample 1/0",
    "Tile /24",
    "Remaining:",
    "Remaining:soon",
    "",
]


@pytest.mark.parametrize(("version", "method", "line", "fraction", "remaining", "peak"), LINES)
def test_a_line_of_this_blender_is_read(
    version: str, method: str, line: str, fraction: float, remaining: float | None, peak: int
) -> None:
    assert read_line(line, method, Progress()) == Progress(
        fraction=pytest.approx(fraction), remaining_s=remaining, memory_kb=peak
    )


@pytest.mark.parametrize("line", SILENT)
@pytest.mark.parametrize("method", ["remainingtime", "blenderinternal", "by_tile", "", "something new"])
def test_a_line_that_says_nothing_changes_nothing(line: str, method: str) -> None:
    before = Progress(fraction=0.5, remaining_s=3.0, memory_kb=7)
    assert read_line(line, method, before) == before


def test_memory_only_grows() -> None:
    after = read_line("Fra:1 Mem:1.00M (Peak 2.00M)", "", Progress(memory_kb=9999))
    assert after.memory_kb == 9999


@pytest.mark.parametrize("method", ["remainingtime", "blenderinternal", "by_tile", ""])
@given(
    line=st.one_of(
        st.text(),
        st.from_regex(
            r"(Fra:|Mem:|Peak |Time:|Remaining:|Part |Tile |Rendered |Sample )[\d:./ MG-]{0,40}", fullmatch=True
        ),
    )
)
def test_no_line_can_hurt(method: str, line: str) -> None:
    after = read_line(line, method, Progress())
    assert after.fraction is None or 0 <= after.fraction <= 1
    assert after.remaining_s is None or 0 <= after.remaining_s < 1e12
    assert 0 <= after.memory_kb < 1e24
