"""What a client of each generation looks for in an answer, and without what it fails: observed in public clients.

Strict on purpose, and nothing of ours: the standard library's XML reader, and names as the clients spell them.
"""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import unquote_plus
from xml.etree import ElementTree

from tests.support.wire.captured_wire import RawAnswer

_RENDERER = ("md5", "commandline")
_STATS = ("credits_session", "credits_total", "frame_remaining", "waiting_project", "connected_machine")


@dataclass(frozen=True, kw_only=True)
class Generation:
    """One generation's demands."""

    year: int
    #: ``Set-Cookie`` is looked for in exactly this spelling (until 2018-12).
    exact_cookie: bool = False
    #: Request types without which the sign-in fails.
    requests: tuple[str, ...]
    public_key: bool = False
    #: Attributes of ``<job>`` without which the offer is refused.
    job: tuple[str, ...]
    renderer: tuple[str, ...] = _RENDERER
    #: Where the frames that are left stand; ``None``: not looked for, but whole where it is there.
    counted_in: str | None = None
    chunks: bool = False


GENERATIONS = {
    generation.year: generation
    for generation in (
        Generation(
            year=2015,
            exact_cookie=True,
            requests=("validate-job", "request-job", "download-archive", "error", "keepmealive", "logout"),
            job=("id", "archive_md5", "path", "revision", "use_gpu", "frame", "extras"),
            counted_in="frames",
        ),
        Generation(
            year=2017,
            exact_cookie=True,
            requests=("validate-job", "request-job", "download-archive", "error", "keepmealive", "logout"),
            job=("id", "archive_md5", "path", "use_gpu", "frame", "name", "extras", "password"),
            counted_in="stats",
        ),
        Generation(
            year=2020,
            public_key=True,
            requests=("request-job", "download-archive", "error", "keepmealive", "logout"),
            job=("id", "use_gpu", "archive_md5", "path", "frame", "synchronous_upload", "extras", "validation_url",
                 "name", "password"),
            renderer=(*_RENDERER, "update_method"),
        ),
        Generation(
            year=2022,
            public_key=True,
            requests=("request-job", "download-archive", "error", "keepmealive", "logout", "speedtest-answer"),
            job=("id", "use_gpu", "archive_md5", "path", "frame", "synchronous_upload", "validation_url", "name",
                 "password"),
            renderer=(*_RENDERER, "update_method"),
        ),
        Generation(
            year=2024,
            public_key=True,
            requests=("request-job", "download-binary", "download-chunk", "error", "keepmealive", "logout",
                      "speedtest-answer"),
            job=("id", "use_gpu", "path", "frame", "synchronous_upload", "validation_url", "name", "password"),
            renderer=(*_RENDERER, "update_method"),
            chunks=True,
        ),
    )
}  # fmt: skip


def cookie_of(generation: Generation, answer: RawAnswer) -> str:
    """The session's cookie, where this generation finds it."""
    value = answer.exactly("Set-Cookie") if generation.exact_cookie else answer.header("Set-Cookie")
    assert value, f"a client of {generation.year} sees no cookie in {answer.headers}"
    return value.partition(";")[0]


def status_of(answer: RawAnswer, root: str) -> int:
    """The status of an answer of any exchange."""
    assert answer.status == 200
    return int(_document(answer, root).attrib["status"])


def read_config(generation: Generation, answer: RawAnswer) -> dict[str, str]:
    """The paths of a sign-in's answer, and ``publickey``."""
    document = _document(answer, "config")
    assert document.attrib["status"] == "0"
    paths = {request.attrib["type"]: request.attrib["path"] for request in document.findall("request")}
    missing = set(generation.requests) - set(paths)
    assert not missing, f"a client of {generation.year} lacks {missing}"
    [beat] = [request for request in document.findall("request") if request.attrib["type"] == "keepmealive"]
    assert int(beat.attrib["max-period"]) > 120  # Java takes 120 s off
    assert "?" not in paths["logout"], "a client of 2024 escapes the question mark of a path"
    if generation.public_key:
        assert document.attrib["publickey"]
    return {**paths, "publickey": document.attrib.get("publickey", "")}


@dataclass(frozen=True, kw_only=True)
class ReadJob:
    """What a client keeps of an offer."""

    job: str
    frame: str
    scene_md5s: tuple[str, ...]
    renderer_md5: str
    validation_url: str
    script: str


def read_job(generation: Generation, answer: RawAnswer) -> ReadJob:
    """An offer, refused for whatever this generation refuses it for."""
    document = _document(answer, "jobrequest")
    assert document.attrib["status"] == "0"
    _check_counts(generation, document)
    job = document.find("job")
    assert job is not None
    renderer, script = job.find("renderer"), job.find("script")
    assert renderer is not None
    assert script is not None
    missing = [name for name in generation.job if name not in job.attrib]
    missing += [name for name in generation.renderer if name not in renderer.attrib]
    assert not missing, f"a client of {generation.year} lacks {missing}"
    assert job.attrib["use_gpu"] in ("0", "1")
    chunks = [(chunk.attrib["id"], chunk.attrib["md5"]) for chunk in job.findall("chunks/chunk")]
    assert chunks or not generation.chunks
    return ReadJob(
        job=job.attrib["id"],
        frame=job.attrib["frame"],
        scene_md5s=tuple(md5 for _, md5 in chunks) if generation.chunks else (job.attrib["archive_md5"],),
        renderer_md5=renderer.attrib["md5"],
        validation_url=unquote_plus(job.attrib.get("validation_url", "")),
        script=script.text or "",
    )


def _check_counts(generation: Generation, document: ElementTree.Element) -> None:
    if generation.counted_in == "frames":
        assert document.find("frames") is not None, "a client of 2015 wants <frames>"
    stats = document.find("stats")
    assert stats is not None or generation.counted_in != "stats", "a client of 2017 wants <stats>"
    if stats is not None and generation.year > 2016:
        assert all(stats.attrib[name].isdigit() for name in _STATS)


def _document(answer: RawAnswer, root: str) -> ElementTree.Element:
    # Java looks at the beginning of the type, Rust at what stands before the semicolon.
    assert (answer.header("Content-Type") or "").split(";")[0].strip() == "text/xml"
    document = ElementTree.fromstring(answer.body)
    assert document.tag == root
    return document
