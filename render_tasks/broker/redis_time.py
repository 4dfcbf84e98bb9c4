"""What time it is by Redis' clock, over a connection of its own."""

from __future__ import annotations

from collections.abc import Callable

import redis

#: Seconds for an answer: an order waits for it, and so may whatever Celery's main thread hears next.
ANSWER_WITHIN_S = 4


def redis_time(redis_url: str) -> Callable[[], float | None]:
    """Asks for Unix seconds by that Redis' clock; the function gives ``None`` where it does not answer."""
    client = redis.Redis.from_url(  # pyright: ignore[reportUnknownMemberType]
        redis_url, socket_timeout=ANSWER_WITHIN_S, socket_connect_timeout=ANSWER_WITHIN_S
    )

    def ask() -> float | None:
        try:
            seconds, microseconds = client.time()  # pyright: ignore
        except (redis.RedisError, OSError):
            return None
        return seconds + microseconds / 1e6

    return ask
