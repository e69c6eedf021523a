"""Says what a camera sees.

    python demos/webcam.py ARTIFACT [CAMERA]

ARTIFACT is a model file that edgecnn exported. CAMERA is a number (0, the first camera, where it is left out), a video
file, a folder, a URL, picamera2:0 or fake: (a test card). End it with q in the window, or with Ctrl-C.
"""

from __future__ import annotations

import sys
from contextlib import closing

from edgecnn_runtime import Classifier, EdgecnnError
from edgecnn_runtime.live.capture import open_frames
from edgecnn_runtime.live.decision import Rules, decide
from edgecnn_runtime.live.observation import Observation
from edgecnn_runtime.live.stats import Statistics
from edgecnn_runtime.live.views import open_view


def main(artifact: str, camera: str = "0") -> None:
    # The file knows everything about the model: picture size, preprocessing, labels, from where on it is unsure.
    classifier = Classifier.load(artifact)
    rules, decision, statistics = Rules.of(classifier), None, Statistics()
    # "with" frees the camera and closes the window whatever happens. The view is a window where there is a display.
    with open_frames(camera) as frames, closing(open_view("auto")) as view:
        for frame in frames:  # always the newest: those that came while the model was busy are left out
            # OpenCV's pictures are BGR, most others RGB: the wrong one costs accuracy and gives no error message.
            result = classifier.classify(frame.picture, color="bgr")
            # One frame says little. The decision averages over time, so that the answer does not flicker.
            decision = decide(decision, frame.at_s, result.probabilities, rules)
            # Here is the place for what you want to do: decision.label is the answer, None where the model is unsure;
            # decision.event is the label once, when it has stood for half a second.
            if not view.show(Observation(frame, result, decision, statistics.add(frame, result, frames.health()))):
                break


if __name__ == "__main__":
    if len(sys.argv) not in (2, 3):
        sys.exit(__doc__)
    try:
        main(*sys.argv[1:])
    except EdgecnnError as error:
        sys.exit(f"webcam.py: {error}")
    except KeyboardInterrupt:
        pass
