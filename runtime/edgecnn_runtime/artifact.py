"""The artifact: a model file with its contract, read and checked, and written. No engine and no OpenCV is needed."""

from __future__ import annotations

import hashlib
import os
from dataclasses import replace
from pathlib import Path

from edgecnn_runtime.backends import BackendModule, module_for
from edgecnn_runtime.contract import Contract
from edgecnn_runtime.errors import ModelError


def read_artifact(path: str | Path, contract: Contract | None = None) -> tuple[bytes, Contract, BackendModule]:
    """Reads and checks a model file; no engine sees it yet.

    Args:
        contract: for a foreign model, which carries none. An artifact's own contract may not be overruled.

    Returns:
        (graph, contract, backend module).

    Raises:
        ModelError: missing, damaged, altered, newer, or without a contract where none is given.
    """
    module = module_for(path)
    try:
        data = Path(path).read_bytes()
    except OSError as error:
        raise ModelError(f"{path}: cannot be read: {error.strerror}") from error
    try:
        graph, text = module.split(data)
        if text is None:
            module.check_structure(graph)
            if contract is None:
                raise ModelError(
                    "has no edgecnn contract; a model from elsewhere runs with --size, --range and --labels, "
                    "which say what it expects"
                )
            return graph, contract, module
        if contract is not None:
            raise ModelError("carries its own contract; leave out --size, --range and --labels")
        own = Contract.from_json(text)
        if hashlib.sha256(graph).hexdigest() != own.graph_sha256:
            raise ModelError("the model was altered or damaged after it was exported; copy it again or export it again")
        module.check_structure(graph)
    except ModelError as error:
        raise ModelError(f"{path}: {error}") from error
    return graph, own, module


def write_artifact(path: Path, graph: bytes, contract: Contract) -> Contract:
    """Writes graph and contract as one file, by a temporary name. Returns the contract with the graph's hash."""
    own = replace(contract, graph_sha256=hashlib.sha256(graph).hexdigest())
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        temporary.write_bytes(module_for(path).join(graph, own.to_json(), own.labels))
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
    return own
