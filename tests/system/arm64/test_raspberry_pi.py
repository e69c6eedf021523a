"""The wheel on a Raspberry Pi: every command of the device, held against this machine's answers."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import matplotlib
import numpy as np
import pytest

from edgecnn_runtime import Classifier
from edgecnn_runtime.backends import module_for
from edgecnn_runtime.classifier import read_artifact, write_artifact
from edgecnn_runtime.contract import Contract, Preprocessing, Provenance
from tests.system.arm64.emulated_pi import (
    BOARDS,
    ENVIRONMENT,
    FILES,
    OLD_ENGINE,
    EmulatedPi,
    install_old_engine,
    prepared,
    unavailable,
)

pytestmark = pytest.mark.arm64

BACKBONE, SIZE_PX = "efficientnet_lite0", 96
ARTIFACTS = ("float32.tflite", "int8.tflite", "float32.onnx")
ONNX_INT8 = "int8.onnx"  # whose engine rounds otherwise on arm64
INTEGERS = "integers.tflite"
PICTURES = 6
FLOAT_TOLERANCE = 1e-5
# Of the self-test's tolerance, which is narrow for a network of floats and does not count with a resampler that rounds.
MAX_SHARE = {"float32": 2.0, "int8": 1.0, "integers": 1.0}
MAX_VIDEO_LEVELS = 2
TOKEN = {"Authorization": "Bearer 0123456789abcdef"}
TINY = ("tiny-int8.tflite", "tiny-float32.onnx")

Pixels = Mapping[str, np.ndarray]
MAX_FIRST_DECISION_S = 180


@pytest.fixture(scope="session", autouse=True)
def available() -> None:
    if reason := unavailable():
        pytest.skip(reason)


@pytest.fixture(scope="session")
def files(tmp_path_factory: pytest.TempPathFactory, tiny_artifact: Path, tiny_onnx: Path) -> Path:
    """A network with ImageNet weights as artifacts, pictures and a video: pictures/*.png have the network's size and
    are not resampled, photos/*.jpg and goldens/<artifact>/*.jpg are; labelled/ has pictures/ once more."""
    from bench._networks import stock_tflite
    from edgecnn import backbones
    from edgecnn_converters import formats
    from edgecnn_converters.freeze import freeze
    from edgecnn_converters.goldens import make_goldens

    folder = tmp_path_factory.mktemp("files")
    pictures = _draw(folder)
    model = backbones.get(BACKBONE).build_classifier(SIZE_PX, SIZE_PX)
    function = freeze(model, SIZE_PX, SIZE_PX)
    graphs = {INTEGERS: stock_tflite(model, pictures)}
    for name in (*ARTIFACTS, ONNX_INT8):
        precision, format = name.split(".")
        graphs[name] = formats.get(format).convert(function, precision, pictures)
    labels = tuple(f"thing {number}" for number in range(1000))
    for name, graph in graphs.items():
        source = Provenance(backbone=BACKBONE, precision=name.split(".")[0], weights="ImageNet")
        contract = Contract(SIZE_PX, SIZE_PX, labels, source, preprocessing=Preprocessing(fit="squash"))
        goldens = make_goldens(Classifier(graph, contract, module_for(name)))
        write_artifact(folder / name, graph, replace(contract, goldens=goldens))
        (folder / "goldens" / name).mkdir(parents=True)
        for number, golden in enumerate(goldens):
            picture = cv2.imdecode(np.frombuffer(golden.picture(), np.uint8), cv2.IMREAD_COLOR)
            assert picture is not None
            cv2.imwrite(str(folder / f"goldens/{name}/{number}.jpg"), picture)
    for tiny in (tiny_artifact, tiny_onnx):
        shutil.copy(tiny, folder)
    (folder / "token").write_text(TOKEN["Authorization"].split()[1])
    _label(folder)
    return folder


def _label(folder: Path) -> None:
    """Puts each of pictures/ under the name that int8 gives it, but one under another."""
    classifier = Classifier.load(folder / "int8.tflite")
    paths = sorted((folder / "pictures").iterdir())
    names = [classifier.classify(path).label for path in paths]
    other = next(label for label in classifier.contract.labels if label not in names)
    for path, name in zip(paths, [other, *names[1:]], strict=True):
        (folder / "labelled" / str(name)).mkdir(parents=True, exist_ok=True)
        shutil.copy(path, folder / "labelled" / str(name))


def _draw(folder: Path) -> list[np.ndarray]:
    """Writes parts of a photo, and gives others to calibrate with."""
    photo = cv2.imread(str(Path(matplotlib.get_data_path(), "sample_data", "grace_hopper.jpg")))
    assert photo is not None
    rng = np.random.default_rng(0)
    parts = []
    for _ in range(32):
        side_px = int(rng.integers(200, 500))
        top, left = (int(rng.integers(0, length - side_px)) for length in photo.shape[:2])
        parts.append(photo[top : top + side_px, left : left + side_px])
    small = [cv2.resize(part, (SIZE_PX, SIZE_PX), interpolation=cv2.INTER_AREA) for part in parts]
    (folder / "pictures").mkdir()
    (folder / "photos").mkdir()
    for number, part in enumerate(parts[:PICTURES]):
        cv2.imwrite(str(folder / f"pictures/{number}.png"), small[number])
        cv2.imwrite(str(folder / f"photos/{number}.jpg"), cv2.resize(part, (1280, 720)))
    video = cv2.VideoWriter(str(folder / "clip.avi"), cv2.VideoWriter.fourcc(*"MJPG"), 10, (640, 480))
    for number in range(600):
        left, top = number // 6, number // 3
        video.write(cv2.resize(photo[top : top + 390, left : left + 390], (640, 480)))
    video.release()
    return [np.asarray(picture[..., ::-1], np.uint8) for picture in small]


@pytest.fixture(
    scope="session", params=[pytest.param(name, marks=pytest.mark.xdist_group(f"arm64-{name}")) for name in BOARDS]
)
def pi(request: pytest.FixtureRequest, files: Path) -> EmulatedPi:
    return prepared(BOARDS[request.param], files)


def here(files: Path, *words: object) -> Any:
    """What this machine says, as JSON."""
    command = [sys.executable, "-m", "edgecnn_runtime", *map(str, words), "--json"]
    done = subprocess.run(command, cwd=files, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def there(pi: EmulatedPi, *words: object, old_engine: bool = False) -> Any:
    """What the Pi says, as JSON."""
    program = ["/usr/bin/python3", "-m", "edgecnn_runtime"] if old_engine else ["edgecnn"]
    done = pi.run(*program, *words, "--json", environment={"PYTHONPATH": OLD_ENGINE} if old_engine else None)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return json.loads(done.stdout)


@pytest.fixture(scope="session")
def pixels(pi: EmulatedPi) -> tuple[Pixels, Pixels]:
    """What the Pi, and what this machine, makes of each JPEG file: by its path what the network sees, and by its path
    after "decoded " what it was decoded to; uint8 RGB."""
    script = (
        "import sys, numpy; from pathlib import Path; from edgecnn_runtime import Classifier; "
        "from edgecnn_runtime.decode import decode; classifier = Classifier.load('int8.tflite'); "
        "photos = {str(path): decode(path.read_bytes(), path.name) for path in Path().glob('**/*.jpg')}; "
        "seen = {path: classifier.preprocess(photo) for path, photo in photos.items()}; "
        "numpy.savez(sys.argv[1], **seen, **{f'decoded {path}': photo for path, photo in photos.items()})"
    )
    name = f"{pi.board.name}-pixels.npz"
    done = pi.run("python3", "-c", script, name)
    assert done.returncode == 0, done.stderr
    subprocess.run([sys.executable, "-c", script, f"not-{name}"], cwd=pi.files, check=True, timeout=120)
    with np.load(pi.files / name) as said, np.load(pi.files / f"not-{name}") as wanted:
        return dict(said), dict(wanted)


