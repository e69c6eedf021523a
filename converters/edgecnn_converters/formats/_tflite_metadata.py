"""The standard TFLite metadata, which MediaPipe Tasks, ML Kit and Android Studio read.

Field numbers are those of the public schema (metadata_schema.fbs, identifier M001), for which no package has a writer.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from edgecnn_converters.formats import summary
from edgecnn_runtime.backends.tflite import LABELS_FILE
from edgecnn_runtime.contract import Contract

_IMAGE_PROPERTIES, _FEATURE_PROPERTIES = np.uint8(2), np.uint8(1)
_NORMALIZATION_OPTIONS = np.uint8(1)
_RGB = np.uint8(1)
_TENSOR_AXIS_LABELS = np.uint8(2)
_OLDEST_READER = "1.0.0"  # the schema's first version has every field that is written here


def tflite_metadata(contract: Contract) -> bytes:
    """The flatbuffer `ModelMetadata` of a classifier; what the contract does not know is left out."""
    import flatbuffers

    source = contract.provenance
    # ModelMetadata: 0 name, 1 description, 2 version, 3 subgraph_metadata, 4 author, 5 license, 7 min_parser_version;
    # SubGraphMetadata: 2 input_tensor_metadata, 3 output_tensor_metadata.
    stated = {2: source.publication.version, 4: source.publication.author, 5: source.publication.license}
    model = {
        0: f"{source.backbone}-{source.precision}",
        1: summary(contract),
        3: [{2: [_input(contract)], 3: [_output(contract)]}],
        7: _OLDEST_READER,
    }
    builder = flatbuffers.Builder()
    builder.Finish(_write(builder, model | {slot: text for slot, text in stated.items() if text}), b"M001")
    return bytes(builder.Output())


# TensorMetadata: 0 name, 1 description, 3 content, 4 process_units, 5 stats, 6 associated_files. A union is two fields,
# its kind and its value.
def _input(contract: Contract) -> dict[int, Any]:
    steps = contract.preprocessing
    fit = f"{steps.fit} {steps.crop_fraction:g}" if steps.fit == "crop" else steps.fit
    size = {0: np.uint32(contract.width), 1: np.uint32(contract.height)}
    # Readers compute (value - mean) / std; the graph does so by itself and wants the pixels as they are.
    raw = {0: np.zeros(1, np.float32), 1: np.ones(1, np.float32)}
    return {
        0: "image",
        1: f"RGB picture, 0-255; made by: {', '.join([*steps.filters, fit, steps.resampling])}",
        3: {0: _IMAGE_PROPERTIES, 1: {0: _RGB, 1: size}},
        4: [{0: _NORMALIZATION_OPTIONS, 1: raw}],
        5: _limits(255.0),
    }


def _output(contract: Contract) -> dict[int, Any]:
    output = {0: "probability", 3: {0: _FEATURE_PROPERTIES, 1: {}}, 5: _limits(1.0)}
    if contract.activation == "sigmoid":  # one output has no axis for two labels: a reader would name the wrong one
        return output | {1: f"Probability of {contract.labels[1]!r}; the rest is that of {contract.labels[0]!r}"}
    # AssociatedFile: 0 name, 1 description, 2 type.
    labels = {0: LABELS_FILE, 1: "One label a line, in the order of the outputs", 2: _TENSOR_AXIS_LABELS}
    return output | {1: "Probability of each label", 6: [labels]}


def _limits(largest: float) -> dict[int, Any]:
    """Stats: 0 max, 1 min."""
    return {0: np.array([largest], np.float32), 1: np.zeros(1, np.float32)}


def _write(builder: Any, value: Any) -> int:
    """Writes a table (a dict from field number to value), vector or string, what it refers to first; its offset."""
    if isinstance(value, str):
        return int(builder.CreateString(value))
    if isinstance(value, np.ndarray):
        return int(builder.CreateNumpyVector(value))
    if isinstance(value, list):
        offsets = [_write(builder, item) for item in value]
        builder.StartVector(4, len(offsets), 4)
        for offset in reversed(offsets):
            builder.PrependUOffsetTRelative(offset)
        return int(builder.EndVector())
    scalars = {np.uint8: builder.PrependUint8Slot, np.uint32: builder.PrependUint32Slot}
    fields = {slot: item if type(item) in scalars else _write(builder, item) for slot, item in value.items()}
    builder.StartObject(max(fields, default=-1) + 1)
    for slot, item in fields.items():
        scalars.get(type(item), builder.PrependUOffsetTRelativeSlot)(slot, item, 0)
    return int(builder.EndObject())
