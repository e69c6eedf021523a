"""Keras models, .keras: read in Keras' safe mode, in which no code of the file's is executed."""

from __future__ import annotations

import zipfile
from pathlib import Path

from edgecnn_converters.sources import Source, Stated
from edgecnn_converters.sources._tensorflow import make_source
from edgecnn_runtime.errors import ModelError


def read(path: Path, stated: Stated) -> Source:
    """See `edgecnn_converters.sources.SourceModule.read`."""
    import keras

    if not path.is_file():
        raise ModelError(f"{path}: no such file")
    if not zipfile.is_zipfile(path):
        raise ModelError(f"{path}: not a .keras file, or a damaged one; copy it again, or save it again")
    try:
        model = keras.saving.load_model(path, compile=False, safe_mode=True)
        sources, sinks = model.inputs, model.outputs
    except Exception as error:  # zipfile, h5py and Keras raise what they like
        if "lambda" in str(error).lower():
            raise ModelError(
                f"{path}: has a Lambda layer, which is code inside the file and is not run; put a layer of Keras' "
                "in its place, or write the model by model.export('FOLDER') where it was made"
            ) from error
        raise ModelError(
            f"{path}: Keras cannot read it: it is damaged, of a newer version, or has layers that Keras lacks; "
            "write such a model by model.export('FOLDER') where it was made"
        ) from error
    if len(sources) != 1 or len(sinks) != 1:
        raise ModelError(
            f"{path}: a classifier has one input and one output (received: {len(sources)} and {len(sinks)})"
        )
    return make_source(path, lambda x: model(x, training=False), tuple(sources[0].shape), sources[0].dtype, stated)
