"""Makes small_cnn.onnx and small_cnn.json: a network as PyTorch exports it, and what PyTorch says of a picture.

    python tests/converters/golden/make_golden.py

PyTorch and onnxscript are needed here alone. The files were made with torch 2.13.0+cpu and onnxscript 0.7.2. The
network takes a batch of any size. PyTorch notes at every node where in the source it comes from: here somebody's folder
instead.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import torch
from torch import nn

HEIGHT, WIDTH = 20, 24  # not square, so that swapped sides are seen
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class SmallCnn(nn.Module):
    """``(N, 3, 20, 24)`` to ``(N, 3)`` logits."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.norm = nn.Conv2d(3, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8)
        self.second = nn.Conv2d(8, 8, 3, padding=1)
        self.dense = nn.Linear(8 * 5 * 6, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = nn.functional.max_pool2d(torch.relu(self.norm(self.first(x))), 2)
        x = nn.functional.max_pool2d(torch.relu(self.second(x)), 2)
        return self.dense(x.flatten(1))


def picture() -> np.ndarray:
    """``(20, 24, 3)`` uint8 RGB, soft, of every colour."""
    rows, columns, channels = np.mgrid[:HEIGHT, :WIDTH, :3]
    return (127.5 + 127.5 * np.sin(rows / 5 + columns / (3 + channels) + channels)).astype(np.uint8)


def _hide_folders(path: Path) -> None:
    model = onnx.load(path)
    for note in (note for node in model.graph.node for note in node.metadata_props):
        if note.key.endswith("stack_trace"):
            note.value = 'File "/home/somebody/network.py", line 1, in forward'
    onnx.save(model, path)


def main() -> None:
    """Writes the files beside this script."""
    torch.manual_seed(3)
    network = SmallCnn()
    with torch.no_grad():  # batch normalisation with statistics of its own, and clear answers
        for tensor in (network.norm.weight, network.norm.running_var):
            tensor.uniform_(0.5, 2.0)
        for tensor in (network.norm.bias, network.norm.running_mean):
            tensor.normal_(0.0, 0.5)
        network.dense.weight *= 8
    network.eval()
    path = Path(__file__).with_name("small_cnn.onnx")
    example = torch.zeros(2, 3, HEIGHT, WIDTH)
    batch = torch.export.Dim("batch")
    torch.onnx.export(network, (example,), path, dynamo=True, external_data=False, dynamic_shapes=({0: batch},))
    _hide_folders(path)
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (MEAN, STD))
    with torch.no_grad():
        pixels = torch.from_numpy(picture()).permute(2, 0, 1) / 255
        probabilities = network(((pixels - mean) / std)[None]).softmax(1)[0].tolist()
    path.with_suffix(".json").write_text(json.dumps({"probabilities": probabilities}) + "\n", "utf-8")


if __name__ == "__main__":
    main()
