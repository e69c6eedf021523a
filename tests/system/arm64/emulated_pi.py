"""A Raspberry Pi without owning one: Debian for arm64, which Raspberry Pi OS is, run by QEMU as a Pi's processor.

    python tests/system/arm64/emulated_pi.py pi4 edgecnn selftest model.tflite

runs a command in the current folder of such a Pi, on which the runtime's wheel, built from this tree, is installed with
pip. What takes time is kept in ``$EDGECNN_ARM64`` (``~/.cache/edgecnn/arm64``).

Needs Linux 6.7 or newer on x86-64: there a user namespace has a register of program formats of its own, so that nothing
is registered on the machine and nothing needs root but the making of the roots.
"""

from __future__ import annotations

import argparse
import fcntl
import hashlib
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).parents[3]
FILES = "/files"  # where a Pi sees the folder that it is given
ENVIRONMENT = "/opt/edgecnn"  # a virtual environment
OLD_ENGINE = "/opt/tflite-runtime"  # a folder for PYTHONPATH

_FORMAT = Path("/usr/lib/binfmt.d/qemu-aarch64.conf")
_PACKAGES = "base-files,ca-certificates,coreutils,dash,libstdc++6,python3,python3-venv"
_USERS = "root:x:0:0:root:/root:/bin/sh\npi:x:1000:1000::/home/pi:/bin/sh\n"
_TAGS = ("manylinux_2_28", "manylinux_2_27", "manylinux_2_17", "manylinux2014")


@dataclass(frozen=True)
class Board:
    """A Raspberry Pi, and the Debian release that its system is made from."""

    name: str
    model: str
    suite: str
    python: str
    core: str
    features: str
    part: str
    variant: int
    revision: int


_OLD_FEATURES = "fp asimd evtstrm crc32 cpuid"
_NEW_FEATURES = (
    "fp asimd evtstrm aes pmull sha1 sha2 crc32 atomics fphp asimdhp cpuid asimdrdm lrcpc dcpop asimddp"  # dot product
)
BOARDS = {
    board.name: board
    for board in (
        Board("pi4", "Raspberry Pi 4 Model B Rev 1.5", "bookworm", "3.11", "cortex-a72", _OLD_FEATURES, "0xd08", 0, 3),
        Board("pi5", "Raspberry Pi 5 Model B Rev 1.0", "trixie", "3.13", "cortex-a76", _NEW_FEATURES, "0xd0b", 4, 1),
    )
}

# QEMU reads the register in this namespace; the files of the board lie over those of the machine. `env -i`, or what the
# machine tells its own pip and OpenBLAS reaches the Pi's.
_ENTER = """set -e
root=$1 board=$2 files=$3 format=$4
shift 4
mount -t binfmt_misc none /proc/sys/fs/binfmt_misc
cat "$format" > /proc/sys/fs/binfmt_misc/register
mount --rbind /dev "$root/dev"
mount -t proc none "$root/proc"
mount --bind "$board/proc/cpuinfo" "$root/proc/cpuinfo"
mount --bind "$board/sys" "$root/sys"
mount -t tmpfs none "$root/tmp"
mount --bind "$files" "$root/files"
exec env -i "$@"
"""
_NAMESPACE = ("unshare", "--user", "--map-root-user", "--mount", "--pid", "--fork", "--kill-child")


def unavailable() -> str:
    """Why this machine cannot be a Pi, in a line; empty where it can."""
    if platform.system() != "Linux" or platform.machine() != "x86_64":
        return f"a Raspberry Pi is emulated on Linux on x86-64 (this is {platform.system()} on {platform.machine()})"
    if not _FORMAT.is_file() or shutil.which("mmdebstrap") is None:
        return "the packages mmdebstrap, qemu-user-static and debian-archive-keyring are missing: apt-get install them"
    script = "mount -t binfmt_misc none /proc/sys/fs/binfmt_misc"
    done = subprocess.run([*_NAMESPACE, "sh", "-c", script], capture_output=True, text=True)
    if done.returncode:
        return (
            f"this kernel (needed: Linux 6.7 or newer, with user namespaces) lets no arm64 program run: {_last(done)}"
        )
    return ""