def probabilities(document: Any) -> tuple[list[str], np.ndarray]:
    """Labels, and probabilities ``(pictures, classes)`` in the order of the labels."""
    results = document["results"]
    scores = [{score["label"]: score["probability"] for score in result["top"]} for result in results]
    return [result["label"] for result in results], np.array([[own[key] for key in sorted(own)] for own in scores])


def sensitivity(path: Path, pictures: Iterable[np.ndarray]) -> float:
    """The most that a probability moves here when all pixels are a level brighter or darker, doubled: what
    rounding in decoding and resampling may do; ``(H, W, 3)`` RGB."""
    classifier, most = Classifier.load(path), 0.0
    for picture in pictures:
        pixels = classifier.preprocess(picture).astype(int)
        usual = classifier.infer(pixels.astype(np.uint8))
        for step in (-1, 1):
            other = classifier.infer(np.clip(pixels + step, 0, 255).astype(np.uint8))
            most = max(most, float(np.abs(other - usual).max()))
    return 2 * most


def hold(said: tuple[list[str], np.ndarray], wanted: tuple[list[str], np.ndarray], allowed: float) -> None:
    """Probabilities differ by so much at most; so labels are the same, but where two are as probable as that."""
    assert np.abs(said[1] - wanted[1]).max() <= allowed
    second, first = np.sort(wanted[1], axis=1)[:, -2:].T
    for label, wanted_label, lead in zip(said[0], wanted[0], first - second, strict=True):
        assert label == wanted_label or lead <= 2 * allowed


