"""Scenes that the server gives in chunks: each fetched once by its own request, ordered as they were offered."""

from __future__ import annotations

import threading

import pytest

from coordinator.archives.downloads import PARTS_AT_ONCE
from coordinator.leases.lease import LeaseState
from coordinator.scheduling.matching import Requirements
from coordinator.upstream.errors import ArchiveGone
from sheepfold.contract.api_messages import FailureKind
from sheepfold.contract.codec import from_json, to_json
from sheepfold.contract.orders import ArchiveRef, scene_key
from sheepfold.protocol.messages import ArchiveRequest, Chunk
from tests.support.coordinator.builders import ClaimRecord
from tests.support.coordinator.dispatcher_harness import Chain
from tests.support.coordinator.fakes import KEY, RENDERER, SCENE, md5_of, node

PARTS = tuple(b"part %d of the scene" % number for number in range(5))
#: As no path may look.
IDS = ("../../../etc/passwd", "a/b", "..\\x", "?chunk=7&x=", "5")
CHUNKS = tuple(Chunk(id=id_, md5=md5_of(part)) for id_, part in zip(IDS, PARTS, strict=True))
KEY_OF_SCENE = scene_key([md5_of(part) for part in PARTS])


@pytest.fixture
def chain(chain: Chain) -> Chain:
    """Its server has the scene's chunks, too."""
    chain.session.archives |= {id_: [part] for id_, part in zip(IDS, PARTS, strict=True)}
    return chain


def in_chunks(chunks: tuple[Chunk, ...] = CHUNKS, **changes: object) -> dict[str, object]:
    return {"archive_md5": "", "chunks": chunks, **changes}


def chunk_requests(chain: Chain) -> list[str | None]:
    return [request.chunk for request in chain.session.downloads if request.type == "chunk"]


def test_every_chunk_is_fetched_once_and_the_order_names_them_in_order(chain: Chain) -> None:
    chain.present = {"n1": node(slots=3)}
    for number in range(3):
        chain.grant(f"{number:04}", **in_chunks())
    chain.place_until(lambda: len(chain.sent) == 3)
    assert sorted(chain.session.downloads, key=lambda request: request.chunk or "") == [
        ArchiveRequest(type="binary", job="77"),
        *(ArchiveRequest(type="chunk", chunk=id_) for id_ in sorted(IDS)),
    ]
    refs = tuple(ArchiveRef(md5=md5_of(part), size=len(part)) for part in PARTS)
    assert {order.scene_archives for _, order, _ in chain.sent} == {refs}
    assert {path.name for path in chain.folder.iterdir()} == {md5_of(part) for part in (*PARTS, RENDERER)}


def test_a_chunk_that_two_scenes_share_is_fetched_once(chain: Chain) -> None:
    chain.present = {"n1": node(slots=2)}
    chain.grant("0001", **in_chunks(CHUNKS[:3]))
    chain.place_until(lambda: len(chain.sent) == 1)
    renamed = Chunk(id="4", md5=CHUNKS[0].md5)
    chain.grant("0002", **in_chunks((renamed, *CHUNKS[3:])))
    chain.place_until(lambda: len(chain.sent) == 2)
    assert sorted(chunk_requests(chain), key=str) == sorted(IDS)


def test_a_single_chunk_is_asked_for_by_its_id_and_is_an_archive_of_its_own(chain: Chain) -> None:
    chain.grant(**in_chunks((CHUNKS[0],)))
    chain.place_until(lambda: len(chain.sent) == 1)
    assert chunk_requests(chain) == [IDS[0]]
    assert [ref.md5 for ref in chain.sent[0][1].scene_archives] == [CHUNKS[0].md5]


def test_a_scene_of_many_chunks_leaves_room_for_other_jobs_archives(chain: Chain) -> None:
    chain.present = {"n1": node(slots=2)}
    go_on, under_way = threading.Event(), []

    def slowly(request: ArchiveRequest, _cancelled: object) -> None:
        if request.type == "chunk":
            under_way.append(request.chunk)
            assert go_on.wait(10)

    chain.session.during_download = slowly
    chain.grant("0001", **in_chunks())
    chain.place()
    chain.grant("0002", archive_md5=md5_of(SCENE))
    chain.place_until(lambda: [order.frame for _, order, _ in chain.sent] == ["0002"])
    assert len(under_way) == PARTS_AT_ONCE
    go_on.set()
    chain.place_until(lambda: len(chain.sent) == 2)


def test_a_chunk_the_server_no_longer_has_gives_the_frame_up(chain: Chain, told: ClaimRecord) -> None:
    chain.session.archives[IDS[3]] = [ArchiveGone("the server no longer has the archive")]
    lease = chain.grant(**in_chunks())
    chain.place_until(lambda: chain.state(lease) is LeaseState.FAILED)
    assert [failure.kind for _, failure in told.gave_up] == [FailureKind.NO_ARCHIVE]
    assert not chain.sent


