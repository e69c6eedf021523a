"""What is loaded by what, and one version everywhere."""

from __future__ import annotations

import json
import subprocess
import sys
import time
import tomllib
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
PROJECTS = (".", "converters", "runtime")
HEAVY = ("tensorflow", "keras", "torch", "tf2onnx", "onnx", "matplotlib", "edgecnn", "edgecnn_converters")

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


def python(script: str) -> str:
    return subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=60).stdout


def test_no_module_of_the_runtime_loads_a_framework() -> None:
    names, loaded = json.loads(python(EVERY_MODULE))
    assert "edgecnn_runtime.backends.tflite" in names
    assert [name for name in HEAVY if name in loaded] == []


def test_help_loads_no_framework_though_it_lists_the_lab() -> None:
    loaded = json.loads(python(HELP))
    assert [name for name in HEAVY[:6] if name in loaded] == []


def test_the_engines_are_loaded_on_use_only() -> None:
    script = "import sys, edgecnn_runtime; print([n for n in ('onnxruntime', 'ai_edge_litert') if n in sys.modules])"
    assert python(script).strip() == "[]"


def test_the_runtime_is_imported_quickly() -> None:
    times = []
    for _ in range(3):
        start = time.perf_counter()
        python("import edgecnn_runtime")
        times.append(time.perf_counter() - start)
    assert min(times) < 1.0, "0.2 s on an idle machine"


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
