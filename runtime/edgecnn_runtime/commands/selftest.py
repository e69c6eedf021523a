"""`edgecnn selftest`."""

from __future__ import annotations

from edgecnn_runtime.commands import _model, print_json
from edgecnn_runtime.errors import ModelError


def selftest(artifact: _model.Artifact, json: _model.Json = False, threads: _model.Threads = 1) -> None:
    """Prove that this device computes what the lab measured, by the pictures inside the artifact.

    Example: edgecnn selftest efficientnet_lite0-int8.tflite
    """
    from edgecnn_runtime import Classifier

    classifier = Classifier.load(artifact, threads)
    goldens = len(classifier.contract.goldens)
    if not goldens:
        raise ModelError(f"{artifact}: has no goldens; export it again")
    try:
        worst = classifier.selftest()
    except ModelError as error:
        raise ModelError(f"{artifact}: {error}") from error
    if json:
        print_json("selftest", {"artifact": str(artifact), "passed": True, "goldens": goldens, "worst": worst})
    else:
        print(f"{artifact}: passed, {goldens} goldens, largest difference {worst:.0%} of the tolerance")
