"""The doors of `aosk audit`; the work is in the modules."""

from pathlib import Path
from typing import Annotated

import typer

from .options import ConfigFile, Debug, Json

audit_commands = typer.Typer(
    no_args_is_help=True, help="The log's chain and its seals: was anything changed?"
)
Number = Annotated[int, typer.Argument(help="The process's number.", show_default=False)]


@audit_commands.command()
def show(pid: Number, config: ConfigFile = None, json: Json = False, debug: Debug = False) -> None:
    """The chain of a process: what was done, decided and obeyed, each with its hash."""
    from . import auditing

    auditing.show(config, pid, as_json=json)


@audit_commands.command()
def verify(
    pid: Annotated[int | None, typer.Argument(help="Only this process; else all.")] = None,
    against: Annotated[
        list[Path] | None,
        typer.Option("--against", help="A seal that was exported. Repeatable."),
    ] = None,
    public_key: Annotated[
        Path | None, typer.Option("--public-key", help="Who must have signed it, as PEM.")
    ] = None,
    config: ConfigFile = None,
    json: Json = False,
    debug: Debug = False,
) -> None:
    """Is the log what was written? Names what is not, and ends with 1 then.

    Without an exported seal a log that was made anew as a whole, seals and all, is not found.
    """
    from . import auditing

    auditing.verify(config, pid, tuple(against or ()), public_key, as_json=json)


@audit_commands.command()
def export(
    key: Annotated[
        Path | None, typer.Option("--key", help="Sign it with this Ed25519 key, as PEM.")
    ] = None,
    config: ConfigFile = None,
    debug: Debug = False,
) -> None:
    """The newest seal, as JSON; keep it where nobody who can reach the database can reach it."""
    from . import auditing

    auditing.export(config, key)


@audit_commands.command()
def erase(
    pid: Number,
    key: Annotated[
        str | None, typer.Option("--key", help='Only the outcome at this place, e.g. "0:3".')
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Erase it; there is no way back.")] = False,
    config: ConfigFile = None,
    json: Json = False,
    debug: Debug = False,
) -> None:
    """Erase what a process's log says, e.g. of a person. The chain stays verifiable.

    A process that needs what is erased cannot go on. Without --yes nothing is erased.
    """
    from . import auditing

    auditing.erase(config, pid, key, done=yes, as_json=json)
