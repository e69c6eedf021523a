"""From a camera to frames: the newest one by a thread, or every one of a recording.

with open_frames("0") as frames:
    for frame in frames:
        ...
"""

from __future__ import annotations

import contextlib
import math
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from concurrent.futures import Future, InvalidStateError, wait
from dataclasses import dataclass, replace
from types import TracebackType
from typing import Self

import cv2
import numpy as np

from edgecnn_runtime.cameras import Camera, Frame, Options, open_camera, shown
from edgecnn_runtime.decode import Picture
from edgecnn_runtime.errors import EdgecnnError, UsageError
from edgecnn_runtime.live.watchdog import QUIET_S, State, Watchdog

_WAIT_S = 0.1  # how often whoever waits looks whether the camera is well
_OPEN_S = 15.0  # more than any kind of camera needs to give up by itself
_FIRST_RETRY_S, _LAST_RETRY_S = 0.1, 1.0
_FROZEN_RETRY_S = 2.0
_FIRST_FRAME_S = 2.0  # an opened camera may take so long for its first good frame
_AFTER_BAD_S = 0.01  # a device that fails at once must not be asked a million times a second
_HUNG_S = 9.0  # longer than any kind of camera takes to open or read, or to give it up
_JOIN_S = 1.5  # a thread that hangs in a driver is left behind after this; the process's end frees the device


@dataclass(frozen=True)
class Health:
    """How a source is and was.

    Attributes:
        state: "ok"; of a live camera also "lost" (no good frame for a second), "frozen" (the same bytes for a second)
            or "black". "hung": the driver has not come back for 9 s, so that nothing is tried any more.
        detail: why it could not be opened again; empty otherwise.
        dropped: good frames that nobody took, since a newer one was there.
        bad: reads that gave no picture, or one that cannot be used.
        reconnections: how often the camera was opened again and gave a good frame.
    """

    state: State = "ok"
    detail: str = ""
    dropped: int = 0
    bad: int = 0
    reconnections: int = 0


