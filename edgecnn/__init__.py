"""edgecnn, the lab: data, training, evaluation and the commands that lead from photos to artifacts."""

__version__ = "0.1.0"