@dataclass(frozen=True)
class EmulatedPi:
    """A root with a board's face.

    Attributes:
        root: the Pi's file system, on this machine.
        files: a folder of this machine that the Pi sees as ``/files``.
        install_s: what ``pip install`` of the wheel took here, with every package at hand.
    """

    board: Board
    root: Path
    files: Path
    install_s: float = 0.0

    @property
    def board_files(self) -> Path:
        """A folder with what lies over the Pi's ``/proc`` and ``/sys``."""
        return _board_files(self.board)

    def command(self, *words: object, environment: Mapping[str, str] | None = None) -> list[str]:
        """What runs a command of the Pi, in ``/files``. Killing it ends all that it started."""
        variables = {
            "PATH": f"{ENVIRONMENT}/bin:/usr/sbin:/usr/bin:/sbin:/bin",
            "HOME": "/root",
            "LANG": "C.UTF-8",
            "QEMU_CPU": self.board.core,
            **(environment or {}),
        }
        enter = ["sh", "-c", _ENTER, "enter", str(self.root), str(self.board_files), str(self.files)]
        chroot = ["/usr/sbin/chroot", str(self.root), "/bin/sh", "-c", f'cd {FILES} && exec "$@"', "sh"]
        named = [f"{name}={value}" for name, value in variables.items()]
        return [*_NAMESPACE, *enter, str(_FORMAT), *named, *chroot, *map(str, words)]

    def run(
        self, *words: object, environment: Mapping[str, str] | None = None, timeout_s: float = 600
    ) -> subprocess.CompletedProcess[str]:
        """Runs a command of the Pi to its end."""
        whole = self.command(*words, environment=environment)
        return subprocess.run(whole, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=timeout_s)

    def must(self, *words: object, timeout_s: float = 1200) -> None:
        """Runs a command of the Pi; RuntimeError with its last line where it fails."""
        done = self.run(*words, timeout_s=timeout_s)
        if done.returncode:
            raise RuntimeError(f"{self.board.name}: {' '.join(map(str, words))}: {_last(done)}")


@dataclass(frozen=True)
class Shop:
    """Where a Pi's wheels come from.

    Attributes:
        wheel: of edgecnn-runtime.
        pins: versions of all that it needs, for pip.
        folder: their wheels, and that one.
    """

    wheel: Path
    pins: str = field(repr=False)
    folder: Path


def prepared(board: Board, files: Path) -> EmulatedPi:
    """A Pi on which the wheel of this tree is installed with the ONNX engine; at first this takes minutes.

    Raises:
        RuntimeError: a step failed: Debian or the packages cannot be fetched, the wheel cannot be installed.
    """
    with _locked(board.name):
        root = _make_root(board)
        (root / "etc/passwd").write_text(_USERS)
        shop = stock(board)
        pi = EmulatedPi(board, root, shop.folder)
        stamp, wanted = root / "edgecnn.stamp", _hash(shop.pins.encode(), shop.wheel.read_bytes())
        if not stamp.exists() or stamp.read_text("ascii").split()[0] != wanted:
            stamp.unlink(missing_ok=True)
            stamp.write_text(f"{wanted} {_install(pi, shop.wheel.name)}", "ascii")
        return EmulatedPi(board, root, files, float(stamp.read_text("ascii").split()[1]))


def _install(pi: EmulatedPi, wheel: str) -> float:
    """As the owner of a Pi would; gives the seconds that ``pip install`` took."""
    pi.must("rm", "-rf", ENVIRONMENT)
    pi.must("python3", "-m", "venv", ENVIRONMENT)
    start = time.perf_counter()
    options = ("--quiet", "--no-index", "--find-links", FILES)
    pi.must(f"{ENVIRONMENT}/bin/pip", "install", *options, f"edgecnn-runtime[onnx] @ file://{FILES}/{wheel}")
    return time.perf_counter() - start


