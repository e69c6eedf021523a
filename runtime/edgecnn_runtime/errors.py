"""The errors that a user can cause or mend: the command line shows each as one line."""

from __future__ import annotations


class EdgecnnError(Exception):
    """What is wrong, which file, and what to do, in one line. The process ends with ``exit_code`` (1)."""

    exit_code = 1


class UsageError(EdgecnnError):
    """The command or call was made wrongly (exit code 2)."""

    exit_code = 2


class PictureError(EdgecnnError):
    """A picture cannot be read."""


class ModelError(EdgecnnError):
    """A model file is missing, damaged, altered, from a newer version, or does not do what its contract says."""


def first_line(error: Exception) -> str:
    """What an engine or a converter says of a failure, in one line of at most 200 characters; some say nothing."""
    return (str(error).strip() or type(error).__name__).splitlines()[0][:200]
