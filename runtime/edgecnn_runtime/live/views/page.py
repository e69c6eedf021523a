"""The page: a small web server of this process that shows the newest frame to any number of browsers.

A viewer asks for what is newest each time it has shown what it got, so that a slow one gets fewer frames and holds up
nobody. The loop's thread only leaves an observation here; the server's thread makes a JPEG of it when the first viewer
asks, once for all of them.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import secrets
import socket
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from edgecnn_runtime.errors import EdgecnnError
from edgecnn_runtime.live.artifact import Model
from edgecnn_runtime.live.listening import HOST as HOST
from edgecnn_runtime.live.listening import PORT as PORT
from edgecnn_runtime.live.listening import listen, needs_token
from edgecnn_runtime.live.loop import Tuning
from edgecnn_runtime.live.observation import Observation, trouble
from edgecnn_runtime.live.stats import Stats

TOP = 5

_MAX_FPS = 40.0  # a recording that is read as fast as it goes must not fill the network
_WAITING_S = 0.5  # how often viewers hear of a camera that gives nothing
_MAX_WIDTH_PX, _MAX_HEIGHT_PX, _QUALITY = 960, 720, 80
_JOIN_S = 1.5
_TOKEN = r"[A-Za-z0-9._~-]{16,}"  # needs no quoting in a URL or a cookie


@dataclass(frozen=True, eq=False)
class Moment:
    """What there is to show, and its number: another number is another moment. Without an observation before the first
    frame; while the camera gives nothing the observation is the last one, and `stats` go on."""

    serial: int
    observation: Observation | None
    stats: Stats


class Feed:
    """Hands the newest moment from the loop's thread to the viewers, who all live in one event loop."""

    def __init__(self) -> None:
        self.newest = Moment(0, None, Stats())
        self.ended = False
        self._events: asyncio.AbstractEventLoop | None = None
        self._changed = asyncio.Event()
        self._jpeg: tuple[int, bytes] = (-1, b"")  # without its observation, which would keep a frame in memory

    def attach(self) -> None:
        """Binds the feed to the running event loop, in which all but `publish` and `end` are called."""
        self._events = asyncio.get_running_loop()

    def publish(self, observation: Observation | None, stats: Stats) -> None:
        """Takes a moment; from one thread."""
        self.newest = Moment(self.newest.serial + 1, observation, stats)
        self._wake()

    def end(self) -> None:
        """Lets everybody go who waits."""
        self.ended = True
        self._wake()

    async def other_than(self, serial: int, timeout_s: float) -> Moment:
        """The newest moment, as soon as it is not number `serial`; the same one after `timeout_s` or at the end."""
        changed, moment = self._changed, self.newest  # in this order: nothing between the two is missed
        if moment.serial == serial and not self.ended:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(changed.wait(), timeout_s)
        return self.newest

    def jpeg(self, observation: Observation) -> bytes:
        """The frame as a JPEG file of at most 960x720 px, made once however many ask."""
        if self._jpeg[0] != observation.frame.index:
            picture = observation.frame.picture
            rows, columns = picture.shape[:2]
            scale = min(1.0, _MAX_WIDTH_PX / columns, _MAX_HEIGHT_PX / rows)
            if scale < 1:
                size = (max(1, round(columns * scale)), max(1, round(rows * scale)))
                picture = np.asarray(cv2.resize(picture, size, interpolation=cv2.INTER_AREA), np.uint8)
            data = cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, _QUALITY])[1].tobytes()
            self._jpeg = (observation.frame.index, data)
        return self._jpeg[1]

    def _wake(self) -> None:
        def wake() -> None:
            self._changed.set()
            self._changed = asyncio.Event()

        if self._events is not None:
            with contextlib.suppress(RuntimeError):  # the event loop has ended
                self._events.call_soon_threadsafe(wake)


