"""`edgecnn doctor`."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer

from edgecnn_runtime.commands import _model, print_json
from edgecnn_runtime.live.listening import PORT


def doctor(
    port: Annotated[int, typer.Option(min=1, max=65535, help="Where the page of live is to be served.")] = PORT,
    json: _model.Json = False,
) -> int:
    """Say what this device has and lacks for classifying, and what to do about it. Exit code 1 where something fails.

    Example: edgecnn doctor --port 8000
    """
    from edgecnn_runtime.doctor import examine

    findings = examine(port)
    failed = any(finding.state == "fail" for finding in findings)
    if json:
        print_json("doctor", {"passed": not failed, "checks": [asdict(finding) for finding in findings]})
        return int(failed)
    width = max(len(finding.name) for finding in findings)
    for finding in findings:
        state = "?" if finding.state == "unknown" else finding.state
        print(f"{state:<5} {finding.name:<{width}}  {finding.found}")
        if finding.remedy:
            print(f"{'':<6}{'':<{width}}  -> {finding.remedy}")
    return int(failed)
