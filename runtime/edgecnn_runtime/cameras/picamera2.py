"""Camera modules of the Raspberry Pi, by picamera2: `picamera2:0`."""

from __future__ import annotations

import contextlib
import os
import time
from typing import TYPE_CHECKING, Any

from edgecnn_runtime.cameras import shown
from edgecnn_runtime.cameras._options import Options
from edgecnn_runtime.decode import Picture
from edgecnn_runtime.errors import EdgecnnError, first_line

if TYPE_CHECKING:
    import numpy as np

_RESOLUTION = (1280, 720)
_READ_TIMEOUT_S = 2.0
_INSTALL = "run 'sudo apt install -y python3-picamera2', in an environment made with --system-site-packages"


def claims(source: str) -> bool:
    """Only what is called picamera2:…"""
    return False


def connect(source: str, options: Options) -> PiCamera:
    """Opens and starts a camera module by its number, 0 where none is given. Raises EdgecnnError."""
    name = f"picamera2:{shown(source) or 0}"
    if not (source or "0").isdecimal():
        raise EdgecnnError(
            f"{name}: a camera module is named by its number, as picamera2:0 (received: {shown(source)})"
        )
    # picamera2 and libcamera print of every camera; both read these when they are imported.
    os.environ.setdefault("LIBCAMERA_LOG_LEVELS", "*:FATAL")
    os.environ.setdefault("PICAMERA2_LOG_LEVEL", "50")
    try:
        from picamera2 import Picamera2  # type: ignore[import-not-found,unused-ignore]
    except ModuleNotFoundError as error:
        raise EdgecnnError(f"{name}: picamera2 is not installed; {_INSTALL} (received: {first_line(error)})") from error
    except Exception as error:  # its compiled parts are made for the system's NumPy
        raise EdgecnnError(
            f"{name}: picamera2 does not load; 'edgecnn doctor' says what to do (received: {first_line(error)})"
        ) from error
    number = int(source or 0)
    try:
        known = len(Picamera2.global_camera_info())
    except Exception as error:  # libcamera raises whatever it likes
        raise EdgecnnError(f"{name}: libcamera cannot list the cameras (received: {first_line(error)})") from error
    if number >= known:
        raise EdgecnnError(f"{name}: no such camera module; check its cable (found: {known})")
    device = None
    try:
        device = Picamera2(number)
        # What picamera2 calls RGB888 lies in memory as B, G, R.
        main = {"size": options.resolution or _RESOLUTION, "format": "RGB888"}
        controls = {} if options.fps is None else {"FrameRate": options.fps}
        device.configure(device.create_video_configuration(main=main, controls=controls))
        device.start()
    except Exception as error:
        if device is not None:
            with contextlib.suppress(Exception):
                device.close()
        causes = [error, error.__cause__, error.__context__]
        reason = "; ".join(first_line(cause) for cause in causes if isinstance(cause, Exception))
        raise EdgecnnError(
            f"{name}: cannot be started; it serves one program at a time: end the other one (received: {reason})"
        ) from error
    return PiCamera(device, name, options.fps or 30.0)


class PiCamera:
    """A started Picamera2. See `edgecnn_runtime.cameras.Camera`."""

    live = True
    every = False

    def __init__(self, device: Any, name: str, fps: float) -> None:
        self.name, self.fps = name, fps
        self._device = device

    def read(self) -> tuple[Picture | None, float]:
        """See `edgecnn_runtime.cameras.Camera`."""
        try:
            request = self._device.capture_request(wait=_READ_TIMEOUT_S)
            try:
                picture: np.ndarray[Any, np.dtype[np.uint8]] = request.make_array("main")
                taken_ns = request.get_metadata().get("SensorTimestamp")
            finally:
                request.release()  # the camera has only a few buffers
        except TimeoutError as error:
            raise EdgecnnError(
                f"{self.name}: gives no picture; is its cable loose? (received: none in {_READ_TIMEOUT_S:g} s)"
            ) from error
        except Exception as error:
            raise EdgecnnError(f"{self.name}: stopped (received: {first_line(error)})") from error
        now_s = time.monotonic()
        if taken_ns is None:
            return picture, now_s
        # The sensor's clock goes on while the machine sleeps, which that of time.monotonic does not.
        age_s = time.clock_gettime(time.CLOCK_BOOTTIME) - taken_ns / 1e9
        return picture, now_s - max(0.0, age_s)

    def close(self) -> None:
        """Stops the camera and frees it."""
        with contextlib.suppress(Exception):  # one that is gone cannot be told to stop
            self._device.close()