class PageView:
    """Serves the page from a thread of its own.

    Args:
        model: what the page speaks of before the first frame.
        tuning: its threshold is the page's to change.
        token: what a viewer must know; None lets everybody in who reaches the address.

    Attributes:
        url: where the page is, with the token.

    Raises:
        EdgecnnError: the address cannot be had, now, or the server failed, in `show` and `wait`.
    """

    def __init__(
        self, model: Model, tuning: Tuning, host: str = HOST, port: int = PORT, token: str | None = None
    ) -> None:
        self._socket = listen(host, port)
        port = self._socket.getsockname()[1]
        shown = _reachable(host)
        self.url = f"http://{f'[{shown}]' if ':' in shown else shown}:{port}/"
        if token is not None:
            self.url += f"?token={token}"
        # Without a token the name that a browser asks for is the proof that no stranger's site, whose name leads here
        # ("DNS rebinding"), asks through it.
        hosts = None if token is not None else frozenset({"127.0.0.1", "localhost", "::1", host})
        self._published_s = -1.0
        self._observation: Observation | None = None
        self._said = ""
        self._failure: BaseException | None = None
        self.feed = Feed()
        self._stop = threading.Event()
        self._thread = threading.Thread(
            target=self._serve, args=(model, tuning, token, hosts), name="page", daemon=True
        )
        self._thread.start()

    def show(self, observation: Observation) -> bool:
        """See `edgecnn_runtime.live.views.View`."""
        self._check()
        now_s = time.monotonic()
        if now_s - self._published_s >= 1 / _MAX_FPS:
            self._publish(observation, observation.stats, now_s)
        self._observation = observation
        return True

    def wait(self, stats: Stats) -> bool:
        """See `edgecnn_runtime.live.views.View`."""
        self._check()
        now_s = time.monotonic()
        if trouble(stats) != self._said or now_s - self._published_s >= _WAITING_S:
            self._publish(self._observation, stats, now_s)
        return True

    def close(self) -> None:
        """Ends the server and frees the port, whoever is looking."""
        self._stop.set()
        self.feed.end()
        self._thread.join(_JOIN_S)
        self._socket.close()

    def _publish(self, observation: Observation | None, stats: Stats, now_s: float) -> None:
        self._published_s, self._said = now_s, trouble(stats)
        self.feed.publish(observation, stats)

    def _check(self) -> None:
        if not self._thread.is_alive():
            raise EdgecnnError(f"the page's server has ended: {self._failure or 'for no reason it gives'}")

    def _serve(self, model: Model, tuning: Tuning, token: str | None, hosts: frozenset[str] | None) -> None:
        try:
            # Imported here, beside the opening of the camera: it would put off the first answer by a tenth of a second.
            from edgecnn_runtime.live.views.page_server import make_app, serve

            asyncio.run(serve(make_app(self.feed, model, tuning, token, hosts), self.feed, self._socket, self._stop))
        except BaseException as error:  # said in the thread of the loop
            self._failure = error


def open_page(model: Model, tuning: Tuning, host: str, port: int, token_file: Path | None) -> PageView:
    """Opens the page of a model and says on stderr where it is.

    Raises:
        EdgecnnError: the address cannot be had, the token file is no good, or a token would have to be printed where
            nobody sees it.
    """
    token = None
    if token_file is not None:
        token = _read_token(token_file)
    elif needs_token(host):
        if not sys.stderr.isatty():  # a service's messages are kept in a log, where no secret belongs
            raise EdgecnnError(f"--host {host} without a terminal to print a token on needs --token-file FILE")
        token = secrets.token_urlsafe(16)
    page = PageView(model, tuning, host, port, token)
    # A token of a file is known already.
    hint = "  (Ctrl-C ends)" if sys.stderr.isatty() else ""
    print(f"page: {page.url.split('?')[0] if token_file else page.url}{hint}", file=sys.stderr, flush=True)
    return page


def _reachable(host: str) -> str:
    """An address for the URL: where the server listens on all of them, the one by which this machine is seen."""
    if host not in ("0.0.0.0", "::"):
        return host
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))  # of RFC 5737: sends nothing, and chooses the address that it would go from
            return str(probe.getsockname()[0])
        except OSError:
            return socket.gethostname()


def _read_token(path: Path) -> str:
    try:
        token = path.read_text("utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise EdgecnnError(f"{path}: the token cannot be read: {getattr(error, 'strerror', error)}") from error
    if not re.fullmatch(_TOKEN, token):
        raise EdgecnnError(
            f"{path}: a token is 16 or more letters and digits; write one with: openssl rand -hex 16 > {path}"
        )
    return token
