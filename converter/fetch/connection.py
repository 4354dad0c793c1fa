"""Opens web addresses: by HTTP only, watched from the first byte, redirects left to the caller."""

from __future__ import annotations

import http.client
import urllib.request
from collections.abc import Callable
from functools import partial
from typing import Any, cast

from converter.fetch.watchdog import Watchdog


def watched_opener(watchdog: Watchdog) -> urllib.request.OpenerDirector:
    """What opens http and https addresses, through the proxies that the environment names.

    It follows no redirects: the standard library reads what comes with one into memory, however
    much that is.

    Args:
        watchdog: Is told of each connection as soon as there is one.
    """
    opener = urllib.request.OpenerDirector()
    for handler in (
        urllib.request.ProxyHandler(),
        urllib.request.UnknownHandler(),
        urllib.request.HTTPDefaultErrorHandler(),
        urllib.request.HTTPErrorProcessor(),
        _Http(watchdog),
        _Https(watchdog),
    ):
        opener.add_handler(handler)
    return opener


class _Watched(http.client.HTTPConnection):
    """A connection whose socket is watched, also while a proxy or encryption is agreed on."""

    def __init__(self, *given: Any, watchdog: Watchdog, **more: Any) -> None:
        self._watchdog = watchdog
        super().__init__(*given, **more)

    def __setattr__(self, name: str, value: Any) -> None:
        super().__setattr__(name, value)
        # It is set as soon as the server has been reached, and again once it is encrypted.
        if name == "sock" and value is not None:
            self._watchdog.watch(value)


class _WatchedSecure(_Watched, http.client.HTTPSConnection):
    """The same with encryption."""


class _Http(urllib.request.HTTPHandler):
    def __init__(self, watchdog: Watchdog) -> None:
        super().__init__()
        self._kind = _kind(_Watched, watchdog)

    def http_open(self, req: urllib.request.Request) -> http.client.HTTPResponse:
        return self.do_open(self._kind, req)


class _Https(urllib.request.HTTPSHandler):
    def __init__(self, watchdog: Watchdog) -> None:
        super().__init__()
        self._kind = _kind(_WatchedSecure, watchdog)

    def https_open(self, req: urllib.request.Request) -> http.client.HTTPResponse:
        return self.do_open(self._kind, req)


def _kind(connection: Callable[..., http.client.HTTPConnection], watchdog: Watchdog) -> Any:
    return cast(Any, partial(connection, watchdog=watchdog))
