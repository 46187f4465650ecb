"""One headless Chromium that tests steer through its debugging socket, so that a single start
serves many looks at a page."""

from __future__ import annotations

import base64
import io
import json
import shutil
import subprocess
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

PROGRAM = shutil.which("chromium") or shutil.which("google-chrome")
_PATIENCE_S = 90.0


class Chromium:
    """A browser with one page. Pixels are real: WebGL is drawn in software."""

    def __init__(self, profile: Path, *, width: int = 800, height: int = 600) -> None:
        if PROGRAM is None:
            pytest.skip("no Chromium to open the page with")
        client = pytest.importorskip("websockets.sync.client", reason="no websockets to steer it")
        self._process = subprocess.Popen(
            [
                PROGRAM,
                "--headless",
                "--no-sandbox",
                "--disable-gpu",
                "--disable-quic",
                "--no-first-run",
                "--disable-background-networking",
                "--disable-component-update",
                "--disable-sync",
                "--use-gl=angle",
                "--use-angle=swiftshader",
                "--enable-unsafe-swiftshader",
                "--hide-scrollbars",
                f"--user-data-dir={profile}",
                "--remote-debugging-port=0",
                "about:blank",
            ],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        told = profile / "DevToolsActivePort"
        wait_until(lambda: told.exists() and told.read_text().count("\n") >= 1)
        port = int(told.read_text().split("\n")[0])
        self._socket = client.connect(self._page_address(port), max_size=None, compression=None)
        self._number = 0
        self.resize(width, height)

    @staticmethod
    def _page_address(port: int) -> str:
        from urllib.request import urlopen

        with urlopen(f"http://127.0.0.1:{port}/json/list", timeout=_PATIENCE_S) as answer:
            targets = json.load(answer)
        return next(t["webSocketDebuggerUrl"] for t in targets if t["type"] == "page")

    def __enter__(self) -> Chromium:
        return self

    def __exit__(self, *error: object) -> None:
        self._socket.close()
        self._process.terminate()
        self._process.wait(30)

    def __call__(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Call one command of the DevTools protocol."""
        self._number += 1
        self._socket.send(json.dumps({"id": self._number, "method": method, "params": parameters}))
        while True:
            answer = json.loads(self._socket.recv(timeout=_PATIENCE_S))
            if answer.get("id") == self._number:
                assert "error" not in answer, answer
                return dict(answer["result"])

    def open(self, address: str) -> None:
        """Go to ``address`` and wait until it has loaded."""
        self("Page.navigate", url=address)
        wait_until(lambda: self.run("document.readyState == 'complete'") is True)

    def run(self, script: str) -> Any:
        """Return the value of ``script``."""
        answer = self("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    def resize(self, width: int, height: int, *, phone: bool = False) -> None:
        """Show pages ``width`` x ``height`` pixels large."""
        self(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=phone,
        )

    def mouse(self, *places: tuple[float, float], shift: bool = False) -> None:
        """Press at the first of ``places``, in pixels of the window, drag past the others, let go:
        of one place, a click."""
        keys = {"button": "left", "modifiers": 8 * shift}
        x, y = places[0]
        self("Input.dispatchMouseEvent", type="mouseMoved", x=x, y=y)
        self("Input.dispatchMouseEvent", type="mousePressed", x=x, y=y, clickCount=1, **keys)
        for x, y in places[1:]:
            self("Input.dispatchMouseEvent", type="mouseMoved", x=x, y=y, buttons=1, **keys)
        self("Input.dispatchMouseEvent", type="mouseReleased", x=x, y=y, clickCount=1, **keys)

    def fingers(self, *steps: list[tuple[float, float]]) -> None:
        """Touch at the places of the first step, move to those of the others, and let go."""
        for kind, places in zip(
            ["touchStart", *["touchMove"] * (len(steps) - 1)], steps, strict=True
        ):
            points = [{"x": x, "y": y, "id": k} for k, (x, y) in enumerate(places)]
            self("Input.dispatchTouchEvent", type=kind, touchPoints=points)
        self("Input.dispatchTouchEvent", type="touchEnd", touchPoints=[])

    def key(self, key: str, *, shift: bool = False) -> None:
        """Press and release ``key``, by its name in the DOM."""
        text = {"text": key} if len(key) == 1 else {"text": "\r"} if key == "Enter" else {}
        for kind in ("keyDown", "keyUp"):
            named = {"key": key, "code": key if len(key) > 1 else "", "modifiers": 8 * shift}
            self(
                "Input.dispatchKeyEvent", type=kind, **named, **(text if kind == "keyDown" else {})
            )

    def picture(self, *, whole: bool = False) -> np.ndarray:
        """Return what is seen, or the ``whole`` page, as (h, w, 3) uint8."""
        answer = self("Page.captureScreenshot", format="png", captureBeyondViewport=whole)
        packed = io.BytesIO(base64.b64decode(answer["data"]))
        return np.asarray(Image.open(packed).convert("RGB"))


def wait_until(condition: Any) -> None:
    """Wait for ``condition`` to hold; fail the test when it never does."""
    end = time.monotonic() + _PATIENCE_S
    while not condition():
        assert time.monotonic() < end, "the browser did not get there"
        time.sleep(0.05)
