"""The three wheels as a user gets them: built, and installed into an empty environment."""

from __future__ import annotations

import os
import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
PROJECTS = {"edgecnn": ".", "edgecnn_converters": "converters", "edgecnn_runtime": "runtime"}


@pytest.fixture(scope="module")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    pytest.importorskip("build")
    folder = tmp_path_factory.mktemp("wheels")
    for project in PROJECTS.values():
        command = [
            sys.executable,
            "-m",
            "build",
            "--wheel",
            "--no-isolation",
            "--outdir",
            str(folder),
            str(ROOT / project),
        ]
        done = subprocess.run(command, capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    return {path.name.split("-")[0]: path for path in folder.glob("*.whl")}


def environment(folder: Path, *wheels: Path) -> Path:
    """The Python of an empty environment that has `wheels`, and from this one what they need but not our packages."""
    venv.create(folder, with_pip=False, symlinks=True)
    python = folder / "bin" / "python"
    pip = [sys.executable, "-m", "pip", "--python", str(python), "install", "--no-deps", "--no-index", "--quiet"]
    done = subprocess.run([*pip, *map(str, wheels)], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    import numpy

    here, there = Path(numpy.__file__).parents[1], next(folder.glob("lib/*/site-packages"))
    for entry in here.iterdir():
        if (
            not entry.name.startswith(("edgecnn", "_edgecnn"))
            and entry.suffix != ".pth"
            and not (there / entry.name).exists()
        ):
            (there / entry.name).symlink_to(entry)
    return python


def run(python: Path, *words: object, cwd: Path) -> subprocess.CompletedProcess[str]:
    """Outside the clone."""
    own = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    command = [str(python), *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, env=own, cwd=cwd, timeout=120)


def test_what_is_in_them(wheels: dict[str, Path]) -> None:
    assert set(wheels) == set(PROJECTS)
    for name, path in wheels.items():
        with zipfile.ZipFile(path) as files:
            names = files.namelist()
            (metadata,) = (files.read(n).decode() for n in names if n.endswith(".dist-info/METADATA"))
        assert f"{name}/py.typed" in names
        assert any(n.endswith("licenses/LICENSE") for n in names)
        assert "License-Expression: Apache-2.0" in metadata
        assert "Requires-Python: <3.14,>=3.11" in metadata
        assert {n.split("/")[0].split("-")[0] for n in names} == {name}
        assert [line for line in metadata.splitlines() if "tensorflow" in line and "extra ==" not in line] == []


def test_the_lab_carries_its_data(wheels: dict[str, Path]) -> None:
    with zipfile.ZipFile(wheels["edgecnn"]) as files:
        names = set(files.namelist())
    assert names >= {
        "edgecnn/data/check.html.jinja",
        "edgecnn/evaluation/report.css",
        "edgecnn/evaluation/report.html.jinja",
        "edgecnn/data/embedded/fashion.zip",
        "edgecnn/data/embedded/LICENSE.fashion-mnist",
        "edgecnn/data/imagenet_labels.txt",
    }


def test_the_runtime_carries_its_page(wheels: dict[str, Path]) -> None:
    with zipfile.ZipFile(wheels["edgecnn_runtime"]) as files:
        names = set(files.namelist())
    folder = "edgecnn_runtime/live/views/static"
    assert names >= {f"{folder}/{name}" for name in ("page.html", "page.css", "page.js", "token.html", "icon.svg")}


def test_the_runtime_alone(wheels: dict[str, Path], tmp_path: Path, tiny_artifact: Path) -> None:
    python = environment(tmp_path / "venv", wheels["edgecnn_runtime"])
    where = run(python, "-c", "import edgecnn_runtime; print(edgecnn_runtime.__file__)", cwd=tmp_path).stdout
    assert where.startswith(str(tmp_path))
    version = wheels["edgecnn_runtime"].name.split("-")[1]
    edgecnn = tmp_path / "venv" / "bin" / "edgecnn"
    done = run(edgecnn, "--version", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (0, f"edgecnn {version}\n"), done.stderr
    assert run(edgecnn, "selftest", tiny_artifact, cwd=tmp_path).returncode == 0


def test_without_the_lab_train_names_the_pip_command(wheels: dict[str, Path], tmp_path: Path) -> None:
    environment(tmp_path / "venv", wheels["edgecnn_runtime"])
    done = run(tmp_path / "venv" / "bin" / "edgecnn", "train", "photos", cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "pip install 'edgecnn[cpu]'" in done.stderr


def test_all_three_together(wheels: dict[str, Path], tmp_path: Path) -> None:
    python = environment(tmp_path / "venv", *wheels.values())
    done = run(tmp_path / "venv" / "bin" / "edgecnn", "backbones", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "efficientnet_lite0" in done.stdout
    script = "import edgecnn, edgecnn_converters as c; print(edgecnn.__file__, c.__file__)"
    assert run(python, "-c", script, cwd=tmp_path).stdout.count(str(tmp_path)) == 2
