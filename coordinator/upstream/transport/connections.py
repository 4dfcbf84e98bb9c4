"""The connections of one thread to the render server: their cookies, proxies and repetitions.

With ``http_transport.py``, the only files of the coordinator that import requests.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from http.cookiejar import Cookie
from importlib.metadata import PackageNotFoundError, version
from typing import Any
from urllib.parse import urlsplit

import requests
import urllib3
from requests.adapters import HTTPAdapter
from requests.cookies import RequestsCookieJar

from .deadline import HELD_POOLS

logging.getLogger("urllib3").setLevel(logging.WARNING)
# Its warning about a repeated request shows the whole URL.
logging.getLogger("urllib3.connectionpool").setLevel(logging.ERROR)


def _user_agent() -> str:
    try:
        return f"sheepfold/{version('sheepfold')}"
    except PackageNotFoundError:
        return "sheepfold"


USER_AGENT = _user_agent()


class SharedJar(RequestsCookieJar):
    """A cookie jar that one thread may walk through while another puts a cookie in."""

    _cookies_lock: Any

    def __iter__(self) -> Iterator[Cookie]:
        with self._cookies_lock:
            return iter(list(super().__iter__()))


class _Adapter(HTTPAdapter):
    """Connections that a deadline can end, through a proxy too."""

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        super().init_poolmanager(*args, **kwargs)
        self.poolmanager.pool_classes_by_scheme = HELD_POOLS

    def proxy_manager_for(self, proxy: str, **kwargs: Any) -> Any:
        manager = super().proxy_manager_for(proxy, **kwargs)
        if type(manager) is urllib3.ProxyManager:
            manager.pool_classes_by_scheme = HELD_POOLS
        return manager


class ThreadSession(requests.Session):
    """Never follows a redirect by itself: requests would first read that answer's body, however long it is."""

    def __init__(self, retry: urllib3.Retry) -> None:
        super().__init__()
        self._for_origin: dict[tuple[str, str], dict[str, Any]] = {}
        # Nothing here is worth compressing, and what is not compressed cannot be a bomb.
        self.headers.update({"User-Agent": USER_AGENT, "Accept-Encoding": "identity"})
        for scheme in ("http://", "https://"):
            self.mount(scheme, _Adapter(max_retries=retry, pool_connections=4, pool_maxsize=2))

    def get_redirect_target(self, resp: requests.Response) -> None:
        return None

    def merge_environment_settings(self, url: str, proxies: Any, stream: Any, verify: Any, cert: Any) -> Any:
        """Proxies and certificates for a server, looked up once: the environment stays as it is."""
        parts = urlsplit(url)
        origin = (parts.scheme, parts.netloc)
        if origin not in self._for_origin:
            self._for_origin[origin] = dict(super().merge_environment_settings(url, proxies, stream, verify, cert))
        return dict(self._for_origin[origin])


NO_PROXY: Any = {"http": None, "https": None, "all": None}
ONCE = urllib3.Retry(0, redirect=False, read=False, respect_retry_after_header=False)
REPEATED = urllib3.Retry(
    total=2,
    redirect=False,
    status_forcelist=(502, 503, 504),
    allowed_methods=("GET",),
    backoff_factor=0.5,
    backoff_jitter=0.5,
    raise_on_status=False,
    # A server could make us sleep for a year.
    respect_retry_after_header=False,
)