@pytest.mark.parametrize("md5", ["../../etc/passwd", "x" * 32])
def test_a_chunk_whose_md5_would_become_a_path_gives_the_frame_up(chain: Chain, md5: str) -> None:
    lease = chain.grant(**in_chunks((CHUNKS[0], Chunk(id="2", md5=md5))))
    chain.place_until(lambda: chain.state(lease) is LeaseState.FAILED)


def test_every_part_is_needed_as_long_as_the_lease_lives(chain: Chain) -> None:
    chain.grant(**in_chunks())
    chain.place_until(lambda: len(chain.sent) == 1)
    assert chain.tally.needed_archives() == {md5_of(part) for part in (*PARTS, RENDERER)}
    for part in PARTS:
        chain.store.delete(md5_of(part))  # the server says so
        assert chain.store.path_of(md5_of(part)) is not None
    chain.ledger.apply(chain.sent[0][1].lease_id, "cancel")  # type: ignore[arg-type]
    chain.store.tidy()
    assert not {md5_of(part) for part in PARTS} & set(chain.store.held())


def test_the_pc_that_holds_the_scene_is_chosen_by_its_key(chain: Chain) -> None:
    parts = tuple(md5_of(part) for part in PARTS)
    chain.present = {"a": node("a", shared=parts), "b": node("b", archives=(KEY_OF_SCENE,)), "c": node("c")}
    lease = chain.grant(**in_chunks())
    chain.place_until(lambda: len(chain.sent) == 1)
    assert chain.ledger.get(lease.id).node_id == "b"
    need = Requirements(use_gpu=False, scene_key=KEY_OF_SCENE, renderer_md5=md5_of(RENDERER))
    chain.floor.upsert(node("c", warm=(KEY_OF_SCENE,)), KEY)
    assert chain.floor.choose(need, KEY) == "c"


def test_the_pc_that_works_on_the_scene_gets_its_next_frame(chain: Chain) -> None:
    chain.present = {"a": node("a", slots=2), "b": node("b", slots=2)}
    leases = []
    for number in range(2):
        leases.append(chain.grant(f"{number:04}", **in_chunks()))
        chain.place_until(lambda number=number: len(chain.sent) == number + 1)
    assert len({chain.ledger.get(lease.id).node_id for lease in leases}) == 1


def test_scenes_that_share_some_chunks_are_ordered_each_with_its_own(chain: Chain) -> None:
    chain.present = {"n1": node(slots=3)}
    scenes = {"0000": CHUNKS, "0001": CHUNKS[:3], "0002": (*CHUNKS[:2], CHUNKS[4])}
    chain.grant("0000", **in_chunks())
    chain.place_until(lambda: len(chain.sent) == 1)
    for number in ("0001", "0002"):
        chain.grant(number, **in_chunks(scenes[number]))
    assert chain.place() == 2, "everything is here"
    ordered = {order.frame: tuple(ref.md5 for ref in order.scene_archives) for _, order, _ in chain.sent}
    assert ordered == {number: tuple(chunk.md5 for chunk in chunks) for number, chunks in scenes.items()}


def test_another_order_of_the_same_chunks_is_another_scene(chain: Chain) -> None:
    there, back = chain.grant("0001", **in_chunks()), chain.grant("0002", **in_chunks(CHUNKS[::-1]))
    assert (there.scene_key, back.scene_key) == (KEY_OF_SCENE, scene_key([md5_of(part) for part in PARTS[::-1]]))
    assert there.scene_key != back.scene_key


def test_the_password_travels_with_the_start_and_with_nothing_else(chain: Chain) -> None:
    chain.grant(**in_chunks(password="opens the scene"))
    chain.place_until(lambda: len(chain.sent) == 1)
    signed, order, _ = chain.sent[0]
    assert order.scene_locked
    assert "opens the scene" not in signed.order + to_json(signed) + repr(order)
    answer = chain.claims.start(order.lease_id, 1, "n1", "word")
    assert answer.scene_password == "opens the scene"
    assert "opens" not in repr(answer)
    assert chain.claims.start(order.lease_id, 1, "n1", "word") == answer, "the answer was lost and is asked for again"
    assert from_json(type(answer), to_json(answer)) == answer


@pytest.mark.parametrize("password", [None, ""])
def test_an_order_for_a_scene_that_is_not_locked_says_so(chain: Chain, password: str | None) -> None:
    chain.grant(password=password)
    chain.place_until(lambda: len(chain.sent) == 1)
    assert not chain.sent[0][1].scene_locked
    assert chain.claims.start(chain.sent[0][1].lease_id, 1, "n1", "word").scene_password == ""
