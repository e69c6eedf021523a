"""A killed training, resumed, gives the weights of one that was never killed."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from edgecnn.commands._training import resume_run, train_run
from edgecnn.training import recipes
from edgecnn.training.augment import augment
from edgecnn.training.options import Augmentation, HeadOptions, Optimization, Tuning
from edgecnn.training.run import part_of, read_run
from edgecnn_runtime.errors import EdgecnnError

KILLS = 10


@pytest.fixture(scope="module")
def demanding(shapes, config):
    """A config in which everything has a state: dropout, plateau, early stopping, average of weights, two tunings and
    their mean; and whose network is tuned at another size than it has."""
    return config(
        shapes,
        recipe="best",
        backbone="mobilenet",
        height=64,
        width=64,
        tuning=Tuning(train_size=32, soup=2),
        head=HeadOptions(dropout=0.4, normalization="batch"),
        optimization=Optimization(
            optimizer="adam", learning_rate=3e-4, schedule="plateau", batch_size=8, epochs=12, patience=3,
            averaging=0.9, label_smoothing=0.1,
        ),
        augmentation=Augmentation(flip="horizontal", rotation=0.05, crop=0.6, randaugment=5.0, mixup=0.2, cutmix=1.0),
    )  # fmt: skip


@pytest.fixture(scope="module")
def uninterrupted(demanding, tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole") / "run"
    train_run(demanding, folder, False, 2)
    return read_run(folder)


class _Stop(Exception):  # noqa: N818
    """Raised where the process would die."""


@pytest.mark.long
@pytest.mark.parametrize("pictures", [30, pytest.param(75, marks=pytest.mark.all), 130])
def test_any_moment_of_an_epoch(demanding, uninterrupted, tmp_path, monkeypatch, pictures):
    """Dies in the middle of an epoch, after so many augmented pictures, and again after as many more."""
    count = 0

    def dying(*words):
        nonlocal count
        count += 1
        if count % pictures == 0:
            raise _Stop
        return augment(*words)

    folder = tmp_path / "run"
    with monkeypatch.context() as patch:
        patch.setattr(recipes, "augment", dying)
        with pytest.raises(Exception, match="_Stop"):
            train_run(demanding, folder, False, 2)
        assert not folder.exists()
    assert part_of(folder).exists()
    resume_run(folder, 2)
    again = read_run(folder)
    assert again.metrics["weights_sha256"] == uninterrupted.metrics["weights_sha256"]
    assert again.history == uninterrupted.history
    assert set(again.history["stage"]) == {1, 2, 3, 4}
    assert again.metrics["kept"] == uninterrupted.metrics["kept"]
    assert not part_of(folder).exists()


@pytest.mark.long
def test_ten_kills_at_random_moments(shapes, tmp_path):
    words = [
        sys.executable, "-m", "edgecnn_runtime", "train", str(shapes), "--recipe", "course", "--backbone", "basic_cnn",
        "--weights", "none", "--size", "32", "--epochs", "6", "--batch-size", "8",
    ]  # fmt: skip
    whole, run = tmp_path / "whole", tmp_path / "run"
    start = time.monotonic()
    subprocess.run([*words, "--out", str(whole)], check=True, capture_output=True)
    lasts_s = time.monotonic() - start
    moments = random.Random(7)
    command = [*words, "--out", str(run)]
    kills = 0
    while not run.exists() and kills < KILLS:
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        try:
            process.wait(moments.uniform(0.3, 1.0) * lasts_s)
        except subprocess.TimeoutExpired:
            os.kill(process.pid, signal.SIGKILL)
            process.wait()
            kills += 1
        else:
            assert process.returncode == 0, process.stderr.read()
        if part_of(run).exists():
            command = [*words[:4], "--resume", str(run)]
    if not run.exists():
        subprocess.run(command, check=True, capture_output=True)
    assert kills > 1
    assert read_run(run).metrics["weights_sha256"] == read_run(whole).metrics["weights_sha256"]


@pytest.mark.parametrize("signal_number", [signal.SIGINT, signal.SIGTERM])
def test_signals_end_with_one_line_and_a_resumable_run(shapes, tmp_path, signal_number):
    run = tmp_path / "run"
    words = ("--backbone", "basic_cnn", "--weights", "none", "--size", "32", "--epochs", "100000", "--patience", "0")
    process = subprocess.Popen(
        [sys.executable, "-m", "edgecnn_runtime", "train", str(shapes), "--out", str(run), *words],
        stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    deadline = time.monotonic() + 120
    while not (part_of(run) / "history.csv").exists():
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.05)
    process.send_signal(signal_number)
    _, error = process.communicate(timeout=60)
    said = f"edgecnn: error: interrupted; go on with: edgecnn train --resume {run}\n"
    assert (process.returncode, error) == (130, said)
    assert (part_of(run) / "history.csv").read_text().startswith("epoch,stage,")
    with pytest.raises(EdgecnnError, match="was interrupted"):
        read_run(run)


BEGUN = """
import os, signal, sys, time
from pathlib import Path
from edgecnn.commands import _training
from edgecnn.training.presets import make_config

