"""The list of decisions, from the files themselves: number, title, date and status are their first lines."""

from __future__ import annotations

import re
from pathlib import Path

from .markdown import NoDescription, page, table

FOLDER = Path(__file__).resolve().parents[2] / "docs" / "decisions"
_HEAD = re.compile(
    r"# (?P<number>\d{4}) (?P<title>.+)\n\n"
    r"- Date: (?P<date>\d{4}-\d\d-\d\d)\n- Status: (?P<status>(?:accepted|superseded).*)\n\n"
)

INTRODUCTION = """
Why it is as it is: one file for each decision, in the order in which they were made, dated. What was measured says
so. A decision that no longer holds stays, and its status says by what it is superseded.
"""


def page_text() -> str:
    """The whole page; raises NoDescription for a file that does not begin as decisions do."""
    return page(
        "Decisions",
        INTRODUCTION,
        table(("", "decision", "date", "status"), map(_row, sorted(FOLDER.glob("[0-9]*.md")))),
    )


def _row(path: Path) -> tuple[str, str, str, str]:
    head = _HEAD.match(path.read_text(encoding="utf-8"))
    if head is None or not path.name.startswith(head["number"]):
        raise NoDescription(
            f"{path.name} has to begin with '# {path.name[:4]} Title', '- Date: ' and '- Status: ' lines"
        )
    date = head["date"].replace("-", "\N{NON-BREAKING HYPHEN}")
    return head["number"], f"[{head['title']}]({path.name})", date, head["status"]
