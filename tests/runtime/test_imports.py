"""What is loaded by what, and one version everywhere."""

from __future__ import annotations

import json
import subprocess
import sys
import tomllib
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

ROOT = Path(__file__).parents[2]
PROJECTS = (".", "converters", "runtime")
HEAVY = ("tensorflow", "keras", "torch", "tf2onnx", "onnx", "matplotlib", "edgecnn", "edgecnn_converters")

DEVICE = ("ai_edge_litert", "anyio", "asyncio", "cv2", "numpy", "onnxruntime", "rich", "starlette", "uvicorn")

EVERY_MODULE = """
import importlib, json, pkgutil, sys
import edgecnn_runtime
names = [m.name for m in pkgutil.walk_packages(edgecnn_runtime.__path__, "edgecnn_runtime.")]
for name in names:
    if not name.endswith("__main__"):
        importlib.import_module(name)
print(json.dumps([names, sorted({name.split(".")[0] for name in sys.modules})]))
"""
HELP = """
import contextlib, io, json, sys
from edgecnn_runtime.cli import main
with contextlib.suppress(SystemExit), contextlib.redirect_stdout(io.StringIO()):
    main(["--help"])
print(json.dumps(sorted({name.split(".")[0] for name in sys.modules})))
"""
# The command line without the lab's commands, and at the end on stderr what it has loaded; without a word, what the
# package alone loads.
COMMAND = """
import json, sys
import edgecnn_runtime
try:
    if len(sys.argv) > 1:
        from edgecnn_runtime import cli
        cli._lab = dict
        cli.main(sys.argv[1:])
finally:
    print(json.dumps(sorted({name.split(".")[0] for name in sys.modules})), file=sys.stderr)
"""


def python(script: str) -> str:
    return subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=60).stdout


def test_no_module_of_the_runtime_loads_a_framework() -> None:
    names, loaded = json.loads(python(EVERY_MODULE))
    assert "edgecnn_runtime.backends.tflite" in names
    assert [name for name in HEAVY if name in loaded] == []


def test_help_loads_no_framework_though_it_lists_the_lab() -> None:
    loaded = json.loads(python(HELP))
    assert [name for name in HEAVY[:6] if name in loaded] == []


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("", []),
        ("--help", ["rich"]),
        ("--version", []),
        ("doctor --json", []),
        ("info TFLITE", ["ai_edge_litert", "numpy"]),
        ("info ONNX", ["numpy"]),
        ("info TFLITE --labels", ["numpy"]),
        ("selftest TFLITE", ["ai_edge_litert", "cv2", "numpy"]),
        ("selftest ONNX", ["cv2", "numpy", "onnxruntime"]),
        ("classify TFLITE PICTURE", ["ai_edge_litert", "cv2", "numpy"]),
        ("evaluate TFLITE PICTURES", ["ai_edge_litert", "cv2", "numpy"]),
        ("bench TFLITE --threads 1 --seconds 0 --json", ["ai_edge_litert", "cv2", "numpy"]),
        ("service status", []),
        ("service print TFLITE --user nobody", ["cv2", "numpy"]),  # the options' own checks stand beside OpenCV
        ("live TFLITE --camera fake:frames=3 --jsonl -", ["ai_edge_litert", "cv2", "numpy"]),
        (
            "live TFLITE --camera fake: --frames 30 --port 0",
            ["ai_edge_litert", "anyio", "asyncio", "cv2", "numpy", "rich", "starlette", "uvicorn"],
        ),
    ],
)
def test_a_command_imports_what_it_uses_and_no_more(
    words: str, expected: list[str], tiny_artifact: Path, tiny_onnx: Path, tmp_path: Path
) -> None:
    picture = tmp_path / "pictures" / "red" / "1.png"
    picture.parent.mkdir(parents=True)
    cv2.imwrite(str(picture), np.full((40, 40, 3), (0, 0, 220), np.uint8))
    named = {"TFLITE": tiny_artifact, "ONNX": tiny_onnx, "PICTURE": picture, "PICTURES": picture.parents[1]}
    command = [sys.executable, "-c", COMMAND, *(str(named.get(word, word)) for word in words.split())]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    loaded = set(json.loads(done.stderr.splitlines()[-1]))
    assert sorted(loaded & {*DEVICE, *HEAVY}) == expected


def test_arrows_go_one_way() -> None:
    command = [str(Path(sys.executable).with_name("lint-imports")), "--no-cache"]
    if not Path(command[0]).exists():
        pytest.skip("import-linter is not installed")
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-1000:]


def test_one_version_everywhere() -> None:
    import edgecnn_converters
    import edgecnn_runtime

    lab = python("import edgecnn; print(edgecnn.__version__)").strip()
    projects = [project(name) for name in PROJECTS]
    lines = [line for one in projects for line in every_requirement(one)]
    pins = [line.split("==")[1] for line in lines if line.startswith("edgecnn")]
    assert len(pins) >= 3
    versions = {edgecnn_runtime.__version__, edgecnn_converters.__version__, lab, *pins}
    assert versions | {one["version"] for one in projects} == {edgecnn_runtime.__version__}


def project(name: str) -> dict[str, Any]:
    table: dict[str, Any] = tomllib.loads((ROOT / name / "pyproject.toml").read_text("utf-8"))["project"]
    return table


def every_requirement(table: dict[str, Any]) -> list[str]:
    return [
        *table["dependencies"],
        *(line for lines in table.get("optional-dependencies", {}).values() for line in lines),
    ]


def test_only_extras_name_tensorflow() -> None:
    for name in PROJECTS:
        assert not [line for line in project(name)["dependencies"] if line.startswith(("tensorflow", "keras", "torch"))]


def test_the_commands_that_the_runtime_says_belong_to_the_lab() -> None:
    from edgecnn_runtime.cli import LAB_COMMANDS

    assert set(LAB_COMMANDS) == {entry.name for entry in entry_points(group="edgecnn.commands")}
