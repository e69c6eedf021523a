"""The lab's commands, one thin file each; `edgecnn_runtime.cli` finds them by entry points."""