def test_this_is_arm64_and_the_wheel_alone(pi: EmulatedPi) -> None:
    script = "import platform, edgecnn_runtime; print(platform.machine(), edgecnn_runtime.__file__)"
    machine, where = pi.run("python3", "-c", script).stdout.split()
    assert machine == "aarch64"
    assert where == f"/opt/edgecnn/lib/python{pi.board.python}/site-packages/edgecnn_runtime/__init__.py"
    assert pi.run("pip", "check").returncode == 0


@pytest.mark.parametrize("name", [*ARTIFACTS, ONNX_INT8])
def test_selftest(pi: EmulatedPi, name: str) -> None:
    answer = there(pi, "selftest", name)
    assert answer["passed"]
    assert answer["goldens"] == 4
    assert answer["worst"] <= 0.5


@pytest.mark.parametrize("name", ARTIFACTS)
def test_info_tells_the_same_as_here_also_of_how_the_engine_runs_it(pi: EmulatedPi, name: str) -> None:
    assert there(pi, "info", name) == here(pi.files, "info", name)


@pytest.mark.parametrize("name", [*ARTIFACTS, INTEGERS, ONNX_INT8])
def test_classify_gives_the_same_probabilities(
    pi: EmulatedPi, name: str, pixels: tuple[Pixels, Pixels], record_property: pytest.RecordProperty
) -> None:
    words = ("classify", name, "pictures", "photos", f"goldens/{name}", "--top", 1000)
    document = there(pi, *words)
    (labels, values), (wanted_labels, wanted) = probabilities(document), probabilities(here(pi.files, *words))
    assert len(set(wanted_labels)) > 1, "the pictures must not all look alike to the network"
    # Of our int8 the tail computes in float, whose last bits are each processor's own; with integers to the end, too,
    # nothing differs.
    classifier = Classifier.load(pi.files / name)
    tolerances = np.array([golden.tolerance for golden in classifier.contract.goldens])
    exact = {INTEGERS: 0.0, ONNX_INT8: float(tolerances.min())}.get(name, FLOAT_TOLERANCE)
    hold((labels[:PICTURES], values[:PICTURES]), (wanted_labels[:PICTURES], wanted[:PICTURES]), exact)

    # Of a JPEG file the Pi's resampler makes other pixels; of the same pixels the network makes the same.
    paths = [result["path"] for result in document["results"][PICTURES:]]
    order = np.argsort(classifier.contract.labels)
    of_its_pixels = np.array([classifier.infer(pixels[0][path])[order] for path in paths])
    assert np.abs(values[PICTURES:] - of_its_pixels).max() <= exact
    jpeg = slice(PICTURES, -len(tolerances))
    photos = [pixels[1][f"decoded {path}"] for path in paths[: -len(tolerances)]]
    resampled = sensitivity(pi.files / name, photos) + exact
    hold((labels[jpeg], values[jpeg]), (wanted_labels[jpeg], wanted[jpeg]), resampled)
    differences = np.abs(values - wanted).max(axis=1)
    share = float((differences[-len(tolerances) :] / tolerances).max())
    most = (
        f"{differences[jpeg].max():.3f} for photos, {share:.2f} of the self-test's tolerance for goldens as JPEG files"
    )
    record_property(f"emulated {pi.board.name}, {name}, a probability differs by at most", most)
    assert share <= MAX_SHARE[name.split(".")[0]]


def test_jpeg_files_are_decoded_to_the_same_pixels_and_resampled_within_one_level(
    pixels: tuple[Pixels, Pixels],
) -> None:
    said, wanted = pixels
    assert said.keys() == wanted.keys()
    for name in wanted:
        difference = np.abs(said[name].astype(int) - wanted[name]).max()
        assert difference <= (0 if name.startswith("decoded ") else 1), name


def test_evaluate_counts_the_same(pi: EmulatedPi) -> None:
    words = ("evaluate", "int8.tflite", "labelled")
    said, wanted = there(pi, *words), here(pi.files, *words)
    assert wanted["accuracy"] == {"test": (PICTURES - 1) / PICTURES}
    assert said | {"median_ms": wanted["median_ms"]} == wanted


