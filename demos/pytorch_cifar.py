"""The small network of every PyTorch course, from training to a proven int8 file.

    python demos/pytorch_cifar.py [PHOTOS]

PHOTOS is a folder with one folder per class; without it, the embedded product pictures are taken. They are cut to the
32x32 px of CIFAR-10. What comes out is in runs/pytorch. It needs PyTorch (pip install 'edgecnn[pytorch]') and no
TensorFlow.
"""

from __future__ import annotations

import csv
import logging
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np

from edgecnn.data.embedded import unpack
from edgecnn_runtime import EdgecnnError
from edgecnn_runtime.contract import Preprocessing
from edgecnn_runtime.dataset import LabelledPicture, read_dataset
from edgecnn_runtime.decode import decode, read_bytes
from edgecnn_runtime.preprocess import preprocess

try:
    import torch
    from torch import nn
except ImportError:
    sys.exit("pytorch_cifar.py: PyTorch is not installed: run \"pip install 'edgecnn[pytorch]'\"")

SIDE_PX, EPOCHS, BATCH = 32, 12, 64
MEAN, STD = 0.5, 0.5
OUT = Path("runs/pytorch")


def build(classes: int) -> nn.Module:
    """``(N, 3, 32, 32)`` to ``(N, classes)`` logits."""
    return nn.Sequential(
        nn.Conv2d(3, 16, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(16, 32, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
        nn.Flatten(), nn.Linear(32 * 8 * 8, 128), nn.ReLU(), nn.Linear(128, classes),
    )  # fmt: skip


def load(pictures: list[LabelledPicture], labels: tuple[str, ...]) -> tuple[torch.Tensor, torch.Tensor]:
    """Normalised pictures ``(N, 3, 32, 32)`` and the indexes of their labels, ``(N,)``."""
    # The device's own decoding and resizing: the network is to learn from what it will see.
    read = [preprocess(decode(read_bytes(p.path)), Preprocessing(), SIDE_PX, SIDE_PX) for p in pictures]
    pixels = torch.from_numpy(np.stack(read)).permute(0, 3, 1, 2).float() / 255
    return (pixels - MEAN) / STD, torch.tensor([labels.index(p.label) for p in pictures])


def main(photos: str | None = None) -> int:
    torch.manual_seed(0)
    OUT.mkdir(parents=True, exist_ok=True)
    folder = unpack(OUT) if photos is None else Path(photos)
    data = read_dataset(folder)
    # A fifth is kept for the test where the folder does not say what is for what.
    held_out = [p for i, p in enumerate(data.pictures) if (i % 5 == 0 if p.split is None else p.split != "train")]
    kept = {p.path for p in held_out}
    images, truth = load([p for p in data.pictures if p.path not in kept], data.labels)
    network = build(len(data.labels))
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-3)
    for epoch in range(EPOCHS):
        for batch in torch.randperm(len(images)).split(BATCH):
            optimizer.zero_grad()
            loss = nn.functional.cross_entropy(network(images[batch]), truth[batch])
            loss.backward()
            optimizer.step()
        print(f"epoch {epoch + 1:2}: loss {loss.item():.3f}")
    network.eval()
    with torch.no_grad():
        images, truth = load(held_out, data.labels)
        print(f"PyTorch: {(network(images).argmax(1) == truth).float().mean():.1%} of {len(truth)} test pictures")

    path = OUT / "small_cnn.onnx"
    logging.disable()  # the exporter remarks on packages that it could use, and on itself
    warnings.simplefilter("ignore")
    torch.onnx.export(network, (images[:1],), path, dynamo=True, external_data=False, verbose=False)
    (OUT / "labels.txt").write_text("\n".join(data.labels), "utf-8")
    with open(OUT / "pictures.csv", "w", encoding="utf-8", newline="") as stream:
        rows = ([p.path.absolute(), p.label, "test" if p.path in kept else "train"] for p in data.pictures)
        csv.writer(stream).writerows([["path", "label", "split"], *rows])
    command = [
        "export", str(path), "--labels", str(OUT / "labels.txt"), "--mean", str(MEAN), "--std",
        str(STD), "--logits", "--data", str(OUT / "pictures.csv"), "--out", str(OUT), "--overwrite",
    ]  # fmt: skip
    print("edgecnn", *command, flush=True)
    return subprocess.run([sys.executable, "-m", "edgecnn_runtime", *command]).returncode


if __name__ == "__main__":
    if len(sys.argv) > 2 or "-h" in sys.argv or "--help" in sys.argv:
        sys.exit(__doc__)
    try:
        sys.exit(main(*sys.argv[1:]))
    except EdgecnnError as error:
        sys.exit(f"pytorch_cifar.py: {error}")