def waits():  # as Keras does for its pipeline's threads
    try:
        os.kill(os.getpid(), signal.SIGTERM)
    finally:
        time.sleep(300)

def changes():  # as TensorFlow does where it has called Python
    try:
        os.kill(os.getpid(), signal.SIGTERM)
    except BaseException:
        raise RuntimeError("UNKNOWN: KeyboardInterrupt") from None

class drops:
    def __del__(self):  # what is raised here is gone
        os.kill(os.getpid(), signal.SIGINT)

def repeats():
    both = signal.SIGINT, signal.SIGTERM
    signal.pthread_sigmask(signal.SIG_BLOCK, both)
    for number in both:
        os.kill(os.getpid(), number)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, both)

data, run, begun = sys.argv[1:]
words = {"backbone": "basic_cnn", "recipe": "scratch", "weights": "none", "size": 32}
config, _ = make_config(Path(data), words, {"disc": 40, "square": 40})
print("training", end="")
_training.train_run(config, Path(run), False, 1, begun=globals()[begun])
"""


_TRAIN = """
import os, signal, sys
from edgecnn.training import train
from edgecnn_runtime import cli
from edgecnn_runtime.quiet import quiet

def signalled(*words, **options):
    with quiet():
        os.kill(os.getpid(), signal.SIGINT)

