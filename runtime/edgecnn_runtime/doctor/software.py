"""What is installed, and whether it loads."""

from __future__ import annotations

import re

from edgecnn_runtime.doctor import Finding, pip
from edgecnn_runtime.doctor._child import Said, ask

# Debian's packages, and so Raspberry Pi OS' and Ubuntu's, of the libraries that wheels leave to the system.
_APT = {
    "libGL.so.1": "libgl1",
    "libEGL.so.1": "libegl1",
    "libgthread-2.0.so.0": "libglib2.0-0",
    "libglib-2.0.so.0": "libglib2.0-0",
    "libSM.so.6": "libsm6",
    "libICE.so.6": "libice6",
    "libX11.so.6": "libx11-6",
    "libXext.so.6": "libxext6",
    "libXrender.so.1": "libxrender1",
    "libxcb.so.1": "libxcb1",
    "libgomp.so.1": "libgomp1",
    "libatomic.so.1": "libatomic1",
    "libstdc++.so.6": "libstdc++6",
    "libopenblas.so.0": "libopenblas0",
    "libgfortran.so.5": "libgfortran5",
}
# With our own name, so that pip finds the OpenCV that goes with it.
OLDER_NUMPY = pip("edgecnn-runtime", "numpy<2")
_VERSION = "import importlib.metadata\nanswer = importlib.metadata.version({!r})"


def libraries() -> list[Finding]:
    """NumPy, OpenCV and the engines: their versions, or what keeps them from loading."""
    numpy = _library("NumPy", "numpy", "numpy")
    opencv = _opencv()
    engines = [
        finding
        for module, package in (
            ("ai_edge_litert.interpreter", "ai-edge-litert"),
            ("tflite_runtime.interpreter", "tflite-runtime"),
        )
        if (finding := _library("TFLite engine", module, package)) is not None
    ]
    works = next((finding for finding in engines if finding.state == "ok"), None)
    missing = Finding("TFLite engine", "fail", "none is installed", pip("ai-edge-litert"))
    onnx = _library("ONNX engine", "onnxruntime", "onnxruntime")
    return [
        numpy or Finding("NumPy", "fail", "not installed", pip("numpy")),
        opencv,
        works or next(iter(engines), missing),
        onnx or Finding("ONNX engine", "ok", f"not installed; only .onnx files need it: {pip('onnxruntime')}"),
    ]


def _opencv() -> Finding:
    said = ask("import cv2\nanswer = cv2.__version__")
    if not said.error:
        return Finding("OpenCV", "ok", str(said.answer))
    if said.error.startswith("ModuleNotFoundError"):
        return Finding("OpenCV", "fail", "not installed", pip("opencv-python-headless"))
    return Finding("OpenCV", "fail", said.error, remedy(said.error, "opencv-python-headless"))


def _library(name: str, module: str, package: str) -> Finding | None:
    """None where it is not installed."""
    said: Said = ask(f"import {module}\n{_VERSION.format(package)}")
    if not said.error:
        return Finding(name, "ok", f"{package} {said.answer}")
    if f"No module named '{module.split('.')[0]}'" in said.error:
        return None
    return Finding(name, "fail", f"{package}: {said.error}", remedy(said.error, package))


def remedy(error: str, package: str) -> str:
    """What to do about a package that does not load, by what the loader says.

    Args:
        error: in one line.
        package: its name for pip.
    """
    library = re.search(r"(lib[\w.+-]+\.so[.\d]*): cannot open shared object file", error)
    if library:
        apt = _APT.get(library[1])
        return f"sudo apt install -y {apt}" if apt else f"install the system's package that has {library[1]}"
    if "GLIBC" in error:
        return f"this system is too old for this {package}: install a newer system, or an older version by pip"
    if is_of_older_numpy(error):
        return OLDER_NUMPY
    if "SIGILL" in error:
        return f"this processor lacks an instruction that {package} was built with: try an older version by pip"
    return pip("--force-reinstall", "--no-deps", package)


def is_of_older_numpy(error: str) -> bool:
    """Whether a module was compiled for NumPy 1, and found NumPy 2."""
    signs = ("NumPy 1.x", "_ARRAY_API", "numpy.core.multiarray failed to import", "numpy.dtype size changed")
    return any(sign in error for sign in signs)
