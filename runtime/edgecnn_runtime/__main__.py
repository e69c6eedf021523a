"""`python -m edgecnn_runtime` is the `edgecnn` command."""

from edgecnn_runtime.cli import main

if __name__ == "__main__":
    main()