def install_old_engine(board: Board) -> None:
    """Puts tflite-runtime and what the runtime needs with it, LiteRT left out, beside the environment of a Pi that was
    `prepared`: for ``PYTHONPATH=/opt/tflite-runtime``. Raises RuntimeError."""
    with _locked(board.name):
        root = _make_root(board)
        folder, stamp = root / OLD_ENGINE[1:], root / "tflite-runtime.stamp"
        wheel = _build_wheel(_cache() / f"wheels-{board.name}")
        # Not by constraints.txt: numpy 1 is older than what that holds.
        pins = _resolve(board, wheel, "tflite-runtime", "--no-emit-package", "ai-edge-litert")
        wanted = _hash(pins.encode(), wheel.read_bytes())
        if stamp.exists() and stamp.read_text("ascii") == wanted:
            return
        stamp.unlink(missing_ok=True)
        shutil.rmtree(folder, ignore_errors=True)
        uv = ["pip", "install", "--no-deps", "--target", str(folder), *_uv_target(board)]
        with tempfile.TemporaryDirectory() as scratch:
            Path(scratch, "pins.txt").write_text(pins)
            _uv(*uv, "-r", str(Path(scratch, "pins.txt")), str(wheel))
        stamp.write_text(wanted, "ascii")


def stock(board: Board) -> Shop:
    """Builds the wheel of this tree and fetches the arm64 wheels of what it needs, in the versions of constraints.txt.
    Raises RuntimeError."""
    folder = _cache() / f"wheels-{board.name}"
    wheel = _build_wheel(folder)
    pins = _resolve(board, wheel, "onnx", "-c", str(ROOT / "constraints.txt"))
    stamp = folder / "pins.txt"
    if not stamp.exists() or stamp.read_text("utf-8") != pins:
        for old in folder.glob("*.whl"):
            if old != wheel:
                old.unlink()
        wanted = folder / "wanted.txt"
        wanted.write_text(pins, "utf-8")
        digits = board.python.replace(".", "")
        abis = [word for abi in (f"cp{digits}", "abi3", "none") for word in ("--abi", abi)]
        tags = [word for tag in _TAGS for word in ("--platform", f"{tag}_aarch64")]
        target = ["--only-binary", ":all:", "--python-version", board.python, "--implementation", "cp", *abis, *tags]
        # Not with its dependencies: pip would choose them for this machine's processor.
        pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", *target, "--dest", str(folder)]
        _do([*pip, "-r", str(wanted)])
        wanted.replace(stamp)
    return Shop(wheel, pins, folder)


def _cache() -> Path:
    default = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "edgecnn" / "arm64"
    folder = Path(os.environ.get("EDGECNN_ARM64") or default).absolute()
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@contextmanager
def _locked(name: str) -> Iterator[None]:
    with (_cache() / f"{name}.lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _make_root(board: Board) -> Path:
    """The unpacked packages. None of their scripts is run, so that nothing is emulated here."""
    root = _cache() / f"{board.suite}-{_hash(_PACKAGES.encode())}"
    if root.exists():
        return root
    found = _do(["apt-get", "indextargets", "--format", "$(REPO_URI)", "Created-By: Packages", "Label: Debian"])
    source = [f"deb {uri} {board.suite} main" for uri in found.split()[:1]]  # else mmdebstrap knows one
    made = root.with_suffix(".part")
    shutil.rmtree(made, ignore_errors=True)
    options = ["--variant=extract", "--architectures=arm64", f"--include={_PACKAGES}"]
    hooks = "--hook-dir=/usr/share/mmdebstrap/hooks/merged-usr"
    _do(["mmdebstrap", "--quiet", *options, hooks, board.suite, str(made), *source])
    for name in ("dev", "proc", "sys", "tmp", "root", "opt", "files"):
        (made / name).mkdir(exist_ok=True)
    authorities = sorted((made / "usr/share/ca-certificates/mozilla").glob("*.crt"))  # pip does not start without them
    (made / "etc/ssl/certs/ca-certificates.crt").write_bytes(b"".join(path.read_bytes() for path in authorities))
    made.rename(root)
    return root


def _board_files(board: Board) -> Path:
    """What programs learn of the board from ``/proc`` and ``/sys``. Without it XNNPACK does not start, silently."""
    folder = _cache() / f"board-{board.name}"
    texts = {
        "proc/cpuinfo": "".join(
            f"processor\t: {core}\nBogoMIPS\t: 108.00\nFeatures\t: {board.features}\nCPU implementer\t: 0x41\n"
            f"CPU architecture: 8\nCPU variant\t: {board.variant:#x}\nCPU part\t: {board.part}\n"
            f"CPU revision\t: {board.revision}\n\n"
            for core in range(4)
        )
        + f"Model\t\t: {board.model}\n",
        "sys/firmware/devicetree/base/model": f"{board.model}\0",
        "sys/class/thermal/thermal_zone0/type": "cpu-thermal\n",
        "sys/class/thermal/thermal_zone0/temp": "45000\n",
        "sys/devices/platform/soc/soc:firmware/get_throttled": "0\n",
        "sys/devices/system/cpu/kernel_max": "7\n",
        **{f"sys/devices/system/cpu/{name}": "0-3\n" for name in ("possible", "present", "online")},
    }
    for core in range(4):
        texts |= {
            f"sys/devices/system/cpu/cpu{core}/{name}": f"{text}\n"
            for name, text in {
                "cpufreq/cpuinfo_max_freq": "1800000",
                "cpufreq/cpuinfo_min_freq": "600000",
                "topology/core_id": str(core),
                "topology/core_siblings": "f",
                "topology/core_siblings_list": "0-3",
                "topology/physical_package_id": "0",
                "topology/thread_siblings": f"{1 << core:x}",
                "topology/thread_siblings_list": str(core),
            }.items()
        }
    for name, text in texts.items():
        path = folder / name
        if not path.exists() or path.read_text("ascii") != text:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, "ascii")
    return folder


