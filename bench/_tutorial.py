"""The plain Keras tutorial recipe, in a process of its own: what `bench/training.py` compares with.

Transfer learning as the tutorials write it: the frozen backbone inside `fit`, augmentation layers, a dense head.
Prints one JSON document: accuracy on test, seconds of each epoch that was run.
"""

from __future__ import annotations

import argparse
import json
import time
from typing import Any

SIDE_PX = 224
BATCH = 32
LEARNING_RATE = 1e-3


def build(classes: int) -> Any:
    """The compiled model: ``(N, 224, 224, 3)`` RGB 0-255 to ``(N, classes)`` softmax."""
    import keras
    from keras import layers

    from edgecnn import backbones

    backbone = backbones.get("efficientnet_lite0").build(SIDE_PX, SIDE_PX, "imagenet")
    backbone.trainable = False
    inputs = keras.Input((SIDE_PX, SIDE_PX, 3))
    x = layers.RandomFlip("horizontal")(inputs)
    x = layers.RandomRotation(0.2)(x)
    x = layers.RandomZoom(0.1)(x)
    x = layers.RandomTranslation(0.1, 0.1)(x)
    x = layers.GlobalAveragePooling2D()(backbone(x, training=False))
    x = layers.Dense(512, activation="relu")(x)
    x = layers.Dropout(0.5)(x)
    model = keras.Model(inputs, layers.Dense(classes, activation="softmax")(x))
    model.compile(keras.optimizers.Adam(LEARNING_RATE), "sparse_categorical_crossentropy", metrics=["accuracy"])
    return model


def train(data: str, epochs: int, seed: int) -> dict[str, Any]:
    """Trains on ``data/train`` with ``data/val``, evaluates on ``data/test``."""
    import keras

    from edgecnn_runtime.metrics import wilson_interval

    class EpochTimes(keras.callbacks.Callback):  # type: ignore[misc]
        """Seconds of every epoch, validation included."""

        def __init__(self) -> None:
            super().__init__()
            self.seconds: list[float] = []
            self._start = 0.0

        def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
            self._start = time.perf_counter()

        def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
            self.seconds.append(round(time.perf_counter() - self._start, 2))

    keras.utils.set_random_seed(seed)

    def split(name: str, names: list[str] | None) -> Any:
        return keras.utils.image_dataset_from_directory(
            f"{data}/{name}", class_names=names, image_size=(SIDE_PX, SIDE_PX), batch_size=BATCH, verbose=False
        )

    train_set = split("train", None)
    names = train_set.class_names
    model = build(len(names))
    times = EpochTimes()
    callbacks = [
        keras.callbacks.EarlyStopping("val_loss", patience=10, min_delta=0.001, restore_best_weights=True),
        keras.callbacks.ReduceLROnPlateau("val_loss", factor=0.5, patience=3),
        times,
    ]
    model.fit(train_set, validation_data=split("val", names), epochs=epochs, callbacks=callbacks, verbose=0)
    test_set = split("test", names)
    accuracy = float(model.evaluate(test_set, verbose=0)[1])
    count = len(test_set.file_paths)
    return {
        "accuracy": accuracy,
        "interval": wilson_interval(round(accuracy * count), count),
        "val_accuracy": float(model.evaluate(split("val", names), verbose=0)[1]),
        "epoch_s": times.seconds,
    }


def main() -> None:
    """Trains and prints."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", help="folder with train, val and test, each with a folder per class")
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    print(json.dumps(train(options.data, options.epochs, options.seed)))


if __name__ == "__main__":
    main()
