"""``SHA256SUMS`` of a release: one line for each of its files, as ``sha256sum --check`` reads it."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Sequence
from pathlib import Path

NAME = "SHA256SUMS"


def checksums(folder: Path) -> str:
    """The lines, by name."""
    files = sorted(path for path in folder.iterdir() if path.is_file() and path.name != NAME)
    return "".join(f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.name}\n" for path in files)


def main(arguments: Sequence[str]) -> None:
    """``python -m tools.supply_chain.checksums FOLDER`` writes them there."""
    folder = Path(arguments[0])
    text = checksums(folder)
    (folder / NAME).write_text(text, encoding="utf-8")
    print(text, end="")


if __name__ == "__main__":
    main(sys.argv[1:])
