"""The browser viewer as a person runs it: a process of its own, spoken to over its port."""

from __future__ import annotations

import base64
import contextlib
import os
import re
import signal
import socket
import subprocess
import sys
from pathlib import Path
from urllib.parse import urlsplit

import pytest

ROOT = Path(__file__).resolve().parents[2]
_PATIENCE_S = 30.0


class RunningViewer:
    """A command that serves a scene: started, and its address read from what it says."""

    def __init__(self, *command: str) -> None:
        pytest.importorskip("viser", reason="viser (the extra 'browser') is not installed")
        self.process = subprocess.Popen(
            [sys.executable, *command],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONUNBUFFERED": "1"},
            # A test run in a shell's background has SIGINT ignored, and its children inherit that.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )
        assert self.process.stderr is not None
        said = ""
        for said in self.process.stderr:
            if "the scene is at" in said:
                break
        found = re.fullmatch(r"the scene is at (http://\S+/) ; Ctrl-C ends\n", said)
        assert found, f"{command} ended with {said!r}"
        self.announced, self.address = said, found[1]
        parts = urlsplit(self.address)
        assert parts.hostname == "127.0.0.1" and parts.port is not None
        self.port, self.path = parts.port, parts.path
        self.host = f"127.0.0.1:{self.port}"
        self.origin = f"http://{self.host}"

    def __enter__(self) -> RunningViewer:
        return self

    def __exit__(self, *error: object) -> None:
        self.process.kill()
        self.process.communicate()

    def interrupt(self) -> tuple[str, str]:
        """Press Ctrl-C; return what it wrote to stdout and, after its address, to stderr."""
        self.process.send_signal(signal.SIGINT)
        return self.process.communicate(timeout=60)

    def get(self, path: str | bytes, *headers: str) -> bytes:
        """Ask for ``path`` as it stands, with these ``headers`` alone; return the whole answer."""
        asked = path if isinstance(path, bytes) else path.encode()
        lines = "".join(f"{header}\r\n" for header in headers)
        return self.send(b"GET " + asked + b" HTTP/1.1\r\n" + lines.encode() + b"\r\n")

    def page(self, path: str | bytes) -> bytes:
        """Ask for ``path`` as a browser does that was told to open it."""
        return self.get(path, f"Host: {self.host}")

    def open_socket(self, path: str, *headers: str) -> bytes:
        """Ask for a WebSocket as viser's page does; return how the answer begins."""
        import viser

        return self.get(
            path,
            "Upgrade: websocket",
            "Connection: Upgrade",
            f"Sec-WebSocket-Key: {base64.b64encode(os.urandom(16)).decode()}",
            "Sec-WebSocket-Version: 13",
            f"Sec-WebSocket-Protocol: viser-v{viser.__version__}",
            *headers,
        )

    def send(self, request: bytes) -> bytes:
        """Return what comes back for ``request``: all of it, or the head of a WebSocket's."""
        answer = b""
        with socket.create_connection(("127.0.0.1", self.port), timeout=_PATIENCE_S) as connection:
            with contextlib.suppress(ConnectionResetError, BrokenPipeError):
                connection.sendall(request)
                while b"\r\n\r\n" not in answer or not answer.startswith(b"HTTP/1.1 101"):
                    got = connection.recv(1 << 16)
                    if not got:
                        break
                    answer += got
        return answer


def status(answer: bytes) -> int:
    """Return the status of an answer; 0 where the connection was closed without one."""
    return int(answer.split(b" ", 2)[1]) if answer else 0