class Frames(ABC):
    """An open source of frames. Use it in a `with` statement, so that the device is free again whatever happens.

    Attributes:
        name: of the source, for messages; without a password.
        fps: frames per second as the source states them; 0 where it does not.
    """

    name: str
    fps: float

    @abstractmethod
    def next(self, timeout_s: float) -> Frame | None:
        """Waits for a frame that was not given yet; None where there is none in time.

        Raises:
            EOFError: a recording is at its end.
            EdgecnnError: a recording without a frame.
        """

    @abstractmethod
    def health(self) -> Health:
        """How the source is now."""

    @abstractmethod
    def stop(self) -> None:
        """Lets the source end while the caller closes something else. Does not wait; `close` is still needed."""

    @abstractmethod
    def close(self) -> None:
        """Frees the device, within two seconds; again is harmless."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __iter__(self) -> Iterator[Frame]:
        """Frames until a recording ends; waits as long as a camera is lost. Raises EdgecnnError as `next` does."""
        while True:
            try:
                frame = self.next(_WAIT_S)
            except EOFError:
                return
            if frame is not None:
                yield frame


def open_frames(source: str, options: Options | None = None, every_frame: bool = False) -> Frames:
    """Opens a camera, a video or a folder.

    A live camera gives its newest frame, read by a thread, and is opened again when it is lost or frozen. A video file
    does so too, at its own speed. A folder gives every picture.

    Args:
        source: see `edgecnn_runtime.cameras.open_camera`.
        every_frame: a recording's every frame, as fast as they are taken.

    Raises:
        EdgecnnError: the source cannot be opened, or not in 15 s, or a live camera gave no frame yet.
        UsageError: every frame of a live camera was asked for.
    """
    options = options or Options()

    def connect() -> Camera:
        return open_camera(source, options)

    camera = _opened(connect, shown(source))
    if camera.live and every_frame:
        camera.close()
        raise UsageError(f"{camera.name}: every frame is for recordings; a live camera gives its newest")
    return Every(camera, options) if camera.every or every_frame else Newest(camera, connect, options)


def _opened(connect: Callable[[], Camera], name: str) -> Camera:
    """Opens in another thread, since Ctrl-C is not heard while a driver or a network camera is being opened, and some
    never come back: OpenCV waits for ever for a GStreamer pipeline that lacks an element."""
    future: Future[Camera] = Future()

    def work() -> None:
        with contextlib.suppress(InvalidStateError):  # nobody waits any more
            try:
                camera = connect()
            except Exception as error:
                future.set_exception(error)
                return
            try:
                future.set_result(camera)
            except InvalidStateError:
                camera.close()

    try:
        threading.Thread(target=work, name="open camera", daemon=True).start()
        end_s = time.monotonic() + _OPEN_S
        while not future.done():
            if time.monotonic() > end_s:
                raise EdgecnnError(
                    f"{name}: does not open; try it with another program (received: nothing in {_OPEN_S:g} s)"
                )
            wait([future], _WAIT_S)
        return future.result()
    except BaseException:
        future.cancel()
        raise


class Every(Frames):
    """Every frame of a recording, read when it is asked for."""

    def __init__(self, camera: Camera, options: Options) -> None:
        self.name, self.fps = camera.name, options.fps or camera.fps
        self._reader = _Reader(camera, options)

    def next(self, timeout_s: float) -> Frame | None:
        """See `Frames`. None for a bad frame, and for one that `Options.fps` leaves out."""
        return self._reader.take()

    def health(self) -> Health:
        """See `Frames`."""
        return Health(bad=self._reader.bad)

    def stop(self) -> None:
        """See `Frames`. Nothing goes on by itself."""

    def close(self) -> None:
        """See `Frames`."""
        self._reader.camera.close()


class Newest(Frames):
    """The newest frame of a camera, which a thread reads, watches and opens again; a recording at its own speed.

    Args:
        camera: open; belongs to this object from now on.
        connect: opens the camera again; called in the thread.

    Raises:
        EdgecnnError: the camera is open but gives no picture.
    """

    def __init__(self, camera: Camera, connect: Callable[[], Camera], options: Options) -> None:
        self.name, self.fps = camera.name, options.fps or camera.fps
        self._connect, self._reader = connect, _Reader(camera, options)
        self._changed = threading.Condition()
        self._stop = threading.Event()
        self._join_until_s = math.inf
        self._newest: Frame | None = None
        self._failure: Exception | None = None
        self._started = self._ended = False
        self._watchdog = Watchdog(time.monotonic(), max(QUIET_S, 3 / camera.fps if camera.fps else 0.0))
        self._detail = ""
        self._dropped = self._reconnections = 0
        self._entered_s: float | None = None
        self._thread = threading.Thread(target=self._run, name=f"capture {self.name}", daemon=True)
        self._thread.start()
        try:
            with self._changed:
                while not (self._started or self._ended):
                    self._changed.wait(_WAIT_S)
            if self._failure is not None:
                raise self._failure
        except BaseException:
            self.close()
            raise

    def next(self, timeout_s: float) -> Frame | None:
        """See `Frames`."""
        with self._changed:
            self._changed.wait_for(lambda: self._newest is not None or self._ended, timeout_s)
            frame, self._newest = self._newest, None
            if frame is None and self._ended:
                raise self._failure or EOFError
            return frame

    def health(self) -> Health:
        """See `Frames`."""
        with self._changed:
            now_s, entered_s = time.monotonic(), self._entered_s
            state: State = self._watchdog.state(now_s) if self._reader.camera.live else "ok"
            if entered_s is not None and now_s - entered_s >= max(_HUNG_S, self._watchdog.quiet_s):
                state = "hung"
            return Health(state, self._detail, self._dropped, self._reader.bad, self._reconnections)

    def stop(self) -> None:
        """See `Frames`."""
        self._stop.set()
        self._join_until_s = min(self._join_until_s, time.monotonic() + _JOIN_S)

    def close(self) -> None:
        """See `Frames`."""
        self.stop()
        self._thread.join(max(0.0, self._join_until_s - time.monotonic()))

    def _run(self) -> None:
        try:
            if self._reader.camera.live:
                self._watch()
            else:
                self._play()
        except EOFError:
            pass
        except Exception as error:  # said in the thread of whoever waits for a frame
            self._failure = error
        finally:
            self._reader.camera.close()
            with self._changed:
                self._ended = True
                self._changed.notify_all()

    @contextlib.contextmanager
    def _in_driver(self) -> Iterator[None]:
        """Notes since when the thread is where it may never come back from."""
        self._entered_s = time.monotonic()
        try:
            yield
        finally:
            self._entered_s = None

    def _play(self) -> None:
        start_s = time.monotonic()
        while not self._stop.is_set():
            with self._in_driver():
                frame = self._reader.take()
            if frame is not None:
                self._stop.wait(start_s + frame.at_s - time.monotonic())
                self._publish(replace(frame, captured_s=time.monotonic()))

    def _watch(self) -> None:
        while True:
            try:
                self._read()
            except EdgecnnError as error:
                if not self._started:
                    raise
                self._detail = str(error)
            with self._in_driver():
                self._reader.camera.close()
            if not self._reconnect():
                return

    def _read(self) -> None:
        """Publishes frames until it is time to open the camera again, or to end. Raises EdgecnnError."""
        opened_s = good_s = time.monotonic()
        seen = False
        while not self._stop.is_set():
            with self._in_driver():
                frame = self._reader.take()
            now_s, picture = time.monotonic(), self._reader.picture
            if picture is None:
                if now_s - good_s >= (self._watchdog.quiet_s if seen else _FIRST_FRAME_S):
                    raise EdgecnnError(f"{self.name}: gives no usable picture (received: {self._reader.received})")
                self._stop.wait(_AFTER_BAD_S)
                continue
            with self._changed:
                if self._started and not seen:
                    self._reconnections += 1
                    self._detail = ""
                self._watchdog.saw(picture, now_s)
                frozen = self._watchdog.state(now_s) == "frozen"
            good_s, seen = now_s, True
            if frame is not None:
                self._publish(frame)
            if frozen and now_s - opened_s >= _FROZEN_RETRY_S:
                return

    def _reconnect(self) -> bool:
        """Tries until it is open, waiting twice as long each time, up to a limit; False where it is to end."""
        wait_s = _FIRST_RETRY_S
        while not self._stop.wait(wait_s):
            try:
                with self._in_driver():
                    self._reader.attach(self._connect())
                return True
            except EdgecnnError as error:
                self._detail = str(error)
            wait_s = min(2 * wait_s, _LAST_RETRY_S)
        return False

    def _publish(self, frame: Frame) -> None:
        with self._changed:
            self._dropped += self._newest is not None
            self._newest = frame
            self._started = True
            self._changed.notify_all()


class _Reader:
    """Reads a camera, refuses what is no picture, applies the options: the one place for all sources.

    Attributes:
        camera: what is read; `attach` another one when it was opened again.
        bad: how many reads gave no good picture.
        picture: what the last read gave, before the options; None where it was bad.
        received: what the last bad read gave, in words.
    """

    def __init__(self, camera: Camera, options: Options) -> None:
        self.camera = camera
        self.bad = 0
        self.picture: Picture | None = None
        self.received = ""
        self._options = options
        self._size: tuple[int, ...] | None = None
        self._index = 0
        self._first_s: float | None = None
        self._due_s: float | None = None

    def attach(self, camera: Camera) -> None:
        """Goes on with a camera that was opened again; it may have another size."""
        self.camera, self._size = camera, None

    def take(self) -> Frame | None:
        """The next frame; None for a bad one, and for one that comes sooner than `Options.fps` wants.

        Raises:
            EOFError, EdgecnnError: as `Camera.read`; EdgecnnError also for a recording without a frame.
        """
        try:
            received, time_s = self.camera.read()
        except EOFError:
            if self._first_s is None:
                raise EdgecnnError(
                    f"{self.camera.name}: no picture in it can be read (received: {self.bad} bad ones)"
                ) from None
            raise
        self.picture = self._checked(received)
        if self.picture is None or not self._is_due(time_s):
            return None
        if self._first_s is None:
            self._first_s = time_s
        captured_s = time_s if self.camera.live else time.monotonic()
        index, self._index = self._index, self._index + 1
        return Frame(self._options.apply(self.picture), captured_s, index, time_s - self._first_s)

    def _checked(self, received: object) -> Picture | None:
        if isinstance(received, np.ndarray) and received.dtype == np.uint8 and received.size:
            picture = cv2.cvtColor(received, cv2.COLOR_GRAY2BGR) if received.ndim == 2 else received
            # A live camera keeps its size until it is opened again: another one is a mistake. Photos differ.
            size = picture.shape[:2]
            if picture.ndim == 3 and picture.shape[2] == 3 and (self.camera.every or size == (self._size or size)):
                self._size = size
                return np.asarray(picture, np.uint8)
        self.bad += 1
        words = type(received).__name__, *map(str, getattr(received, "shape", ())), str(getattr(received, "dtype", ""))
        self.received = "nothing" if received is None else " ".join(words).strip()
        return None

    def _is_due(self, time_s: float) -> bool:
        if self._options.fps is None:
            return True
        due_s = time_s if self._due_s is None else self._due_s
        if time_s < due_s - 1e-3:
            return False
        # One that comes late does not put off the next; those of a pause are not made up for.
        self._due_s = max(due_s + 1 / self._options.fps, time_s)
        return True
