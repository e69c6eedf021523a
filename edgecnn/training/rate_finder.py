"""The learning-rate finder (Smith 2017, "Cyclical Learning Rates for Training Neural Networks", section 3.3): a short
training whose rate rises from step to step, and at which rate the loss falls fastest."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from edgecnn.training.features import engine_outputs
from edgecnn.training.fit import compile_model, shared_batch_size, unfreeze
from edgecnn.training.head import add_pooling, standardization
from edgecnn.training.recipes import Job, batches

LOWEST, HIGHEST = 1e-6, 1.0
STEPS = 100
_SMOOTHING = 0.9
_DIVERGED = 3.0  # times the lowest loss
_SETTLED = 10  # steps until the average stands for more than the first few batches

Losses = list[tuple[float, float]]  # learning rate, smoothed loss


def find_rate(job: Job) -> tuple[Losses, float]:
    """Tries rising learning rates on the part of the model that the job's recipe trains last. The model is spoilt.

    Returns:
        The loss by rate, and the rate to begin with.
    """
    config = job.config
    options = replace(config.optimization, schedule="constant", warmup=0.0)
    train = job.pictures.of("train")
    batch_size = shared_batch_size(options, len(train))
    if config.recipe == "fast":
        model = job.head
        chosen = np.random.default_rng(config.seed).permutation(train)[: 4 * batch_size]
        pooled = add_pooling(job.in_float32()[0], config.head.pooling)
        features = engine_outputs(
            pooled, job.pictures.pixels, chosen, job.workers, lambda done, of: job.progress("float32", done, of)
        )
        if config.head.begins_dense:
            mean, scale = standardization(features)
            features = (features - mean) / scale
    else:
        model = job.tuned
        everything = config.recipe == "scratch"
        unfreeze(job.network, "all" if everything else config.tuning.unfreeze, normalization=everything)
        steps, batch = batches(job, options)
    compile_model(model, options, config.machine, STEPS)
    losses: Losses = []
    average = 0.0
    for step, rate in enumerate(np.geomspace(LOWEST, HIGHEST, STEPS)):
        model.optimizer.learning_rate.assign(rate)
        if config.recipe == "fast":
            rows = np.random.default_rng((config.seed, step)).permutation(len(chosen))[:batch_size]
            loss = float(model.train_on_batch(features[rows], job.targets(chosen[rows]))[0])
        else:
            pixels_of_step, wanted, weights = batch(*divmod(step, steps))
            loss = float(model.train_on_batch(pixels_of_step, wanted, weights)[0])
        model.reset_metrics()
        average = _SMOOTHING * average + (1.0 - _SMOOTHING) * loss
        losses.append((float(rate), average / (1.0 - _SMOOTHING ** (step + 1))))
        job.progress("trying rates", step + 1, STEPS)
        if not np.isfinite(loss) or losses[-1][1] > _DIVERGED * min(value for _, value in losses):
            break
    return losses, steepest(losses)


def steepest(losses: Sequence[tuple[float, float]]) -> float:
    """The rate at which the loss falls fastest as the rate grows by a factor; before the lowest loss, and not among the
    first steps, of which the average still jumps."""
    rates, values = np.array(losses[max(0, min(_SETTLED, len(losses) - 3)) :]).T
    end = max(int(np.nanargmin(values)), 2)
    slope = np.gradient(values[: end + 1], np.log(rates[: end + 1]))
    return float(rates[int(np.argmin(slope))])
