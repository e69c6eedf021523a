"""A head that is trained again on the features that it gets in 8 bits.

Where maps are rounded, features err, and part of that error goes along with the features themselves. The head, which
stays in float, can make up for that part: ridge regression (Hoerl and Kennard 1970) of the logits' error on the
features, as strong as predicts pictures best that it was not fitted to. Labels are not needed.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]

_STRENGTHS = (*np.geomspace(1e-4, 1e2, 13), np.inf)  # of the penalty, times the features' variance; the last is a bias


def fit_head(features: Floats, error: Floats) -> tuple[Floats, Floats] | None:
    """What is to be added to a head's weights and bias, ``(outputs, inputs)`` and ``(outputs,)``.

    Args:
        features: ``(N, inputs)``, what the head gets in N pictures.
        error: ``(N, outputs)``, what its logits lack.

    Returns:
        None where no change predicts the error of a picture that is left out better than none does.
    """
    features, error = features.astype(np.float64), error.astype(np.float64)
    if len(features) < 2:
        return None
    count, mean, level = len(features), features.mean(0), error.mean(0)
    centred = features - mean
    values, vectors = np.linalg.eigh(centred @ centred.T)
    values = np.maximum(values, 0.0)
    wanted = vectors.T @ (error - level)
    least, best = float(np.square(error).sum()), None
    for strength in _STRENGTHS:
        weights = 1.0 / (values + strength * max(values.sum(), np.finfo(np.float32).tiny))
        # What leaving a picture out makes of its residual: Cook and Weisberg 1982, section 2.2
        leverage = np.minimum(1.0 / count + np.square(vectors) @ (values * weights), 1.0 - 1e-9)
        residual = error - level - vectors @ ((values * weights)[:, np.newaxis] * wanted)
        if (left := float(np.square(residual / (1.0 - leverage)[:, np.newaxis]).sum())) < least:
            least, best = left, weights
    if best is None:
        return None
    change = (vectors @ (best[:, np.newaxis] * wanted)).T @ centred
    return change.astype(np.float32), np.asarray(level - change @ mean, np.float32)
