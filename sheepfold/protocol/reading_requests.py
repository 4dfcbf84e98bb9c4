"""What a client sends, form fields or XML → message. The mirror image is in ``writing.py``.

Every function raises :class:`MalformedMessage` when what came is not a message of its exchange, naming what is missing
or wrong. What nobody knows (parameters, elements) is passed over, so that later generations can be read.
"""

from __future__ import annotations

from collections.abc import Mapping

from .errors import MalformedMessage
from .field_values import is_yes, need, read_count, read_md5, read_number, usable_number
from .messages import ArchiveRequest, Beat, ComputeMethod, ErrorReport, FrameUpload, JobRequest, ProjectStep
from .session_messages import Credentials, Hardware, RamUnit, SignInRequest, SpeedTestResult
from .xml_document import read_document

#: Told in bytes, every PC that runs Blender has more than this; told in kilobytes, none has: a tebibyte.
_RAM_IN_BYTES_FROM = 1 << 30


def read_sign_in_request(fields: Mapping[str, str], *, ram_unit: RamUnit | None = None) -> SignInRequest:
    """Session creation, from query or form. A missing version reads as empty: it has a status of its own (100).

    Without ``ram_unit`` the memory's size tells its unit: the specification says bytes, observed clients kilobytes.
    """
    need(fields, "login", "password", "os", "bits", "cpu_family", "cpu_model", "cpu_model_name", "cpu_cores", "ram")
    hardware = Hardware(
        os=fields["os"],
        bits=fields["bits"],
        cpu_family=fields["cpu_family"],
        cpu_model=fields["cpu_model"],
        cpu_model_name=fields["cpu_model_name"],
        cpu_cores=read_count(fields["cpu_cores"], "cpu_cores"),
        ram=_ram_bytes(read_count(fields["ram"], "ram"), ram_unit),
        os_version=fields.get("os_version", ""),
    )
    return SignInRequest(
        credentials=Credentials(login=fields["login"], password=fields["password"]),
        version=fields.get("version", ""),
        hardware=hardware,
        extras=fields.get("extras"),
        hostname=fields.get("hostname", ""),
        hardware_id=fields.get("hwid", ""),
    )


def _ram_bytes(ram: int, unit: RamUnit | None) -> int:
    in_kilobytes = ram < _RAM_IN_BYTES_FROM if unit is None else unit is RamUnit.KILOBYTES
    return ram * 1024 if in_kilobytes else ram


def read_speed_test_report(data: bytes) -> tuple[SpeedTestResult, ...]:
    """``<speedtest>``, as a client measured it; what is nonsense counts as nothing measured."""
    targets = read_document(data, "speedtest").children("target")
    return tuple(
        SpeedTestResult(
            url=target.attribute("url") or "",
            speed=usable_number(target.attribute("speed")) or 0,
            ping_ms=usable_number(target.attribute("ping")) or 0,
        )
        for target in targets
    )


def read_archive_request(fields: Mapping[str, str], *, kind: str | None = None) -> ArchiveRequest:
    """An archive download; ``kind`` where the address that was asked says it already (``binary``, ``chunk``)."""
    kind = kind or fields.get("type", "")
    if kind == "chunk":
        need(fields, "chunk")
        return ArchiveRequest(type=kind, chunk=fields["chunk"])
    need({**fields, "type": kind}, "type", "job")
    if kind not in ("binary", "job"):
        raise MalformedMessage(f"type is binary or job, not {kind[:40]!r}")
    return ArchiveRequest(type=kind, job=fields["job"], revision=fields.get("revision"))


def read_job_request(fields: Mapping[str, str], body: bytes = b"") -> JobRequest:
    """A job request; ``body`` is ``<cache>`` with the archives already held, or empty."""
    need(fields, "computemethod")
    try:
        method = ComputeMethod(read_number(fields["computemethod"], "computemethod"))
    except ValueError:
        raise MalformedMessage("computemethod is 0, 1 or 2") from None
    files = read_document(body, "cache").children("file") if body.strip() else []
    return JobRequest(
        compute_method=method,
        held_archives=tuple(read_md5(file, "md5") for file in files),
        cpu_cores=usable_number(fields.get("cpu_cores")),
        ram_max_kb=usable_number(fields.get("ram_max")),
        # -1 (Java) and 0 (Rust) both say that there is no limit.
        render_time_max_s=usable_number(fields.get("rendertime_max"), least=1),
        gpu_type=fields.get("gpu_type"),
        gpu_model=fields.get("gpu_model"),
        gpu_ram=usable_number(fields.get("gpu_ram")),
        network_down=usable_number(fields.get("network_dl")),
        network_up=usable_number(fields.get("network_up")),
    )


def read_frame_upload(fields: Mapping[str, str]) -> FrameUpload:
    """What goes with a frame, from query or form."""
    fields = _with_one_spelling(fields)
    need(fields, "job", "frame", "rendertime")
    return FrameUpload(
        job=fields["job"],
        frame=fields["frame"],
        render_time_s=read_count(fields["rendertime"], "rendertime"),
        revision=fields.get("revision", ""),
        extras=fields.get("extras"),
        memory_used_kb=usable_number(fields.get("memoryused")),
        cores=usable_number(fields.get("cores")),
        is_confirmed=is_yes(fields.get("confirmed")),
    )


def read_beat(fields: Mapping[str, str]) -> Beat:
    """A heartbeat, from query or form; later generations, and idle clients, name neither job nor frame."""
    paused = fields.get("paused")
    return Beat(
        job=fields.get("job") or None,
        frame=fields.get("frame") or None,
        extras=fields.get("extras"),
        render_time_s=usable_number(fields.get("rendertime")),
        remaining_s=usable_number(fields.get("remainingtime")),
        paused=None if paused is None else is_yes(paused),
    )


def read_error_report(fields: Mapping[str, str]) -> ErrorReport:
    """An error report, from query or form; the time is read in both spellings. It may be about no frame at all."""
    fields = _with_one_spelling(fields)
    return ErrorReport(
        job=fields.get("job") or None,
        frame=fields.get("frame") or None,
        extras=fields.get("extras"),
        render_time_s=usable_number(fields.get("rendertime")),
        memory_used_kb=usable_number(fields.get("memoryused")),
        type=usable_number(fields.get("type")),
    )


def read_project_step(fields: Mapping[str, str]) -> ProjectStep:
    """What a project is to do, from query or form."""
    need(fields, "job", "step")
    if fields["step"] not in ("cancel", "resume"):
        raise MalformedMessage(f"step is cancel or resume, not {fields['step'][:40]!r}")
    return ProjectStep(job=fields["job"], step=fields["step"])


def _with_one_spelling(fields: Mapping[str, str]) -> Mapping[str, str]:
    """Observed clients write ``render_time`` where the specification says ``rendertime``."""
    if "rendertime" in fields or "render_time" not in fields:
        return fields
    return {**fields, "rendertime": fields["render_time"]}
