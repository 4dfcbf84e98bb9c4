"""Write the parts of the documentation that are made from the code; `make reference` runs it.

A test makes them again in memory and compares, so a page that is no longer true fails `make test` with the command to
run. A setting without a description stops it. What a page says comes from one place in the code each::

    reference/settings     the fields of the settings classes, each with the `#:` comment above it
    reference/commands     the Typer application
    reference/lan-api      the contract's paths and messages, and the functions that answer operators
    reference/metrics      the collector that Prometheus reads
    reference/exit-codes   the errors below `SheepfoldError`, with their exit codes
    reference/redis-keys   the tables at the top of the modules that own the keys
    decisions/index        the first lines of the decisions
    explanation/lease.svg  the table of transitions
    explanation/lease      the table of transitions, between two comments of the page
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

from tools.reference_pages import (
    commands,
    decisions,
    exit_codes,
    lan_api,
    lease_diagram,
    metrics,
    redis_keys,
    settings,
)
from tools.reference_pages.markdown import NoDescription

DOCS = Path(__file__).resolve().parents[1] / "docs"
#: Path below `docs/` → what makes the file's text.
FILES: dict[str, Callable[[], str]] = {
    "reference/settings.md": settings.page_text,
    "reference/commands.md": commands.page_text,
    "reference/lan-api.md": lan_api.page_text,
    "reference/metrics.md": metrics.page_text,
    "reference/exit-codes.md": exit_codes.page_text,
    "reference/redis-keys.md": redis_keys.page_text,
    "decisions/index.md": decisions.page_text,
    "explanation/lease.svg": lease_diagram.svg,
    "explanation/lease.md": lambda: lease_diagram.with_mermaid((DOCS / "explanation" / "lease.md").read_text()),
}


def main() -> int:
    """Writes each file that is not as the code says; 1 where the code says too little."""
    for name, make in FILES.items():
        try:
            text = make()
        except NoDescription as missing:
            print(f"make_reference: {name}: {missing}", file=sys.stderr)
            return 1
        path = DOCS / name
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            path.write_text(text, encoding="utf-8")
            print(f"{path.relative_to(DOCS.parent)} is written")
    return 0


if __name__ == "__main__":
    sys.exit(main())