def test_bench(pi: EmulatedPi) -> None:
    said = there(pi, "bench", *TINY, "--resolution", "320x240", "--threads", 1, "--seconds", 0)
    assert [artifact["artifact"] for artifact in said["artifacts"]] == list(TINY)
    assert all(artifact["timed"][0]["frames"] for artifact in said["artifacts"])


def test_the_doctor_knows_the_board(pi: EmulatedPi) -> None:
    said = there(pi, "doctor")
    assert said["passed"]
    found = {check["name"]: check["found"] for check in said["checks"] if check["state"] == "ok"}
    assert found["board"].startswith(f"{pi.board.model}: Linux ")
    assert f", aarch64, Python {pi.board.python}." in found["board"]
    dot_product = "with" if "asimddp" in pi.board.features else "no"
    assert found["processor"].startswith(f"{pi.board.core.title()}, 4 cores, {dot_product} dot product")
    assert found["temperature"] == "45 °C"
    assert found["power"] == "never slowed down since the start"
    assert {"NumPy", "OpenCV", "TFLite engine", "ONNX engine"} <= found.keys()


def test_the_service_s_unit_is_one_that_systemd_takes(pi: EmulatedPi) -> None:
    live = ("--host", "0.0.0.0", "--token-file", "token")
    done = pi.run("edgecnn", "service", "print", "int8.tflite", *live, "--user", "pi")
    assert (done.returncode, done.stderr) == (0, "")
    command = f"{ENVIRONMENT}/bin/python3 -P -m edgecnn_runtime live {FILES}/int8.tflite"
    assert f"\nExecStart=:{command} --host 0.0.0.0 --token-file {FILES}/token\n" in done.stdout
    assert "\nUser=pi\n" in done.stdout
    unit = pi.files / pi.board.name / "edgecnn.service"
    unit.parent.mkdir()
    unit.write_text(done.stdout)
    if shutil.which("systemd-analyze"):
        # It asks whether the program is there: with the Pi's /opt in place of this machine's, for this one process.
        script = 'mount --bind "$1/opt" /opt && exec systemd-analyze verify "$2"'
        words = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", script, "sh", str(pi.root), str(unit)]
        verified = subprocess.run(words, capture_output=True, text=True, timeout=60)
        assert (verified.returncode, verified.stdout, verified.stderr) == (0, "", "")


@pytest.mark.parametrize("name", ARTIFACTS)
def test_live_serves_its_page_and_decides_as_here(pi: EmulatedPi, name: str) -> None:
    lines = f"{pi.board.name}-{name}.jsonl"
    page = ("--host", "0.0.0.0", "--port", 0, "--token-file", "token")
    command = pi.command("edgecnn", "live", name, "--camera", "clip.avi", *page, "--jsonl", lines)
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stderr is not None
            (url,) = (line.split()[1] for line in [process.stderr.readline()] if line.startswith("page: "))
            with pytest.raises(urllib.error.HTTPError, match="401"):
                urllib.request.urlopen(url, timeout=60)
            assert b"edgecnn" in _ask(url)
            end_s = time.monotonic() + 120
            while (state := json.loads(_ask(f"{url}state")))["frames"] < 5:
                assert time.monotonic() < end_s
                time.sleep(0.2)
            picture = _ask(f"{url}next?after=-1&frame=-1")
        finally:
            process.kill()
    assert len(state["top"]) == 5
    assert state["board"] == {"temperature_c": 45.0, "throttled": [], "throttled_before": []}
    header = int.from_bytes(picture[:4], "big")
    shown = cv2.imdecode(np.frombuffer(picture[4 + header :], np.uint8), cv2.IMREAD_COLOR)
    assert shown is not None
    assert shown.shape == (480, 640, 3)

    said = {line["frame"]: line for line in map(json.loads, (pi.files / lines).read_text().splitlines())}
    assert len(said) >= 5
    seen, wanted_seen = _frames(pi, name, said)
    # Video is decoded to a little other colours by each processor; of the same pixels the network makes the same.
    assert np.abs(seen.astype(int) - wanted_seen).max() <= MAX_VIDEO_LEVELS
    classifier = Classifier.load(pi.files / name)
    for line, pixels in zip(said.values(), seen, strict=True):
        values, raw = classifier.infer(pixels), line["raw"]
        assert raw["label"] == classifier.contract.labels[int(values.argmax())]
        assert abs(raw["probability"] - float(values.max())) <= FLOAT_TOLERANCE


def _ask(url: str) -> bytes:
    with urllib.request.urlopen(urllib.request.Request(url, headers=TOKEN), timeout=60) as answer:
        return bytes(answer.read())


