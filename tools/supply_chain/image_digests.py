"""Name the images below ours by digest in a file of settings for compose, where an image registry can be asked.

``python3 -m tools.supply_chain.image_digests studio.env`` pulls each image and writes lines ``…_IMAGE=NAME@DIGEST``.
Run again, it asks the same names for what they are now. Needs Docker, and nothing beside Python.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from sheepfold.atomic_files import write_atomically

#: Setting → the image where none is named, as in docker-compose.yml.
IMAGES: Mapping[str, str] = {
    "SHEEPFOLD_PYTHON_IMAGE": "python:3.11-slim-bookworm",
    "SHEEPFOLD_REDIS_IMAGE": "redis:7-bookworm",
}
#: Some hundred megabytes over a slow line.
PULL_TIMEOUT_S = 1800
#: Runs Docker with these words; returns what it printed.
Docker = Callable[[Sequence[str]], str]


class NoDigest(Exception):
    """The image could not be had, or has no digest; the message says why."""


def docker(words: Sequence[str]) -> str:
    """What ``docker`` printed; raises :class:`NoDigest` with its last line."""
    try:
        done = subprocess.run(["docker", *words], capture_output=True, text=True, timeout=PULL_TIMEOUT_S, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise NoDigest(f"docker {' '.join(words)}: {error}") from error
    if done.returncode:
        raise NoDigest((done.stderr.strip().splitlines() or [f"docker ended with {done.returncode}"])[-1])
    return done.stdout


def with_digest(image: str, run: Docker) -> str:
    """``NAME:TAG@sha256:…`` as the registry answers now; a digest in ``image`` is left out of the question."""
    name = image.partition("@")[0]
    run(["pull", "--quiet", name])
    repository = re.sub(r":[^:/]+$", "", name)
    known: list[str] = json.loads(run(["image", "inspect", "--format", "{{json .RepoDigests}}", name])) or []
    for entry in known:
        if entry.startswith(f"{repository}@sha256:"):
            return f"{name}@{entry.rpartition('@')[2]}"
    raise NoDigest(f"{name} has no digest: it was made on this machine")


def named_in(settings: str, setting: str) -> str:
    """The image that the file names, or the default; of several lines compose takes the last."""
    found: list[str] = re.findall(rf"^{setting}=(\S+)$", settings, re.MULTILINE)
    return found[-1] if found else IMAGES[setting]


def replaced(settings: str, setting: str, image: str) -> str:
    """The file's text with this image in every line of the setting; without one, in place of the example or below."""
    line = f"{setting}={image}"
    for start in (f"{setting}=", f"#{setting}="):
        text, count = re.subn(rf"^{start}.*$", line, settings, flags=re.MULTILINE)
        if count:
            return text
    return f"{settings.rstrip()}\n{line}\n".lstrip()


def pin(file: Path, run: Docker) -> None:
    """Writes the lines, all or none; raises :class:`NoDigest` and ``OSError``."""
    text = file.read_text(encoding="utf-8")
    for setting in IMAGES:
        image = with_digest(named_in(text, setting), run)
        print(f"{setting}={image}")
        text = replaced(text, setting, image)
    write_atomically(file, text.encode(), mode=file.stat().st_mode & 0o777)


def main(arguments: Sequence[str], run: Docker = docker) -> int:
    """Exit code 1: nothing was written."""
    if len(arguments) != 1:
        print("usage: python3 -m tools.supply_chain.image_digests FILE, a file made of .env.example", file=sys.stderr)
        return 2
    try:
        pin(Path(arguments[0]), run)
    except (NoDigest, OSError) as error:
        print(f"image_digests: {error}\nimage_digests: NOT PINNED, {arguments[0]} is as it was", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