def _build_wheel(folder: Path) -> Path:
    with tempfile.TemporaryDirectory() as scratch:
        _do([sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", scratch, str(ROOT / "runtime")])
        (made,) = Path(scratch).glob("*.whl")
        folder.mkdir(exist_ok=True)
        return Path(shutil.copy(made, folder))


def _resolve(board: Board, wheel: Path, extra: str, *options: str) -> str:
    """Versions of what the wheel needs, by its own metadata; uv asks them for another processor, which pip cannot."""
    with tempfile.TemporaryDirectory() as scratch:
        asked = Path(scratch, "asked.in")
        asked.write_text(f"edgecnn-runtime[{extra}] @ file://{wheel}\n", "utf-8")
        said = ["--no-header", "--no-annotate", "--no-emit-package", "edgecnn-runtime", *options]
        return _uv("pip", "compile", *_uv_target(board), *said, str(asked))


def _uv_target(board: Board) -> list[str]:
    # Debian 12, the older of the two, has glibc 2.36.
    return ["--python-platform", "aarch64-manylinux_2_36", "--python-version", board.python, "--only-binary", ":all:"]


def _uv(*words: str) -> str:
    from uv import find_uv_bin

    # The machine's own certificates, as pip takes them: a network may have an authority of its own. Two names of one
    # setting, since uv has renamed it.
    certificates = {"UV_SYSTEM_CERTS": "1", "UV_NATIVE_TLS": "1"}
    return _do([find_uv_bin(), *words[:2], "--quiet", *words[2:]], certificates)


def _hash(*parts: bytes) -> str:
    return hashlib.sha256(b"\0".join(parts)).hexdigest()[:12]


def _do(command: Sequence[str], environment: Mapping[str, str] | None = None) -> str:
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, **(environment or {})})
    if done.returncode:
        raise RuntimeError(f"{' '.join(command[:4])} …: {_last(done)}")
    return done.stdout


def _last(done: subprocess.CompletedProcess[str]) -> str:
    return next(reversed([line for line in (done.stdout + done.stderr).splitlines() if line.strip()]), "no message")


def main() -> int:
    """Returns the command's exit code, 1 where there is no Pi."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("board", choices=BOARDS)
    parser.add_argument("command", nargs=argparse.REMAINDER, help="default: a shell")
    options = parser.parse_args()
    if reason := unavailable():
        sys.exit(reason)
    try:
        pi = prepared(BOARDS[options.board], Path.cwd())
    except RuntimeError as error:
        sys.exit(str(error))
    return subprocess.run(pi.command(*(options.command or ["/bin/sh", "-i"]))).returncode


if __name__ == "__main__":
    sys.exit(main())
