"""The captured requests of public clients as rows of the wire table: what each of them means."""

from __future__ import annotations

from typing import Any

import pytest

from sheepfold.protocol import reading_requests
from sheepfold.protocol.messages import ArchiveRequest, Beat, ComputeMethod, ErrorReport, FrameUpload, JobRequest
from sheepfold.protocol.session_messages import Credentials, Hardware, SignInRequest
from tests.support.wire.captured_wire import CLIENTS, CapturedRequest, captured

KIB = 1024
SCENE, RENDERER = "5520a3a37d2209e9926e3674516db806", "160f098345bf793512a7a9838f9b492a"
CPU_ONLY = ComputeMethod.CPU_ONLY
STUDIO = Credentials(login="studio", password="***")
NOTHING = "nothing to read"


def hardware(*, cores: int, ram_kb: int, os_version: str = "") -> Hardware:
    return Hardware(
        os="linux", bits="64bit", cpu_family="6", cpu_model="207", cpu_model_name="Intel(R) Xeon(R) Processor",
        cpu_cores=cores, ram=ram_kb * KIB, os_version=os_version,
    )  # fmt: skip


def upload(frame: str, seconds: int, memory_kb: int, cores: int | None = None) -> FrameUpload:
    return FrameUpload(
        job="100", frame=frame, render_time_s=seconds, revision="0", extras="", memory_used_kb=memory_kb, cores=cores
    )


MEANT: dict[str, list[Any]] = {
    "java2015": [
        SignInRequest(credentials=STUDIO, version="3.3.2", hardware=hardware(cores=1, ram_kb=24_903_680), extras=""),
        JobRequest(compute_method=CPU_ONLY),
        ArchiveRequest(type="binary", job="100"),
        ArchiveRequest(type="job", job="100", revision="0"),
        upload("0001", 2, 11_070, 1),
        JobRequest(compute_method=CPU_ONLY, held_archives=(RENDERER, SCENE)),
        upload("0002", 2, 11_070, 1),
        NOTHING,
    ],
    "java2015_beat": [Beat(), Beat()],
    "java2020": [
        SignInRequest(
            credentials=STUDIO, version="6.20294.0", hardware=hardware(cores=1, ram_kb=24_903_680), extras="",
            hostname="vm",
        ),
        JobRequest(compute_method=CPU_ONLY, cpu_cores=1, ram_max_kb=22_544_384),
        ArchiveRequest(type="binary", job="100"),
        ArchiveRequest(type="job", job="100"),
        JobRequest(compute_method=CPU_ONLY, cpu_cores=1, ram_max_kb=22_282_240, held_archives=(SCENE, RENDERER)),
        upload("0001", 1, 11_070),
        upload("0002", 1, 11_070),
        NOTHING,
    ],
    "java2022": [
        SignInRequest(
            credentials=STUDIO, version="6.22306.0", extras="", hostname="vm",
            hardware=hardware(cores=2, ram_kb=24_684_092, os_version="linux 12 (bookworm) build 6.1"),
            hardware_id="87ed7d7c90553a0cfdb1656f85d7d7a7",
        ),
        ErrorReport(type=0),
        JobRequest(compute_method=CPU_ONLY, cpu_cores=2, ram_max_kb=22_832_086, network_down=0, network_up=272_285),
        ArchiveRequest(type="binary", job="100"),
        ArchiveRequest(type="job", job="100"),
        JobRequest(
            compute_method=CPU_ONLY, cpu_cores=2, ram_max_kb=22_825_902, network_down=101_442_992, network_up=272_285,
            held_archives=(SCENE, RENDERER),
        ),
        upload("0001", 0, 0),
        upload("0002", 0, 0),
        NOTHING,
    ],
    "rust2024": [
        SignInRequest(
            credentials=STUDIO, version="7.24086.0", extras="", hostname="vm",
            hardware=hardware(cores=2, ram_kb=24_684_092, os_version="Debian 12"),
            hardware_id="0123456789abcdef0123456789abcdef",
        ),
        JobRequest(compute_method=CPU_ONLY, cpu_cores=2, ram_max_kb=21_779_232, network_down=0, network_up=0),
        Beat(paused=False),
        ArchiveRequest(type="binary", job="100"),
        ArchiveRequest(type="chunk", chunk=SCENE),
        JobRequest(compute_method=CPU_ONLY, cpu_cores=2, ram_max_kb=22_005_692, network_down=0, network_up=0),
        upload("0001", 0, 28_420),
        upload("0002", 0, 28_180),
    ],
}  # fmt: skip


def read(request: CapturedRequest) -> Any:
    """The request's message, by the reader of the exchange whose address it goes to."""
    readers = {
        "/server/config.php": lambda: reading_requests.read_sign_in_request({**request.form, **request.query}),
        "/server/request_job.php": lambda: reading_requests.read_job_request(request.query, request.body),
        "/server/download.php": lambda: reading_requests.read_archive_request(request.query),
        "/server/download_binary.php": lambda: reading_requests.read_archive_request(request.query, kind="binary"),
        "/server/download_chunk.php": lambda: reading_requests.read_archive_request(request.query, kind="chunk"),
        "/server/send_frame.php": lambda: reading_requests.read_frame_upload(request.query),
        "/server/keepmealive.php": lambda: reading_requests.read_beat(request.query),
        "/server/error.php": lambda: reading_requests.read_error_report(request.query),
        "/server/logout.php": lambda: NOTHING,
    }
    return readers[request.path]()


@pytest.mark.parametrize("client", [*CLIENTS, "java2015_beat"])
def test_every_captured_request_means_what_its_client_meant(client: str):
    requests = captured(client)
    assert [read(request) for request in requests] == MEANT[client]
