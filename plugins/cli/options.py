"""Options that many commands have."""

from pathlib import Path
from typing import Annotated

import typer

ConfigFile = Annotated[
    Path | None,
    typer.Option("--config", "-c", help="The configuration; ./aosk.toml if there is one."),
]
Json = Annotated[bool, typer.Option("--json", help="One JSON document on stdout.")]
JsonLines = Annotated[bool, typer.Option("--json", help="JSON lines: events, then the result.")]
Debug = Annotated[bool, typer.Option("--debug", help="Log everything; show tracebacks.")]
