"""Stands in for the package picamera2, of which it has the documented interface that edgecnn uses."""

from __future__ import annotations

import os
import time
from typing import ClassVar

import numpy as np


class Picamera2:
    calls: ClassVar[list] = []

    @staticmethod
    def global_camera_info():
        if os.environ.get("STAND_IN") == "no list":
            raise RuntimeError("libcamera: pipeline handler gone")
        return [{"Model": "imx708", "Num": 0}]

    def __init__(self, camera_num=0):
        if os.environ.get("STAND_IN") == "busy":
            cause = RuntimeError("Failed to acquire camera: Device or resource busy")
            raise RuntimeError("Camera __init__ sequence did not complete.") from cause
        self.calls.append(("open", camera_num))

    def create_video_configuration(self, main, controls):
        self.size = main["size"]
        return {"main": main, "controls": controls}

    def configure(self, config):
        self.calls.append(("configure", config))

    def start(self):
        self.calls.append(("start",))

    def capture_request(self, wait=None):
        if os.environ.get("STAND_IN") == "silent":
            raise TimeoutError
        time.sleep(0.02)
        return Request(self)

    def close(self):
        self.calls.append(("close",))
        if os.environ.get("STAND_IN") == "torn":
            raise RuntimeError("Camera is gone")


class Request:
    held = 0

    def __init__(self, camera):
        Request.held += 1
        self.camera = camera

    def make_array(self, name):
        assert name == "main"
        if os.environ.get("STAND_IN") == "torn":
            raise ValueError("cannot reshape array")
        width, height = self.camera.size
        picture = np.zeros((height, width, 3), np.uint8)
        picture[..., 0] = 200  # blue comes first in what picamera2 calls RGB888
        picture[0, :, 1] = np.random.randint(0, 255, width)
        return picture

    def get_metadata(self):
        return {"SensorTimestamp": time.clock_gettime_ns(time.CLOCK_BOOTTIME) - 15_000_000, "FrameDuration": 33333}

    def release(self):
        Request.held -= 1
