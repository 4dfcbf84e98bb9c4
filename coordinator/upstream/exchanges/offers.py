"""An offer as the rest of the coordinator sees it: with one way to its scene, and a place for its frame. Pure."""

from __future__ import annotations

from dataclasses import replace

from sheepfold.protocol.dialects import Dialect
from sheepfold.protocol.messages import JobAnswer, JobOffer, UnreadableOffer
from sheepfold.protocol.session_messages import Endpoints

#: The first generation that gets its scenes in chunks.
CHUNKS_SINCE = 2024


def usable(answer: JobAnswer, endpoints: Endpoints, dialect: Dialect) -> JobAnswer:
    """The answer; an offer that this session could not carry out is one that cannot be read."""
    offer = answer.offer
    if offer is None:
        return answer
    offer = _with_one_scene(offer, endpoints, dialect)
    reason = _missing(offer, endpoints)
    if not reason:
        return replace(answer, offer=offer)
    unreadable = UnreadableOffer(job=offer.job_id, frame=offer.frame, extras=offer.extras, reason=reason)
    return replace(answer, offer=None, unreadable=unreadable)


def _with_one_scene(offer: JobOffer, endpoints: Endpoints, dialect: Dialect) -> JobOffer:
    """Servers that speak to every generation name the scene twice: as one archive, and as chunks."""
    if not offer.chunks or not offer.archive_md5:
        return offer
    speaks_chunks = bool(endpoints.download_chunk) and dialect.year >= CHUNKS_SINCE
    if speaks_chunks or not endpoints.download_archive:
        return replace(offer, archive_md5="")
    return replace(offer, chunks=())


def _missing(offer: JobOffer, endpoints: Endpoints) -> str:
    if offer.chunks and not endpoints.download_chunk:
        return "its scene comes in chunks, and the server has no download-chunk"
    if not offer.chunks and not endpoints.download_archive:
        return "its scene is one archive, and the server has no download-archive"
    if offer.validation_url is None and not endpoints.validate_job:
        return "it names no validation_url, and the server has no validate-job"
    return ""