def _frames(pi: EmulatedPi, name: str, numbers: Iterable[int]) -> tuple[np.ndarray, np.ndarray]:
    """What the network sees of these frames of the video on the Pi and on this machine: ``(frames, H, W, 3)`` uint8
    RGB."""
    script = (
        "import sys, cv2, numpy; from edgecnn_runtime import Classifier; "
        "to, name, *numbers = sys.argv[1:]; numbers = {int(number) for number in numbers}; "
        "classifier, capture = Classifier.load(name), cv2.VideoCapture('clip.avi'); "
        "frames = ((number, capture.read()[1]) for number in range(max(numbers) + 1)); "
        "numpy.save(to, [classifier.preprocess(frame, 'bgr') for number, frame in frames if number in numbers])"
    )
    words = ["-c", script, f"{pi.board.name}-{name}.npy", name, *map(str, numbers)]
    done = pi.run("python3", *words)
    assert done.returncode == 0, done.stderr
    words[2] = f"not-{words[2]}"
    subprocess.run([sys.executable, *words], cwd=pi.files, check=True, timeout=120)
    return np.load(pi.files / f"{pi.board.name}-{name}.npy"), np.load(pi.files / words[2])


def test_a_wrong_result_fails(pi: EmulatedPi) -> None:
    graph, contract, _ = read_artifact(pi.files / "int8.tflite")
    goldens = tuple(replace(golden, probabilities=golden.probabilities[::-1]) for golden in contract.goldens)
    wrong = f"{pi.board.name}-wrong.tflite"
    write_artifact(pi.files / wrong, graph, replace(contract, goldens=goldens))
    done = pi.run("edgecnn", "selftest", wrong)
    assert done.returncode == 1
    assert "self-test failed" in done.stderr


def test_from_pip_install_to_the_first_decision(pi: EmulatedPi, record_property: pytest.RecordProperty) -> None:
    start = time.perf_counter()
    command = pi.command("edgecnn", "live", "int8.tflite", "--camera", "clip.avi", "--jsonl", "-")
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        line = process.stdout.readline()
        live_s = time.perf_counter() - start
        process.kill()
    assert json.loads(line)["command"] == "live"
    words = f"{pi.install_s:.0f} s of pip install, {live_s:.0f} s of live (at most {MAX_FIRST_DECISION_S} s together)"
    record_property(f"emulated {pi.board.name}, {pi.board.suite}, from pip install to the first decision", words)


@pytest.fixture(scope="session", params=[pytest.param("pi4", marks=pytest.mark.xdist_group("arm64-pi4"))])
def old_pi(request: pytest.FixtureRequest, files: Path) -> EmulatedPi:
    """With tflite-runtime 2.14 and numpy 1 in place of LiteRT."""
    board = BOARDS[request.param]
    made = prepared(board, files)
    install_old_engine(board)
    return made


def test_the_old_engine_is_the_one_that_runs(old_pi: EmulatedPi) -> None:
    script = (
        "import numpy; from edgecnn_runtime.backends.tflite import _interpreter_class; "
        "print(numpy.__version__, _interpreter_class().__module__)"
    )
    done = old_pi.run("/usr/bin/python3", "-c", script, environment={"PYTHONPATH": OLD_ENGINE})
    assert done.stdout.startswith("1."), done.stderr
    assert done.stdout.endswith(" tflite_runtime.interpreter\n")


@pytest.mark.parametrize("name", ARTIFACTS[:2])
def test_selftest_with_the_old_engine(old_pi: EmulatedPi, name: str) -> None:
    assert there(old_pi, "selftest", name, old_engine=True)["passed"]


@pytest.mark.parametrize("name", ARTIFACTS[:2])
def test_classify_with_the_old_engine(old_pi: EmulatedPi, name: str) -> None:
    words = ("classify", name, "pictures", "--top", 1000)
    said, wanted = probabilities(there(old_pi, *words, old_engine=True)), probabilities(here(old_pi.files, *words))
    # The engine of 2023 rounds its sums in another way, for which the self-test's tolerance is made.
    goldens = read_artifact(old_pi.files / name)[1].goldens
    hold(said, wanted, FLOAT_TOLERANCE if "float32" in name else max(golden.tolerance for golden in goldens))


def test_a_missing_engine_is_one_line(old_pi: EmulatedPi) -> None:
    words = ("/usr/bin/python3", "-m", "edgecnn_runtime", "selftest", "float32.onnx")
    done = old_pi.run(*words, environment={"PYTHONPATH": OLD_ENGINE})
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert "no ONNX engine is installed" in done.stderr
