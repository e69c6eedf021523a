"""Training's options on the command line: made from the dataclasses that define them, so that they are said once."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import fields
from typing import Annotated, Any, get_type_hints

import typer

from edgecnn.training.options import GROUPS

_PANELS = {
    "head": "The head",
    "optimization": "Optimization",
    "tuning": "The backbone",
    "augmentation": "Augmentation",
    "machine": "Machine",
}


def with_options(*groups: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Gives a command one option for every field of these groups of `edgecnn.training.options.GROUPS`.

    The command takes them as keywords; those that were not typed are None.
    """

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        signature = inspect.signature(command, eval_str=True)
        own = [parameter for parameter in signature.parameters.values() if parameter.kind is not parameter.VAR_KEYWORD]
        added = [
            inspect.Parameter(
                item.name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=_annotation(group, item)
            )
            for group in groups
            for item in fields(GROUPS[group])
        ]
        command.__signature__ = signature.replace(parameters=[*own, *added])  # type: ignore[attr-defined]
        command.__annotations__ = {parameter.name: parameter.annotation for parameter in [*own, *added]}
        return command

    return decorate


def _annotation(group: str, item: Any) -> Any:
    kind = get_type_hints(GROUPS[group])[item.name]
    help = item.metadata["help"]
    if item.metadata["choices"]:
        help = f"{', '.join(item.metadata['choices'])}. {help}"
    return Annotated[kind | None, typer.Option(help=help, rich_help_panel=_PANELS[group], show_default=False)]
