"""A real browser without a screen, by its DevTools protocol through a pipe (--remote-debugging-pipe): no library."""

from __future__ import annotations

import base64
import json
import os
import shutil
import subprocess
import time
from pathlib import Path
from types import TracebackType
from typing import Any, Self

FLAGS = (
    "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync --hide-scrollbars --disable-dev-shm-usage --remote-debugging-pipe"
)


def find_chromium() -> str | None:
    return next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


class Chromium:
    """One browser; `tab` opens a page in it."""

    def __init__(self, profile: Path) -> None:
        program = find_chromium()
        assert program is not None
        (theirs_in, self._out), (self._in, theirs_out) = os.pipe(), os.pipe()
        # It reads from descriptor 3 and writes to 4.
        script = f'exec "$0" {FLAGS} --user-data-dir="$1" 3<&{theirs_in} 4>&{theirs_out}'
        self._process = subprocess.Popen(
            ["bash", "-c", script, program, str(profile)],
            pass_fds=(theirs_in, theirs_out),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(theirs_in)
        os.close(theirs_out)
        self._count, self._rest = 0, b""
        self._contexts: list[str] = []
        self.events: list[dict[str, Any]] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self.call("Browser.close")
            self._process.wait(10)
        except Exception:
            self._process.kill()
            self._process.wait()
        os.close(self._out)
        os.close(self._in)

    def call(self, method: str, session: str | None = None, **parameters: Any) -> dict[str, Any]:
        self._count += 1
        message: dict[str, Any] = {"id": self._count, "method": method, "params": parameters}
        if session is not None:
            message["sessionId"] = session
        os.write(self._out, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._receive()
            if answer.get("id") == self._count:
                assert "error" not in answer, answer
                result: dict[str, Any] = answer["result"]
                return result
            self.events.append(answer)

    def _receive(self) -> dict[str, Any]:
        while b"\0" not in self._rest:
            part = os.read(self._in, 1 << 20)
            assert part, "the browser has ended"
            self._rest += part
        message, _, self._rest = self._rest.partition(b"\0")
        answer: dict[str, Any] = json.loads(message)
        return answer

    def tab(self, url: str, width: int = 1280, height: int = 900, scale: float = 1, **media: str) -> Tab:
        """A page of its own, which keeps no cookies of the others; `media` are features, as color_scheme="dark"."""
        context = self.call("Target.createBrowserContext")["browserContextId"]
        self._contexts.append(context)
        target = self.call("Target.createTarget", url="about:blank", browserContextId=context)["targetId"]
        session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        tab = Tab(self, session)
        size = {"width": width, "height": height, "deviceScaleFactor": scale, "mobile": width < 600}
        tab.call("Emulation.setDeviceMetricsOverride", **size)
        features = [{"name": f"prefers-{name.replace('_', '-')}", "value": value} for name, value in media.items()]
        tab.call("Emulation.setEmulatedMedia", features=features)
        tab.call("Runtime.enable")
        tab.call("Log.enable")
        tab.go(url)
        return tab

    def close_tabs(self) -> None:
        """They would go on asking for frames."""
        while self._contexts:
            self.call("Target.disposeBrowserContext", browserContextId=self._contexts.pop())
        self.events.clear()


class Tab:
    """One page."""

    def __init__(self, browser: Chromium, session: str) -> None:
        self._browser, self._session = browser, session

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        return self._browser.call(method, self._session, **parameters)

    def go(self, url: str) -> None:
        self.call("Page.navigate", url=url)
        self.until("document.readyState === 'complete' && location.href !== 'about:blank'")

    def get(self, expression: str) -> Any:
        """The value of a JavaScript expression."""
        answer = self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    def text(self, selector: str) -> str:
        text: str = self.get(f"document.querySelector({selector!r}).textContent")
        return text

    def until(self, expression: str, timeout_s: float = 30) -> Any:
        """Waits until an expression is true."""
        end_s = time.monotonic() + timeout_s
        while True:
            try:
                value = self.get(expression)
            except AssertionError:  # between two documents
                value = None
            if value:
                return value
            assert time.monotonic() < end_s, f"not within {timeout_s} s: {expression}"
            time.sleep(0.05)

    def press(self, key: str, code: int = 0) -> None:
        text = {"text": key} if len(key) == 1 else {}
        for kind in ("keyDown", "keyUp"):
            code = code or ord(key[0].upper())
            self.call("Input.dispatchKeyEvent", type=kind, key=key, windowsVirtualKeyCode=code, **text)

    def complaints(self) -> list[str]:
        """What the browser has to say against the page: errors of scripts, and breaches of its policy."""
        found = []
        self.get("0")
        for event in self._browser.events:
            if event.get("sessionId") == self._session:
                if event["method"] == "Runtime.exceptionThrown":
                    found.append(str(event["params"]["exceptionDetails"]))
                if event["method"] == "Log.entryAdded" and event["params"]["entry"]["level"] == "error":
                    found.append(str(event["params"]["entry"]["text"]))
        return found

    def screenshot(self, path: Path, whole: bool = True) -> None:
        data = self.call("Page.captureScreenshot", format="png", captureBeyondViewport=whole)["data"]
        path.write_bytes(base64.b64decode(data))
