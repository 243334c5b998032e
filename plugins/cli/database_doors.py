"""The doors of `aosk db`; the work is in the modules."""

from typing import Annotated

import typer

from .options import ConfigFile, Debug, Json

database_commands = typer.Typer(no_args_is_help=True, help="The database of the processes.")


@database_commands.command()
def status(config: ConfigFile = None, json: Json = False, debug: Debug = False) -> None:
    """Which migrations the database has and which it lacks. Changes nothing."""
    from . import database

    database.status(config, as_json=json)


@database_commands.command()
def migrate(config: ConfigFile = None, json: Json = False, debug: Debug = False) -> None:
    """Bring the database's schema up to date; it is made where there is none."""
    from . import database

    database.migrate(config, as_json=json)


@database_commands.command()
def forget(
    days: Annotated[
        float | None,
        typer.Option("--days", min=0, help="So long after their end; else as configured."),
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Delete them.")] = False,
    config: ConfigFile = None,
    json: Json = False,
    debug: Debug = False,
) -> None:
    """Which ended processes are over, by [services.retention] or --days. Deletes only with --yes.

    What a living process needs is never over. Of a process with a key the record stays.
    """
    from . import forgetting

    work = forgetting.forget if yes else forgetting.preview
    work(config, days, as_json=json)
