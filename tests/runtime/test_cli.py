"""The command line as processes: exit codes, one line for an error, nothing but the answer on stdout."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import edgecnn_runtime

COMMANDS = ("classify", "doctor", "evaluate", "info", "live", "selftest")


def edgecnn(*words: object, **options: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "edgecnn_runtime", *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, **options)  # type: ignore[call-overload, no-any-return]


def test_version() -> None:
    done = edgecnn("--version")
    assert (done.returncode, done.stdout) == (0, f"edgecnn {edgecnn_runtime.__version__}\n")


def test_help_lists_the_commands_of_runtime_and_lab() -> None:
    for words in (["--help"], ["-h"], []):
        done = edgecnn(*words)
        assert done.returncode == 0
        assert all(name in done.stdout for name in (*COMMANDS, "train", "export"))


@pytest.mark.parametrize("command", COMMANDS)
def test_each_command_has_help_with_an_example(command: str) -> None:
    done = edgecnn(command, "--help")
    assert done.returncode == 0
    assert f"Example: edgecnn {command} " in " ".join(done.stdout.split())
    assert done.stderr == ""


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["clasify"], "no such command: clasify; did you mean 'classify'?"),
        (["trian"], "did you mean 'train'?"),
        (["zzzz"], "no such command: zzzz; 'edgecnn --help' lists them"),
        (["info"], "Missing argument 'artifact'. (see --help)"),
        (["info", "a", "b"], "unexpected extra argument"),
        (["info", "a", "--speed"], "No such option: --speed"),
        (["--speed"], "No such option: --speed"),
        (["classify", "a.tflite", "b", "--top", "0"], "Invalid value for '--top'"),
        (["classify", "a.tflite", "b", "--threshold", "2"], "Invalid value for '--threshold'"),
        (["classify", "a.tflite", "b", "--size", "32"], "needs all three: --size, --range and --labels"),
    ],
)
def test_wrong_usage_is_one_line_and_2(words: list[str], message: str) -> None:
    done = edgecnn(*words)
    assert (done.returncode, done.stdout) == (2, "")
    (line,) = done.stderr.splitlines()
    assert line.startswith("edgecnn: error: ")
    assert message.casefold() in line.casefold()  # versions of typer differ


def test_a_failure_is_one_line_and_1_and_debug_shows_where(tmp_path: Path) -> None:
    missing = tmp_path / "não existe.tflite"
    done = edgecnn("info", missing)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == f"edgecnn: error: {missing}: cannot be read: No such file or directory\n"
    for words in (["--debug", "info", missing], ["info", missing, "--debug"]):
        done = edgecnn(*words)
        assert done.returncode == 1
        assert "Traceback" in done.stderr
        assert "ModelError" in done.stderr


def test_an_error_of_the_program_itself_is_one_line_too() -> None:
    script = (
        "import edgecnn_runtime.artifact as artifact\n"
        "def fail(*_): raise KeyError('a\\nb')\n"
        "artifact.read_artifact = fail\n"
        "from edgecnn_runtime.cli import main; main(['info', 'x.tflite'])"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    assert done.stderr == "edgecnn: error: KeyError: 'a\\nb' (--debug shows where)\n"


def test_the_lab_is_named_where_it_is_not_installed() -> None:
    script = "import edgecnn_runtime.cli as cli\ncli._lab = dict\ncli.main(['train', 'photos', '--out', 'run'])"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60)
    assert done.returncode == 2
    assert done.stderr == (
        "edgecnn: error: 'edgecnn train' belongs to the lab, which is not installed: "
        "run \"pip install 'edgecnn[cpu]'\"\n"
    )


@pytest.mark.skipif(os.name != "posix", reason="a shell's pipe")
@pytest.mark.parametrize("words", [(), ("--json",), ("--help",)])
def test_a_reader_that_goes_away(tiny_artifact: Path, words: tuple[str, ...]) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    command = [sys.executable, "-m", "edgecnn_runtime", "info", str(tiny_artifact), *words]
    done = subprocess.run(command, stdout=writer, stderr=subprocess.PIPE, text=True, timeout=60)
    os.close(writer)
    assert (done.returncode, done.stderr) == (1, "")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="a full disk")
def test_output_to_a_full_disk_is_one_line(tiny_artifact: Path) -> None:
    command = [sys.executable, "-m", "edgecnn_runtime", "info", str(tiny_artifact)]
    with open("/dev/full", "w") as full:
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, timeout=60)
    assert done.returncode == 1
    assert done.stderr.startswith("edgecnn: error: ")
    assert "No space left on device" in done.stderr
    assert done.stderr.count("\n") == 1


def test_output_is_utf_8_in_a_plain_locale(tiny_artifact: Path) -> None:
    plain = {**os.environ, "LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    done = edgecnn("info", tiny_artifact, env=plain, encoding="utf-8")
    assert (done.returncode, done.stderr) == (0, "")
    assert "…" in done.stdout


def test_json_goes_alone(tiny_artifact: Path) -> None:
    for words in (["info", tiny_artifact], ["selftest", tiny_artifact]):
        done = edgecnn(*words, "--json")
        document = json.loads(done.stdout)
        assert (document["schema"], document["command"], done.returncode, done.stderr) == (1, words[0], 0, "")
        assert done.stdout.count("\n") == 1
