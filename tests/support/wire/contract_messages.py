"""One message of each kind that crosses between coordinator and worker."""

from __future__ import annotations

from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from sheepfold.contract.api_messages import FailureKind, FailureReport, JoinAnswer, JoinRequest, StartAnswer
from sheepfold.contract.orders import (
    ArchiveRef,
    RenderOrder,
)
from sheepfold.contract.presence import Compute, NodeHardware, Presence, SlotState, Stage
from sheepfold.contract.signing import Cancel, CancelEnvelope, FarmKey, OrderEnvelope, SignedMessage, Stamp

KEY = Ed25519PrivateKey.generate()
HARDWARE = NodeHardware(
    os="linux", bits="64bit", cpu_family="6", cpu_model="1", cpu_model_name="é", cpu_cores=4, ram=2**40, gpus=("A", "B")
)
ORDER = RenderOrder(
    lease_id="ab12", attempt=1, node_id="n1", job_id="7", job_name="demo · ü", frame="0340", revision="0",
    scene_path="a.blend",
    command_line=".e -b .c", script="import bpy\n", update_method="", use_gpu=True,
    scene_archives=(ArchiveRef(md5="0" * 32, size=1),), renderer_archive=ArchiveRef(md5="1" * 32, size=2),
    time_limit_s=None,
)  # fmt: skip
#: The farm of these tests, as its nodes know it.
FARM = FarmKey(farm_id="f1", order_key=KEY.public_key())
STAMP = Stamp(farm_id="f1", sent_at=1_000_000.25)
CANCEL = Cancel(node_id="n1", lease_id="ab12", attempt=1)
SLOT = SlotState(lease_id="ab", attempt=2, job_name="demo", frame="1", stage=Stage.WAITING, progress=0.5)
MESSAGES: list[Any] = [
    ORDER,
    OrderEnvelope(stamp=STAMP, order=ORDER),
    CancelEnvelope(stamp=STAMP, cancel=CANCEL),
    SignedMessage(text="{}", signature="x"),
    HARDWARE,
    Presence(node_id="n", name="pc", hardware=HARDWARE, slots=2, compute=Compute.BOTH, busy=(SLOT,), archives=("0",)),
    JoinRequest(
        contract_version=1, node_id="n", secret="5" * 64, wanted_name="p",
        hardware=HARDWARE, slots=1, compute=Compute.CPU, kept=("a.1",)
    ),
    JoinAnswer(name="pc", redis_url="redis://:pw@h/0", queue="farm.n", farm_id="f1", order_key="x"),
    StartAnswer(scene_password="ü"),
    FailureReport(kind=FailureKind.DISK_FULL, reason="full", log="😀", render_s=1.5, memory_kb=7),
]  # fmt: skip
