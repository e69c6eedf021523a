"""From camera to frames: the newest, every one, and what happens when a camera fails. Bounds of time are generous."""

from __future__ import annotations

import http.server
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest

from edgecnn_runtime.cameras import Options, open_camera
from edgecnn_runtime.cameras.fake import Device, FakeCamera, Faults, draw_card, read_card
from edgecnn_runtime.decode import Picture
from edgecnn_runtime.errors import EdgecnnError, UsageError
from edgecnn_runtime.live import capture
from edgecnn_runtime.live.capture import Every, Frames, Newest, open_frames

LONG_S = 20.0


class Switched(Device):
    """A fake camera whose faults the test switches on and off, and that knows whether it is open."""

    def __init__(self) -> None:
        super().__init__(Faults())
        self.opened = self.closed = 0

    def fail(self, kind: str | None) -> None:
        self.faults = Faults(**({kind: (0, 1e9)} if kind else {}))

    def open(self, name: str, options: Options) -> FakeCamera:
        camera = super().open(name, options)
        self.opened += 1
        close = camera.close

        def closed() -> None:
            self.closed += 1
            close()

        camera.close = closed  # type: ignore[method-assign]
        return camera


@pytest.fixture
def device() -> Switched:
    return Switched()


@pytest.fixture
def frames(device: Switched) -> Iterator[Newest]:
    def connect() -> FakeCamera:
        return device.open("fake:", Options(resolution=(160, 120)))

    with Newest(connect(), connect, Options()) as newest:
        yield newest


def until(condition: Callable[[], bool]) -> float:
    """Waits for a condition and returns how long it took."""
    start = time.monotonic()
    while not condition():
        assert time.monotonic() - start < LONG_S
        time.sleep(0.01)
    return time.monotonic() - start


def next_frame(frames: Frames) -> Picture:
    while (frame := frames.next(0.1)) is None:
        pass
    return frame.picture


