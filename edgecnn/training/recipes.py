"""Recipes: named ways of training. A recipe is a sequence of stages, each of which trains a model in place.

fast      the frozen backbone runs once, in the device's engine; the head is trained on its features
standard  fast, then the backbone is tuned with it, and the head fitted again on what the backbone has become
best      standard, several times over, lightly and strongly augmented, on smaller pictures than the input's; and the
          mean of the weights before the head is fitted again
scratch   the whole network from random weights
course    as the textbooks have it: the head in front of the frozen backbone, then the last layers at a low rate

What each sets stands in `edgecnn.training.presets`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from edgecnn.data.cache import release
from edgecnn.data.duplicates import group_numbers
from edgecnn.data.suspects import feigned_accuracy
from edgecnn.training.augment import augment, mix
from edgecnn.training.features import Features, engine_outputs, extract, feature_graphs, relative_error
from edgecnn.training.fit import (
    Batch,
    Stage,
    class_weights,
    compile_model,
    epoch_order,
    fit,
    keep_winner,
    picture_weights,
    shared_batch_size,
    targets,
    unfreeze,
    used_of_an_epoch,
    watchers,
)
from edgecnn.training.head import add_pooling, build, build_head, by_class, fold, predict, standardization
from edgecnn.training.options import HeadOptions, Optimization
from edgecnn.training.run import MEASURED_OF_TRAIN, SPLITS, TUNING_RECIPES, Config

if TYPE_CHECKING:
    import keras

    from edgecnn.training.train import Pictures

CALIBRATION_PICTURES = 32
FLOAT_STEP = 6  # every which picture is also seen by the float backbone
# int8 features that are farther off than this are noise and teach the head nothing.
MAX_RELATIVE_ERROR = 0.7

SEEDS = 2**31  # more than a config's seed can be: every tuning of a run has one of its own
MIN_COPIES = 0.01  # share of near-duplicates below which nothing worth telling could be feigned

Progress = Callable[[str, int, int], None]
Rows = list[dict[str, float]]
Indexes = dict[str, npt.NDArray[np.int64]]  # split -> (n,)
Probabilities = dict[str, npt.NDArray[np.float32]]  # split -> (n, classes)


@dataclass
class Job:
    """A training under way.

    Attributes:
        network: the backbone; head: what stands on it; model: both as one, sharing their weights; tuned: its layers
            for pictures of the size that it is tuned on.
        folder: where checkpoints are kept.
        each_epoch: called with the history so far.
        history: one row an epoch, over all stages.
        notes: for metrics.json. ``kept``: which weights won on validation, see `whole` and `refit`;
            ``feigned``: see `feign`.
        tensorboard: whether TensorBoard's files are written into the folder.
    """

    config: Config
    pictures: Pictures
    network: keras.Model
    head: keras.Model
    model: keras.Model
    tuned: keras.Model
    folder: Path
    workers: int
    progress: Progress
    each_epoch: Callable[[Rows], None] = lambda rows: None
    tensorboard: bool = False
    history: Rows = field(default_factory=list)
    notes: dict[str, Any] = field(default_factory=dict)

    @property
    def classes(self) -> int:
        return len(self.pictures.labels)

    def targets(self, index: npt.NDArray[np.int64]) -> npt.NDArray[np.float32]:
        """Of the pictures at `index`."""
        return targets(self.pictures.truth[index], self.classes, self.config.head.output)

    def in_float32(self) -> tuple[keras.Model, keras.Model]:
        """Network and model as the converters want them: with mixed precision, copies that compute in float32."""
        import keras

        if self.config.machine.precision == "float32":
            return self.network, self.model
        keras.mixed_precision.set_global_policy("float32")
        network, _, model = build(self.config, self.classes, "none")
        keras.mixed_precision.set_global_policy(self.config.machine.precision)
        model.set_weights(self.model.get_weights())
        return network, model


def train(job: Job) -> tuple[Indexes, Probabilities]:
    """Trains by the recipe of the config, in place.

    Returns:
        By split: which pictures were measured, all of validation and test and some of training, which only shows
        whether the model learns by heart; and their probabilities, as the device's engine computes them.
    """
    config = job.config
    if config.recipe == "fast":
        _stage(job, "head", lambda: head_on_features(job, "head", config.optimization, config.head))
    elif config.recipe in TUNING_RECIPES:
        _stage(job, "head", lambda: head_on_features(job, "head", beside_tuning(config), HeadOptions()))
        for name, own in tunings(config):
            _restore(job, "head")  # each begins there
            tune = partial(whole, replace(job, config=own), name, config.tuning.unfreeze, config.optimization)
            _stage(job, name, tune)
        if config.tuning.soup > 1:
            _stage(job, "soup", lambda: average_weights(job, [name for name, _ in tunings(config)]))
        _stage(job, "refit", lambda: refit(job))
    elif config.recipe == "scratch":
        _stage(job, "network", lambda: whole(job, "network", "all", config.optimization))
    else:
        gently = replace(config.optimization, learning_rate=config.tuning.fine_tuning_rate)
        _stage(job, "head", lambda: whole(job, "head", "none", config.optimization))
        _stage(job, "backbone", lambda: whole(job, "backbone", config.tuning.unfreeze, gently))
    job.model = job.in_float32()[1]
    index = {split: job.pictures.of(split) for split in SPLITS}
    index["train"] = np.sort(np.random.default_rng(config.seed).permutation(index["train"])[:MEASURED_OF_TRAIN])
    wanted = np.concatenate(list(index.values()))
    outputs = engine_outputs(
        job.model, job.pictures.pixels, wanted, job.workers, lambda done, total: job.progress("measuring", done, total)
    )
    parts = np.split(by_class([outputs]), np.cumsum([len(each) for each in index.values()])[:-1])
    return index, dict(zip(SPLITS, parts, strict=True))


def _stage(job: Job, name: str, work: Callable[[], Rows]) -> None:
    """Does the work of a stage, or takes its result from the folder where that has been done before."""
    from edgecnn.training.callbacks import write_arrays

    done = _restore(job, name)
    if done is None:
        rows = work()
        # Not the weights alone: the next stage goes on with the seeds of the dropout layers.
        state = {f"{number}": np.asarray(variable) for number, variable in enumerate(job.model.variables)}
        note = np.array(json.dumps({"rows": rows, "notes": job.notes}))
        write_arrays(_done(job, name), {**state, "note": note})
        (job.folder / f"{name}.npz").unlink(missing_ok=True)
    else:
        rows, job.notes = done["rows"], done["notes"]
    number = 1 + int(job.history[-1]["stage"]) if job.history else 1
    job.history += [{"stage": number, **row} for row in rows]
    job.each_epoch(job.history)


def tunings(config: Config) -> list[tuple[str, Config]]:
    """How often the backbone is tuned: names, and configs with seed and augmentation. Of several the first, third, ...
    go without strong augmentation, which needs more pictures than some have."""
    if config.tuning.soup == 1:
        return [("backbone", config)]
    lightly = replace(config.augmentation, randaugment=0.0, mixup=0.0, cutmix=0.0)
    augmentations = [lightly, config.augmentation]
    return [
        (f"backbone{n + 1}", replace(config, seed=config.seed + n * SEEDS, augmentation=augmentations[n % 2]))
        for n in range(config.tuning.soup)
    ]


def average_weights(job: Job, names: Sequence[str]) -> Rows:
    """The mean of what the stages of these names made of the weights: of tunings that began at the same weights it is
    often better than any, and costs the device nothing (Wortsman et al. 2022, "Model soups")."""
    kept = []
    for name in names:
        _restore(job, name)
        kept.append(job.model.get_weights())
    job.model.set_weights([np.mean(own, axis=0, dtype=np.float64) for own in zip(*kept, strict=True)])
    job.notes["kept"] = "soup"
    return []


def beside_tuning(config: Config) -> Optimization:
    """How the head alone is fitted where a config's optimization is that of the backbone: as `fast` does, but with the
    same balance of classes, which is a question of the data."""
    return Optimization(balance=config.optimization.balance)


def _done(job: Job, name: str) -> Path:
    return job.folder / f"{name}-done.npz"


def _restore(job: Job, name: str) -> dict[str, Any] | None:
    """Puts what a stage has made of the model into it, and returns its rows and notes; None where it is not done."""
    from edgecnn.training.callbacks import read_arrays

    done = read_arrays(_done(job, name))
    if done is None:
        return None
    for number, variable in enumerate(job.model.variables):
        variable.assign(done[str(number)])
    return dict(json.loads(str(done["note"])))


def head_on_features(job: Job, name: str, options: Optimization, regularization: HeadOptions) -> Rows:
    """The head on cached features: every training picture by the int8 backbone, every sixth also by the float one.

    The int8 backbone is twice as fast, and teaches the head what quantization does to features; the float one keeps
    it honest. It also sees `config.views` augmented views of every training picture. Where it is so far off that it
    would teach the head noise, the float backbone does it all. Of `regularization`, dropout, L1 and L2 are taken.
    """
    config, pictures = job.config, job.pictures
    train, val = pictures.of("train"), pictures.of("val")
    calibration = np.random.default_rng(config.seed).permutation(train)[:CALIBRATION_PICTURES]
    pooled = add_pooling(job.in_float32()[0], config.head.pooling)
    floating, quantized = feature_graphs(pooled, [np.asarray(pictures.pixels[i]) for i in calibration])

    def look(graph: bytes, what: str, *indexes: npt.NDArray[np.int64], views: int = 0) -> list[Features]:
        """Features of each index array in turn, and of all views of the first."""
        extra = [(int(i), number) for number in range(1, views + 1) for i in indexes[0]]
        wanted = [(int(i), 0) for index in indexes for i in index] + extra
        features = extract(
            graph, pictures.pixels, wanted, config.augmentation, config.seed, job.workers,
            lambda done, total: job.progress(what, done, total),
        )  # fmt: skip
        return np.split(features, np.cumsum([len(index) for index in indexes]))

    some = train[::FLOAT_STEP]
    of_some, of_val, _ = look(floating, "float32", some, val)
    seen, seen_val, augmented = look(quantized, "int8", train, val, views=config.views)
    if not job.history:
        of_last_map = slice(-job.network.output_shape[-1], None)  # time goes with the cube of the number of features
        feign(job, np.concatenate([seen, seen_val])[:, of_last_map], np.concatenate([train, val]))
    if relative_error(of_some, seen[::FLOAT_STEP]) <= MAX_RELATIVE_ERROR:
        known = [(seen, train), (augmented, np.tile(train, config.views)), (of_some, some)]
        check = [(of_val, val), (seen_val, val)]
    else:
        every, augmented = look(floating, "float32 again", train, views=config.views)
        known = [(every, train), (augmented, np.tile(train, config.views))]
        check = [(of_val, val)]
    del seen, augmented, of_some
    release(pictures.pixels)  # the features of many pictures need the room
    return _fit_head(job, name, known, check, options, regularization)


def feign(job: Job, features: Features, index: npt.NDArray[np.int64]) -> None:
    """Notes how much accuracy a split that tears near-duplicates apart would have feigned, by the features ``(n, F)``
    of the pictures at `index`."""
    copies = sum(len(group) for group in job.pictures.groups)
    if copies < MIN_COPIES * len(job.pictures.entries):
        return
    place = {int(picture): position for position, picture in enumerate(index)}
    inside = [[place[i] for i in group if i in place] for group in job.pictures.groups]
    numbers = group_numbers([group for group in inside if len(group) > 1], len(index))
    found = feigned_accuracy(features, job.pictures.truth[index], numbers, job.config.seed, job.classes)
    if found is not None:
        job.notes["feigned"] = {"pictures": copies, "groups": len(job.pictures.groups), **asdict(found)}


def _fit_head(
    job: Job,
    name: str,
    known: list[tuple[Features, npt.NDArray[np.int64]]],
    check: Sequence[tuple[Features, npt.NDArray[np.int64]]],
    options: Optimization,
    regularization: HeadOptions,
) -> Rows:
    """`fit` on features and the indexes of their pictures: so small a model is fed from memory. Takes `known` away.

    It is fitted on standardised features, so that a rate and a penalty are as good for one feature as for another,
    and then rewritten for the features as they are (`fold`): the model has nothing more to compute.
    """
    import keras
    import tensorflow as tf

    index = np.concatenate([part for _, part in known])
    features = np.concatenate([part for part, _ in known])
    known.clear()  # of many pictures it fills the memory
    if options.balance == "sampling":  # else Keras shuffles, without a second copy of the features
        rng = np.random.default_rng(job.config.seed)
        chosen = epoch_order(np.arange(len(index)), job.pictures.truth[index], options.balance, rng)
        features, index = features[chosen], index[chosen]
    val_features = np.concatenate([part for part, _ in check])
    val_index = np.concatenate([part for _, part in check])
    wanted = job.targets(index)
    weights = class_weights(job.pictures.truth[index], job.classes, options.balance)
    batch_size = shared_batch_size(options, len(index))
    used = used_of_an_epoch(len(index), batch_size)
    steps = -(-used // batch_size)
    keras.utils.set_random_seed(job.config.seed)  # a resumed run, which skipped stages, must draw the same weights
    head_options = replace(job.config.head, dropout=regularization.dropout, l1=regularization.l1, l2=regularization.l2)
    head = build_head(features.shape[1], job.classes, head_options)
    if head_options.begins_dense:
        mean, scale = standardization(features)
        for part in (features, val_features):
            part -= mean
            part /= scale
    # A step takes less than a call; but several at once fail on several devices.
    at_once = 8 if tf.distribute.get_strategy().num_replicas_in_sync == 1 else 1
    compile_model(head, options, job.config.machine, steps, steps_per_execution=at_once)
    rows: Rows = []
    tensorboard = [keras.callbacks.TensorBoard(job.folder / "tensorboard" / name)] if job.tensorboard else []

    def note(epoch: int, logs: dict[str, float]) -> None:
        rows.append({**logs, "learning_rate": float(np.asarray(head.optimizer.learning_rate))})
        job.progress(name, epoch + 1, options.epochs)

    head.fit(
        features[:used],
        wanted[:used],
        sample_weight=picture_weights(wanted, weights)[:used],
        batch_size=batch_size,
        epochs=options.epochs,
        validation_data=(val_features, job.targets(val_index)),
        callbacks=[*watchers(options), *tensorboard, keras.callbacks.LambdaCallback(on_epoch_end=note)],
        verbose=0,
    )
    found = head.get_weights()
    job.head.set_weights(fold(found, mean, scale) if head_options.begins_dense else found)
    return [{name: float(value) for name, value in row.items()} for row in rows]


def batches(job: Job, options: Optimization) -> tuple[int, Callable[[int, int], Batch]]:
    """How many batches an epoch has, and the function that makes one of augmented training pictures: (epoch, number)
    to ``(N, H, W, 3)`` float32 RGB 0-255, targets, weights. It depends on the seed and its arguments alone."""
    config, pictures = job.config, job.pictures
    size = job.tuned.input_shape[1:3]
    train = pictures.of("train")
    batch_size = shared_batch_size(options, len(train))
    used = used_of_an_epoch(len(train), batch_size)
    weights = class_weights(pictures.truth[train], job.classes, options.balance)

    def batch(epoch: int, number: int) -> Batch:
        rng = np.random.default_rng((config.seed, epoch))
        order = epoch_order(train, pictures.truth, options.balance, rng)[:used]
        chosen = order[number * batch_size : (number + 1) * batch_size]
        views = [
            augment(
                np.asarray(pictures.pixels[i]), config.augmentation,
                np.random.default_rng((config.seed, epoch, number, place)), *size,
            )
            for place, i in enumerate(chosen)
        ]  # fmt: skip
        rng = np.random.default_rng((config.seed, epoch, number))
        pixels, wanted = mix(np.stack(views).astype(np.float32), job.targets(chosen), config.augmentation, rng)
        return pixels, wanted, picture_weights(wanted, weights)

    return -(-used // batch_size), batch


def measure(job: Job) -> tuple[float, float]:
    """Cross-entropy and accuracy of the model on validation."""
    val = job.pictures.of("val")
    truth = job.pictures.truth[val]
    probabilities = predict(job.model, [job.pictures.pixels[i] for i in val])
    of_truth = probabilities[np.arange(len(val)), truth]
    return float(-np.log(np.maximum(of_truth, 1e-7)).mean()), float((probabilities.argmax(1) == truth).mean())


def refit(job: Job) -> Rows:
    """The head once more on features, now of the tuned backbone.

    It was tuned on mixed and distorted pictures with a loss for them, by a backbone that kept moving; and it has not
    seen what quantization does to the tuned backbone. Kept is what wins on validation: that, the tuned head, or the
    head on the backbone as it was.
    """
    tuned = job.model.get_weights()
    rows = head_on_features(job, "refit", beside_tuning(job.config), HeadOptions())
    candidates = {"refitted": job.model.get_weights(), job.notes.get("kept", "trained"): tuned}
    _restore(job, "head")
    candidates["start"] = job.model.get_weights()
    job.notes["kept"] = keep_winner(job.model, candidates, lambda: measure(job))
    return rows


def whole(job: Job, name: str, layers: str, options: Optimization) -> Rows:
    """Head and some or all layers of the backbone, on a new random view of every picture in every epoch.

    With an average of the weights, it or the weights as trained are kept, whichever wins on validation. That is always
    at the input's size; training may be at a smaller one, since random crops show objects larger than whole pictures
    do (Touvron et al. 2019, "Fixing the train-test resolution discrepancy").
    """
    config, model = job.config, job.tuned
    unfreeze(job.network, layers, normalization=config.recipe == "scratch")
    steps, batch = batches(job, options)
    before = job.history.copy()
    stage_number = 1 + int(before[-1]["stage"]) if before else 1
    epochs_done = 0

    def each_epoch(rows: Sequence[dict[str, float]]) -> None:
        nonlocal epochs_done
        epochs_done = len(rows)
        job.each_epoch([*before, *({"stage": stage_number, **row} for row in rows)])

    compile_model(model, options, config.machine, steps)
    stage = Stage(name, steps, batch, lambda: measure(job), job.folder, job.tensorboard)
    rows = fit(
        model,
        stage,
        options,
        lambda done, total: job.progress(name, epochs_done * total + done, options.epochs * total),
        each_epoch,
    )
    if options.averaging:
        candidates = {"trained": model.get_weights()}
        model.optimizer.finalize_variable_values(model.trainable_variables)
        candidates["averaged"] = model.get_weights()
        job.notes["kept"] = keep_winner(model, candidates, lambda: measure(job))
    return rows
