"""What `train` and `quickstart` share: one training, written as a run folder with its report."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from edgecnn.evaluation.summary import write_run_report
from edgecnn.training.run import Config, Run, check_new, new_folder, write_run
from edgecnn.training.train import Progress, load_pictures, train


def train_run(config: Config, folder: Path, overwrite: bool, workers: int, progress: Progress | None) -> dict[str, Any]:
    """Trains and writes the run folder. Returns the metrics. Raises EdgecnnError; then nothing is left or lost."""
    check_new(folder, overwrite)
    pictures = load_pictures(config, progress)
    trained = train(config, pictures, workers, progress)
    with new_folder(folder, overwrite) as temporary:
        write_run(
            temporary,
            config,
            pictures.labels,
            pictures.entries,
            trained.history,
            trained.metrics,
            trained.model,
        )
        run = Run(temporary, config, pictures.labels, pictures.entries, trained.history, trained.metrics)
        write_run_report(run, pictures, trained.probabilities, title=folder.name)
    return trained.metrics