{change}
sys.argv[1:] = ["train", {data!r}, "--out", {run!r}, "--backbone", "basic_cnn", "--weights", "none", "--size", "32"]
cli.main()
"""
MOMENTS = {
    "begins": _TRAIN.replace("{change}", "train.build = signalled"),
    "is quiet": _TRAIN.replace("{change}", "train.recipes.train = signalled"),
}


@pytest.mark.parametrize("begun", ["waits", "changes", "drops", "repeats"])
def test_a_signal_ends_whatever_the_training_does(shapes, tmp_path, begun):
    run = tmp_path / "run"
    words = [sys.executable, "-c", BEGUN, str(shapes), str(run), begun]
    done = subprocess.run(words, capture_output=True, text=True, timeout=120, check=False)
    said = f"edgecnn: error: interrupted; go on with: edgecnn train --resume {run}\n"
    assert (done.returncode, done.stdout, done.stderr) == (130, "training", said)
    assert part_of(run).exists()


@pytest.mark.parametrize("moment", ["begins", "is quiet"])
def test_a_signal_before_or_under_what_is_kept_quiet_is_said_too(shapes, tmp_path, moment):
    run = tmp_path / "run"
    script = MOMENTS[moment].format(data=str(shapes), run=str(run))
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=120, check=False)
    resume = f"edgecnn: error: interrupted; go on with: edgecnn train --resume {run}\n"
    assert (done.returncode, done.stderr) == (130, resume if moment == "is quiet" else "edgecnn: interrupted\n")


@pytest.mark.skipif(os.name != "posix", reason="needs a pseudo-terminal")
def test_a_signal_leaves_a_terminal_as_it_was(shapes, tmp_path):
    import pty

    run = tmp_path / "run"
    words = ("--backbone", "basic_cnn", "--weights", "none", "--size", "32", "--epochs", "100000", "--patience", "0")
    master, slave = pty.openpty()
    command = [sys.executable, "-m", "edgecnn_runtime", "train", str(shapes), "--out", str(run), *words]
    streams = dict.fromkeys(("stdin", "stdout", "stderr"), slave)
    environment = {**os.environ, "TERM": "xterm"}
    with subprocess.Popen(command, **streams, env=environment, start_new_session=True) as process:
        os.close(slave)
        deadline = time.monotonic() + 120
        shown, sent = b"", False
        while True:
            try:
                shown += os.read(master, 4096)
            except OSError:  # the other end is closed
                break
            assert time.monotonic() < deadline or process.kill()
            if not sent and b"\x1b[?25l" in shown and (part_of(run) / "history.csv").exists():
                process.send_signal(signal.SIGINT)
                sent = True
    os.close(master)
    assert process.returncode == 130
    last = shown[shown.rindex(b"\x1b[?25l") :]
    line = f"\r\n\x1b[?25hedgecnn: error: interrupted; go on with: edgecnn train --resume {run}\r\n".encode()
    assert last.endswith(line)


def test_nothing_to_resume_is_one_line(here, refused, finished, tmp_path):
    assert "nothing to resume: the run does not exist" in refused("train", "--resume", tmp_path / "nowhere")
    assert "nothing to resume: the run is complete" in refused("train", "--resume", finished.folder)
    part = tmp_path / "run.part"
    part.mkdir()
    assert f"resume it by its name, --resume {tmp_path / 'run'}" in refused("train", "--resume", part)
    assert "a run needs a folder of its own (received: /)" in refused("train", "--resume", "/", code=2)
    assert "nothing to resume" in refused("train", "--resume", ".")
    assert "--resume takes no other options" in refused("train", "--resume", finished.folder, "--epochs", 3, code=2)
    assert "--resume takes no other" in refused("train", "--resume", finished.folder, "--find-learning-rate", code=2)
    assert "name the data, or an interrupted run" in refused("train", code=2)


def test_damaged_checkpoint_is_one_line(demanding, tmp_path, refused, monkeypatch):
    from edgecnn.training.run import begin_run
    from edgecnn.training.train import load_pictures

    pictures = load_pictures(demanding)
    folder = tmp_path / "run"
    known = {"unreadable": [], "groups": []}
    part = begin_run(folder, demanding, pictures.labels, pictures.entries, False, known)
    (part / "head-done.npz").write_bytes(Path(__file__).read_bytes())
    assert "head-done.npz: the checkpoint is damaged" in refused("train", "--resume", folder)


@pytest.mark.slow
def test_full_disk_is_one_line_and_loses_nothing(demanding, tmp_path, monkeypatch):
    from edgecnn.training import callbacks

    whole = callbacks.np.savez

    def full(stream, **arrays):
        if "model/0" in arrays:
            raise OSError(28, "No space left on device")
        whole(stream, **arrays)

    monkeypatch.setattr(callbacks.np, "savez", full)
    with pytest.raises(EdgecnnError, match=r"No space left on device\); make room, then: edgecnn train --resume"):
        train_run(demanding, tmp_path / "run", False, 2)
    assert (part_of(tmp_path / "run") / "head-done.npz").exists()
    assert not list(part_of(tmp_path / "run").glob(".*.tmp"))


def test_what_was_found_in_the_data_outlives_an_interruption(config, shapes, tmp_path, refused, monkeypatch):
    from edgecnn.commands import _training

    data = tmp_path / "data"
    shutil.copytree(shapes, data)
    (data / "circle" / "broken.jpg").write_bytes(b"no picture")

    def interrupted(*_: object) -> None:
        raise _Stop

    with monkeypatch.context() as patch:
        patch.setattr(_training, "train", interrupted)
        with pytest.raises(_Stop):
            train_run(config(data), tmp_path / "run", False, 2)
    resume_run(tmp_path / "run", 2)
    ((path, reason),) = read_run(tmp_path / "run").metrics["unreadable"]
    assert path.endswith("broken.jpg")
    assert reason

    part = part_of(tmp_path / "other")
    with monkeypatch.context() as patch:
        patch.setattr(_training, "train", interrupted)
        with pytest.raises(_Stop):
            train_run(config(shapes), tmp_path / "other", False, 2)
    for damaged in ("{}", '{"unreadable": [], "groups": [[1000000]]}', '{"unreadable": 3, "groups": []}'):
        (part / "metrics.json").write_text(damaged)
        assert "metrics.json: damaged" in refused("train", "--resume", tmp_path / "other")


def test_a_disk_that_is_full_for_the_report_costs_no_training(config, shapes, tmp_path, monkeypatch):
    from edgecnn.commands import _training

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(_training, "write_run_report", full)
        with pytest.raises(EdgecnnError, match="No space left on device"):
            train_run(config(shapes), tmp_path / "run", False, 2)
    trained = json.loads((part_of(tmp_path / "run") / "metrics.json").read_text())
    with monkeypatch.context() as patch:
        patch.setattr(recipes, "whole", full)  # it would be called to train again
        resume_run(tmp_path / "run", 2)
    assert read_run(tmp_path / "run").metrics["weights_sha256"] == trained["weights_sha256"]
    assert not list((tmp_path / "run").glob("*.npz"))
