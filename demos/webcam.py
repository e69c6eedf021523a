"""Says what a camera sees.

    python demos/webcam.py ARTIFACT [CAMERA]

ARTIFACT is a model file that edgecnn exported. CAMERA is a number (0, the first camera, where it is left out),
a video file or a URL. End it with q in the window, or with Ctrl-C.
"""

from __future__ import annotations

import sys
import time
from contextlib import closing

from edgecnn_runtime import Classifier, EdgecnnError
from edgecnn_runtime.cameras import open_camera
from edgecnn_runtime.live.observation import Observation
from edgecnn_runtime.live.views import open_view


def main(artifact: str, camera: str = "0") -> None:
    # The file knows everything about the model: picture size, preprocessing, labels.
    classifier = Classifier.load(artifact)
    # "with" frees the camera and closes the window whatever happens. The view is a window where there is a display.
    with open_camera(camera) as frames, closing(open_view("auto")) as view:
        before = time.perf_counter()
        for frame in frames:
            # OpenCV's pictures are BGR, most others RGB: the wrong one costs accuracy and gives no error message.
            result = classifier.classify(frame.picture, color="bgr")
            # Here is the place for what you want to do: result.label is the class, or None where the model is unsure;
            # result.probability is how sure it is, 0 to 1; result.top(3) are the three best.
            frame_age_ms = (time.monotonic() - frame.captured_s) * 1000
            now = time.perf_counter()
            if not view.show(Observation(frame, result, frame_age_ms, fps=1 / (now - before))):
                break
            before = now


if __name__ == "__main__":
    if len(sys.argv) not in (2, 3):
        sys.exit(__doc__)
    try:
        main(*sys.argv[1:])
    except EdgecnnError as error:
        sys.exit(f"webcam.py: {error}")
    except KeyboardInterrupt:
        pass
