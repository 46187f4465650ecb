"""viser behind a guard: its server answers whoever was given the scene's address, and nobody else.

By itself viser answers everyone who reaches its port, which on loopback is every user of the
machine and every web page open in their browsers: a page of another site may open the WebSocket,
or have a name of its own point here. So the address holds a secret, and a request is answered only
under that address, for this host, and from no other site's page. The secret is part of the path:
viser's page opens its WebSocket below its own address, and unlike a cookie a path is not sent to
the other servers of the same host.

The guard stands inside viser's own server, so that no port is left without it. What that takes of
viser: that it serves by ``websockets.asyncio.server.serve`` and answers HTTP in that server's
``process_request``. Where a viser does not, nothing is served.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import hmac
import http
import io
import logging
import secrets
import socket
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from pointmap.errors import InputError

if TYPE_CHECKING:
    from websockets.asyncio.server import ServerConnection
    from websockets.datastructures import Headers
    from websockets.http11 import Request, Response

    Answer = Callable[[ServerConnection, Request], Response | None]

LOOPBACK = "127.0.0.1"
DEFAULT_PORT = 8080  # viser's own
SERIES = "1.1"
"""The releases of viser that the guard was tried with."""

_HIGHEST_PORT = 65535
_HTTP_PORT = 80  # which browsers leave out of the Host header
_SECRET_BYTES = 24  # of the address: 192 random bits
_ANSWER_HEADERS = {
    # The address is the secret: no other site is told where a visitor came from.
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    # No other site's page may hold this one in a frame and steer the visitor's clicks.
    "X-Frame-Options": "DENY",
    "Content-Security-Policy": "frame-ancestors 'none'",
}
_starting = threading.Lock()


def guarded_server(port: int) -> tuple[Any, str]:
    """Start viser on loopback; return the ``ViserServer`` and the address that it answers under.

    ``port`` (1 to 65535) is the first one tried, the next free one is taken. Raises ``InputError``
    when viser is not installed or is another than the guard knows, and when no port can be had.
    """
    try:
        import viser
        import websockets.asyncio.server
    except ImportError as error:
        raise InputError(
            "the browser viewer needs the package viser: pip install 'pointmap[browser]'"
        ) from error
    if not viser.__version__.startswith(f"{SERIES}."):
        raise _unknown_viser(viser.__version__)
    from PIL import EpsImagePlugin

    # viser reads what a browser answers as its screenshot by content, and Pillow would hand EPS to
    # Ghostscript, a program that writes files. The switch is Pillow's only one, for the process.
    EpsImagePlugin.gs_binary = False
    # What others send, and the addresses in it, is neither for the command's user nor for a log.
    logging.getLogger("websockets").setLevel(logging.CRITICAL)
    listener = _listener(port)
    port = listener.getsockname()[1]
    guard = _Guard(port)
    guarded = False

    def guard_server(
        handler: Any, host: str, port: int, *, process_request: Answer, **settings: Any
    ) -> websockets.asyncio.server.serve:
        nonlocal guarded
        guarded = True
        return serve(
            handler,
            sock=listener,
            process_request=functools.partial(guard.answer, process_request),
            process_response=_add_headers,
            **settings,
        )

    # The function is the whole process's, so one viewer starts at a time.
    with _starting, contextlib.redirect_stdout(io.StringIO()):
        serve = websockets.asyncio.server.serve
        websockets.asyncio.server.serve = guard_server  # type: ignore[misc, assignment]
        try:
            server = viser.ViserServer(host=LOOPBACK, port=port, label="pointmap", verbose=False)
        finally:
            websockets.asyncio.server.serve = serve  # type: ignore[misc]
        if not guarded:
            server.stop()
            listener.close()
            raise _unknown_viser(viser.__version__)
    return server, f"http://{LOOPBACK}:{port}{guard.path}/"


class _Guard:
    """Decides what is answered on one port. ``path`` is the secret: the only path there is."""

    def __init__(self, port: int) -> None:
        self.path = f"/{secrets.token_urlsafe(_SECRET_BYTES)}"
        names = (LOOPBACK, "localhost")
        self._hosts = {f"{name}:{port}" for name in names}
        if port == _HTTP_PORT:
            self._hosts.update(names)

    def answer(
        self, viser_answer: Answer, connection: ServerConnection, request: Request
    ) -> Response | None:
        """Refuse a request, or have viser answer it as one for its page or its WebSocket.

        No other path reaches viser, which looks paths up among files.
        """
        if not self._admits(request.path, request.headers):
            return connection.respond(
                http.HTTPStatus.FORBIDDEN, "Open the whole address that the viewer has given.\n"
            )
        request.path = "/"
        return viser_answer(connection, request)

    def _admits(self, path: str, headers: Headers) -> bool:
        hosts, origins = headers.get_all("Host"), headers.get_all("Origin")
        if len(hosts) != 1 or hosts[0] not in self._hosts:
            return False
        # Browsers name the origin with every WebSocket; programs that know the address need not.
        if origins not in ([], [f"http://{hosts[0]}"]):
            return False
        asked = path.partition("?")[0].removesuffix("/").encode("ascii", "surrogateescape")
        return hmac.compare_digest(asked, self.path.encode())


def _add_headers(connection: ServerConnection, request: Request, response: Response) -> None:
    for name, value in _ANSWER_HEADERS.items():
        response.headers[name] = value


def _listener(port: int) -> socket.socket:
    """Return a listening socket on loopback, on ``port`` or the next one that is free."""
    if not 1 <= port <= _HIGHEST_PORT:
        raise InputError(f"port {port} does not exist: choose a --port from 1 to {_HIGHEST_PORT}")
    for candidate in range(port, _HIGHEST_PORT + 1):
        try:
            return socket.create_server((LOOPBACK, candidate))
        except PermissionError as error:
            raise InputError(
                f"this user may not open port {candidate}: choose a --port from 1024 on"
            ) from error
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                raise InputError(f"cannot open port {candidate}: {error.strerror}") from error
    raise InputError(
        f"the ports from {port} to {_HIGHEST_PORT} are all taken: choose another --port"
    )


def _unknown_viser(version: str) -> InputError:
    return InputError(
        f"the browser viewer can guard viser {SERIES} only and found {version}: "
        f"pip install 'viser=={SERIES}.*'"
    )
