"""SavedModels of TensorFlow 2: their serving signature.

A SavedModel is a program. Before it is loaded, every operator that could run is looked at: those that touch files or
the machine are refused.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from edgecnn_converters.sources import Source, Stated
from edgecnn_converters.sources._tensorflow import make_source
from edgecnn_runtime.errors import EdgecnnError, ModelError

# Operators with a state that lies inside the model, or in a generator of random numbers.
_HARMLESS = {
    "Assert", "AssignAddVariableOp", "AssignSubVariableOp", "AssignVariableOp", "DisableCopyOnRead", "If",
    "Multinomial", "PartitionedCall", "RandomShuffle", "RandomStandardNormal", "RandomUniform", "RandomUniformInt",
    "ReadVariableOp",
    "ResourceGather", "RngReadAndSkip", "RngSkip", "StatefulPartitionedCall", "StatefulStandardNormalV2",
    "StatefulUniform", "StatefulUniformInt", "TruncatedNormal", "VarHandleOp", "VarIsInitializedOp", "While",
}  # fmt: skip
# Operators that read files or reach outside the process although TensorFlow calls them stateless.
_OUTWARD = re.compile(r"File|Reader|Dataset|Debug|PyFunc|Immutable|Snapshot|Sharded|Remote|Host|Xla|Tpu|TPU")


def read(path: Path, stated: Stated) -> Source:
    """See `edgecnn_converters.sources.SourceModule.read`."""
    import tensorflow as tf
    from tensorflow.python.saved_model import loader_impl

    try:
        _check_operators(path, loader_impl.parse_saved_model(str(path)))
        loaded = tf.saved_model.load(str(path))
        signatures = loaded.signatures
    except EdgecnnError:
        raise
    except Exception as error:  # TensorFlow raises what it likes
        raise ModelError(f"{path}: the SavedModel is damaged or incomplete; copy its whole folder again") from error
    name = "serving_default" if "serving_default" in signatures or len(signatures) != 1 else next(iter(signatures))
    if name not in signatures:
        raise ModelError(f"{path}: the SavedModel has no serving signature; write it by model.export('FOLDER')")
    signature = signatures[name]
    inputs, outputs = signature.structured_input_signature[1], signature.structured_outputs
    if len(inputs) != 1 or len(outputs) != 1:
        raise ModelError(
            f"{path}: a classifier has one input and one output (received: {len(inputs)} and {len(outputs)})"
        )
    ((argument, spec),), (output,) = inputs.items(), outputs
    shape = () if spec.shape.rank is None else tuple(spec.shape)

    def network(x: Any) -> Any:
        return loaded.signatures[name](**{argument: x})[output]  # whose variables live no longer than `loaded`

    return make_source(path, network, shape, spec.dtype, stated)


def _check_operators(path: Path, model: Any) -> None:
    """Raises ModelError where what loading and calling would run is not a network alone."""
    from tensorflow.python.framework import op_def_registry

    if len(model.meta_graphs) != 1 or not model.meta_graphs[0].HasField("object_graph_def"):
        raise ModelError(f"{path}: a SavedModel of TensorFlow 1; load it in TensorFlow 2 and write it again")
    graph = model.meta_graphs[0]
    # What saves and restores stands outside the objects' functions and is not run: loading restores by itself.
    functions = graph.graph_def.library.function
    if len({function.signature.name for function in functions}) < len(functions):
        raise ModelError(f"{path}: has two functions of one name; copy its folder again or write it again")
    # Loading runs some of the functions that objects name, whether they are listed as theirs or not: every name that
    # stands anywhere in the objects counts.
    objects = graph.object_graph_def.SerializeToString()
    roots = [each.signature.name for each in functions if each.signature.name.encode() in objects]
    for name in _operators(functions, roots):
        known = op_def_registry.get(name)
        if known is None or _OUTWARD.search(name) or (known.is_stateful and name not in _HARMLESS):
            raise ModelError(f"{path}: has the operator {name}, which reaches outside the network, and is not run")


def _operators(functions: Iterable[Any], roots: Iterable[str]) -> Iterator[str]:
    """The kinds of the operators of the functions named in `roots` and of those that these call."""
    bodies = {function.signature.name: function.node_def for function in functions}
    pending, seen = list(roots), set(roots)
    while pending:
        for node in bodies.get(pending.pop(), ()):
            if node.op not in bodies:
                yield node.op
            called = [each for value in node.attr.values() for each in (value.func, *value.list.func)]
            for name in {node.op, *(each.name for each in called)} & bodies.keys() - seen:
                seen.add(name)
                pending.append(name)
