"""`edgecnn quickstart`."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from edgecnn_runtime.commands import cores, print_json

if TYPE_CHECKING:
    from edgecnn.training.train import Pictures

_SHOWN = 5


def quickstart(
    out: Annotated[Path, typer.Option(help="The run folder.")] = Path("runs/quickstart"),
    backbone: Annotated[str, typer.Option(help="See 'edgecnn backbones'.")] = "efficientnet_lite0",
    seed: Annotated[int, typer.Option(min=0, max=2**31 - 1)] = 0,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the run folder.")] = False,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON document and nothing else.")] = False,
) -> None:
    """Train, export and prove a classifier on the embedded pictures, in about a minute.

    Example: edgecnn quickstart --out runs/first
    """
    from edgecnn import backbones
    from edgecnn.commands._artifacts import artifact_document, exit_code, export_run, print_gate, print_table
    from edgecnn.commands._progress import progress_bars
    from edgecnn.commands._training import command_line, train_run
    from edgecnn.data import embedded
    from edgecnn.training.run import Config, check_new, read_run
    from edgecnn.training.train import reload_pictures
    from edgecnn_runtime.contract import Preprocessing

    def say(text: str) -> None:
        if not json:
            print(text, flush=True)

    check_new(out, overwrite)
    out.parent.mkdir(parents=True, exist_ok=True)
    data = embedded.unpack(out.parent)
    say(f"The embedded data: small grey pictures of Fashion-MNIST, in {data}")
    side = backbones.get(backbone).size_px
    # Product pictures on black ground, edge to edge: nothing may be cropped away.
    config = Config(
        str(data.resolve()), backbone, side, side, seed=seed, preprocessing=Preprocessing(fit="squash"),
        command=command_line(),
    )  # fmt: skip
    with progress_bars() as progress:
        metrics = train_run(config, out, overwrite, cores(), progress)
        say(f"Trained {backbone} in {metrics['train_s']:.0f} s; exporting and measuring the files:")
        run = read_run(out)
        pictures = reload_pictures(run, progress=progress)
        variants = [(name, precision) for name in ("tflite", "onnx") for precision in ("float32", "int8")]
        commands = (
            "edgecnn train PHOTOS --out runs/mine      # a folder per class",
            "edgecnn export runs/mine",
            f"edgecnn live runs/mine/artifacts/{backbone}-int8.tflite --camera 0",
        )
        # A second look of the gate takes half a minute, which is not quick.
        made = export_run(run, pictures, variants, cores(), progress, commands, second_look=False)
    if json:
        keys = ("accuracy", "interval", "weights_sha256", "train_s")
        figures = {key: metrics[key] for key in keys}
        print_json("quickstart", {"run": str(out), **figures, "artifacts": [artifact_document(a) for a in made]})
        raise typer.Exit(exit_code(made))
    print_table(made)
    print_gate(made)
    usable = [artifact.path for artifact in made if not artifact.rejected and artifact.precision == "int8"]
    if usable:
        _classify_some(usable[0], pictures)
    say(f"\nLook at {out / 'report.html'}. The same with your own photos:")
    for command in commands:
        say(f"  {command}")
    raise typer.Exit(exit_code(made))


def _classify_some(artifact: Path, pictures: Pictures) -> None:
    """Classifies a few held-out files, as `edgecnn classify` does."""
    from edgecnn_runtime import Classifier

    classifier = Classifier.load(artifact)
    print(f"Held-out pictures through {artifact.name}:")
    index = pictures.of("test")
    width = min(60, shutil.get_terminal_size().columns)
    for i in index[:: max(1, len(index) // _SHOWN)][:_SHOWN]:
        entry = pictures.entries[i]
        result = classifier.classify(pictures.root / entry.path)
        print(f"  {entry.path:<{width // 2}} is {entry.label}: {result.label} {result.probability:.1%}")
