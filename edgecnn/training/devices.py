"""Devices: which processors train, and with how many bits."""

from __future__ import annotations

from typing import Any

from edgecnn.training.options import Machine
from edgecnn_runtime.errors import EdgecnnError


def prepare_devices(machine: Machine) -> Any:
    """Sets Keras' precision and returns the `tf.distribute` strategy to build and train under.

    With several GPUs of one machine every batch is shared out among them (MirroredStrategy). ``cpu:0,1`` makes virtual
    devices of one CPU, which is of use for trying that without a GPU.

    Raises:
        EdgecnnError: there is no such GPU.
    """
    import keras
    import tensorflow as tf

    keras.mixed_precision.set_global_policy(machine.precision)
    kind, _, numbers = machine.devices.partition(":")
    wanted = [int(number) for number in numbers.split(",")] if numbers else []
    found = tf.config.list_physical_devices("GPU")
    if kind == "cpu":
        tf.config.set_visible_devices([], "GPU")
        if wanted:
            processor = tf.config.list_physical_devices("CPU")[0]
            parts = [tf.config.LogicalDeviceConfiguration() for _ in range(max(wanted) + 1)]
            tf.config.set_logical_device_configuration(processor, parts)
    elif kind == "gpu" and (not found or max(wanted, default=0) >= len(found)):
        raise EdgecnnError(
            f"--devices {machine.devices}: TensorFlow sees {len(found)} GPU(s); install edgecnn[gpu] and the driver, "
            "or use --devices cpu"
        )
    elif kind == "auto":
        wanted = list(range(len(found))) if len(found) > 1 else []
        kind = "gpu"
    if len(wanted) > 1:
        return tf.distribute.MirroredStrategy([f"{kind.upper()}:{number}" for number in wanted])
    return (
        tf.distribute.OneDeviceStrategy(f"GPU:{wanted[0]}")
        if wanted and kind == "gpu"
        else tf.distribute.get_strategy()
    )