def test_a_driver_that_does_not_come_back_is_hung_and_one_that_does_is_not(
    frames: Newest, device: Switched, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(capture, "_HUNG_S", 1.5)
    next_frame(frames)
    device.fail("unplug")
    until(lambda: frames.health().state == "lost")
    time.sleep(2.0)  # it is tried again all the time
    assert frames.health().state == "lost"
    device.fail(None)
    until(lambda: frames.health().state == "ok")
    device.fail("hang")
    until(lambda: frames.health().state == "hung")
    device.fail(None)
    until(lambda: frames.health().state == "ok")


def test_a_recording_that_pauses_is_not_hung(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(capture, "_HUNG_S", 0.2)
    with open_frames("fake:frames=3", Options(fps=1)) as recording:
        next_frame(recording)
        end_s, states = time.monotonic() + 0.7, set()
        while time.monotonic() < end_s:
            states.add(recording.health().state)
            time.sleep(0.02)
    assert states == {"ok"}


def test_the_newest_frame_is_given_and_those_before_it_are_counted(frames: Newest) -> None:
    next_frame(frames)
    before = frames.health().dropped
    time.sleep(0.5)
    frame = frames.next(1)
    assert frame is not None
    _, shown_s = read_card(frame.picture)
    assert shown_s == pytest.approx(frame.captured_s, abs=2e-3)
    assert time.monotonic() - frame.captured_s < 0.4  # the one that was there first would be older
    assert frames.health().dropped > before
    following = frames.next(1)
    assert following is not None
    assert following.index > frame.index


@pytest.mark.parametrize("kind", ["unplug", "freeze", "black"])
def test_a_failing_camera_is_flagged_and_is_well_again_after_its_return(
    device: Switched, frames: Newest, kind: str
) -> None:
    next_frame(frames)
    assert frames.health().state == "ok"
    device.fail(kind)
    state = {"unplug": "lost", "freeze": "frozen", "black": "black"}[kind]
    flagged_s = until(lambda: frames.health().state == state)
    assert flagged_s > 0.5  # one bad moment is none
    if kind == "freeze":
        until(lambda: device.opened > 1)  # opening it again may help
    elif kind == "unplug":
        until(lambda: "unplugged" in frames.health().detail)
    else:
        time.sleep(0.3)
        assert device.opened == 1  # opening it again brings no light
    device.fail(None)
    until(lambda: frames.health().state == "ok")
    assert frames.health().detail == ""
    assert (frames.health().reconnections > 0) == (kind != "black")
    next_frame(frames)


def test_it_waits_longer_between_tries_and_never_more_than_a_second(device: Switched) -> None:
    tries: list[float] = []

    def connect() -> FakeCamera:
        tries.append(time.monotonic())
        return device.open("fake:", Options(resolution=(64, 48)))

    with Newest(connect(), connect, Options()) as frames:
        device.fail("unplug")
        until(lambda: len(tries) >= 6)
        device.fail(None)
        until(lambda: frames.health().state == "ok")
    waits = np.diff(tries[1:6])
    assert (waits > np.array([0.2, 0.4, 0.8, 1.0]) - 0.01).all()
    assert waits.max() < 3


def test_bad_frames_are_counted_and_never_given(device: Switched) -> None:
    device.faults = Faults(bad=100)

    def connect() -> FakeCamera:
        return device.open("fake:", Options(resolution=(160, 120), fps=1000))

    with Newest(connect(), connect, Options()) as frames:
        while frames.health().bad < 100:
            frame = frames.next(0.1)
            assert frame is None or frame.picture.shape == (120, 160, 3)
        next_frame(frames)
        until(lambda: frames.health().state == "ok")
        assert frames.health().bad == 100


class Scripted:
    """A camera that gives what it is told."""

    name, live, every, fps = "scripted", True, False, 30.0

    def __init__(self, readings: list[object], live: bool = True) -> None:
        self.live = live
        self._readings = iter(readings)
        self.closed = False

    def read(self) -> tuple[Picture | None, float]:
        time.sleep(0.005 if self.live else 0)
        reading = next(self._readings, EOFError())
        if isinstance(reading, Exception):
            raise reading
        return reading, time.monotonic()  # type: ignore[return-value]

    def close(self) -> None:
        self.closed = True


GOOD = np.full((48, 64, 3), 90, np.uint8)
BAD = [None, GOOD[:, :0], GOOD[:40], 7, GOOD.astype(np.float32), GOOD[None], GOOD[..., :2]]


def test_grey_pictures_become_bgr_and_other_shapes_are_bad() -> None:
    camera = Scripted([GOOD[..., 0], *BAD, GOOD], live=False)
    with Every(camera, Options()) as frames:
        pictures = [frame.picture for frame in frames]
        assert frames.health().bad == len(BAD)
    assert [picture.shape for picture in pictures] == [GOOD.shape] * 2
    assert camera.closed


def test_a_thousand_bad_reads_do_no_harm() -> None:
    readings = [reading for _ in range(200) for reading in (GOOD, *BAD[:5])]
    with Every(Scripted(readings, live=False), Options()) as frames:
        assert len(list(frames)) == 200
        assert frames.health().bad == 1000


def test_a_camera_that_opens_but_gives_nothing_is_an_error_with_what_it_gave() -> None:
    camera = Scripted([None] * 10_000)
    with pytest.raises(EdgecnnError, match=r"^scripted: gives no usable picture \(received: nothing\)$"):
        Newest(camera, lambda: camera, Options())
    assert camera.closed


def test_a_recording_without_a_frame_is_an_error() -> None:
    with pytest.raises(EdgecnnError, match=r"no picture in it can be read \(received: 2 bad ones\)"):
        list(Every(Scripted([None, None], live=False), Options()))
    with pytest.raises(EdgecnnError, match="no picture in it"):
        Newest(Scripted([], live=False), lambda: Scripted([]), Options())


def test_a_mistake_in_a_camera_ends_the_run_and_frees_it() -> None:
    camera = Scripted([GOOD, ZeroDivisionError()])
    with Newest(camera, lambda: camera, Options()) as frames, pytest.raises(ZeroDivisionError):
        list(frames)
    assert camera.closed


def test_close_frees_the_camera_and_ends_the_thread(device: Switched, frames: Newest) -> None:
    next_frame(frames)
    frames.close()
    frames.close()
    assert device.opened == 1
    assert device.closed >= 1
    assert not any(thread.name.startswith("capture") for thread in threading.enumerate())


def test_a_video_plays_at_its_own_speed_and_gives_its_last_frame() -> None:
    with open_frames("fake:frames=15") as frames:
        start = time.monotonic()
        seen = list(frames)
        taken_s = time.monotonic() - start
    assert 0.3 < taken_s < LONG_S
    assert seen[-1].index == 14
    assert seen[-1].at_s == pytest.approx(14 / 30)
    assert len(seen) + frames.health().dropped == 15


def test_every_frame_of_a_video_is_given_and_none_is_dropped() -> None:
    with open_frames("fake:frames=200", every_frame=True) as frames:
        seen = []
        for frame in frames:
            time.sleep(0.001)
            seen.append(frame)
    assert [frame.index for frame in seen] == list(range(200))
    assert [read_card(frame.picture)[0] for frame in seen] == list(range(200))
    assert frames.health().dropped == 0


def test_every_frame_of_a_live_camera_is_wrong_usage() -> None:
    with pytest.raises(UsageError, match="every frame is for recordings"):
        open_frames("fake:", every_frame=True)


def test_a_folder_gives_every_picture_of_whatever_size_and_counts_the_bad(tmp_path: Path) -> None:
    for index in range(5):
        data = cv2.imencode(".png", np.full((10 + index, 20, 3), 50, np.uint8))[1].tobytes()
        (tmp_path / f"{index}.png").write_bytes(data if index != 2 else data[:40])
    with open_frames(str(tmp_path)) as frames:
        seen = list(frames)
        assert frames.health().bad == 1
    assert [frame.picture.shape[0] for frame in seen] == [10, 11, 13, 14]
    assert [frame.index for frame in seen] == [0, 1, 2, 3]
    assert [frame.at_s for frame in seen] == [0, 1, 3, 4]


@pytest.mark.parametrize(("fps", "expected"), [(10.0, 20), (30.0, 60), (25.0, 50), (7.0, 14)])
def test_frames_beyond_the_fps_asked_for_are_left_out_evenly(fps: float, expected: int) -> None:
    class Recording(Scripted):
        def read(self) -> tuple[Picture | None, float]:
            picture, _ = super().read()
            self.count = getattr(self, "count", -1) + 1
            return picture, self.count / 30

    with Every(Recording([GOOD] * 60, live=False), Options(fps=fps)) as frames:
        times = [frame.at_s for frame in frames]
    assert len(times) == pytest.approx(expected, abs=1)
    assert max(np.diff(times)) <= 1 / fps + 1 / 30 + 1e-6


def test_options_are_applied_to_what_is_given() -> None:
    options = Options(rotation=90, resolution=(80, 60))
    with open_frames("fake:frames=2", options, every_frame=True) as frames:
        assert [frame.picture.shape for frame in frames] == [(80, 60, 3)] * 2


class MjpegServer:
    """A network camera that can be switched off, and on again at the same address."""

    def __init__(self) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}/video"
        self._server: http.server.ThreadingHTTPServer | None = None

    def start(self) -> None:
        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.send_response(200)
                self.send_header("Content-Type", "multipart/x-mixed-replace; boundary=frame")
                self.end_headers()
                number = 0
                while not self.server.off:  # type: ignore[attr-defined]
                    jpeg = cv2.imencode(".jpg", draw_card(number, time.monotonic(), (320, 240), (0, 200, 0)))[1]
                    head = f"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: {jpeg.size}\r\n\r\n"
                    try:
                        self.wfile.write(head.encode() + jpeg.tobytes() + b"\r\n")
                    except OSError:
                        return
                    number += 1
                    time.sleep(1 / 30)

            def log_message(self, *_: object) -> None:
                pass

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", self.port), Handler)
        self._server.daemon_threads = True
        self._server.off = False  # type: ignore[attr-defined]
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def stop(self) -> None:
        assert self._server is not None
        self._server.off = True  # type: ignore[attr-defined]
        self._server.shutdown()
        self._server.server_close()


@pytest.mark.slow
def test_a_network_camera_is_found_again_when_it_was_switched_off_and_on() -> None:
    server = MjpegServer()
    server.start()
    with open_frames(server.url) as frames:
        first = read_card(next_frame(frames))
        assert first[1] == pytest.approx(time.monotonic(), abs=5)
        server.stop()
        until(lambda: frames.health().state == "lost")
        until(lambda: "Connection refused" in frames.health().detail)
        server.start()
        until(lambda: frames.health().state == "ok")
        assert frames.health().reconnections == 1
        for _ in range(30):
            next_frame(frames)
        time.sleep(0.5)
        frame = frames.next(1)
        assert frame is not None
        assert time.monotonic() - read_card(frame.picture)[1] < 0.5  # no queue of old frames
    server.stop()


def test_ctrl_c_is_heard_while_a_camera_is_being_opened(monkeypatch: pytest.MonkeyPatch) -> None:
    opened = threading.Event()
    camera = Scripted([GOOD])

    def slow(source: str, options: Options) -> Scripted:
        opened.set()
        time.sleep(1.0)
        return camera

    monkeypatch.setattr(capture, "open_camera", slow)
    main = threading.get_ident()
    threading.Thread(target=lambda: (opened.wait(), signal.pthread_kill(main, signal.SIGINT))).start()
    with pytest.raises(KeyboardInterrupt):
        open_frames("0")
    assert not camera.closed
    until(lambda: camera.closed)  # what opens too late is closed again


def test_a_source_that_never_opens_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    camera = Scripted([GOOD])

    def slow(source: str, options: Options) -> Scripted:
        time.sleep(1.0)
        return camera

    monkeypatch.setattr(capture, "open_camera", slow)
    monkeypatch.setattr(capture, "_OPEN_S", 0.2)
    with pytest.raises(EdgecnnError, match=r"^http://\*\*\*@cam/x: does not open; .*nothing in 0.2 s"):
        open_frames("http://me:secret@cam/x")
    until(lambda: camera.closed)


def test_a_source_that_cannot_be_opened_is_its_own_error() -> None:
    with pytest.raises(EdgecnnError, match=r"^missing\.avi: no such video file"):
        open_frames("missing.avi")
    with pytest.raises(EdgecnnError):
        open_camera("missing.avi")
