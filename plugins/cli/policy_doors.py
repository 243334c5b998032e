"""The doors of the commands for the policy; the work is in `policing`."""

from pathlib import Path
from typing import Annotated

import typer

from ...subsystems.policy.messages import Mode
from .options import ConfigFile, Debug, Json

policy_commands = typer.Typer(
    invoke_without_command=True, help="What may be called, what a human is asked, what is refused."
)

Call = Annotated[
    str,
    typer.Argument(metavar="CALL", help="'tools.call:NAME argument=value ...', as a rule has it."),
]
InMode = Annotated[
    Mode | None, typer.Option("--mode", help="As of a process that was spawned with this mode.")
]


@policy_commands.callback()
def policy(
    context: typer.Context,
    config: ConfigFile = None,
    json: Json = False,
    debug: Debug = False,
) -> None:
    """The rules in the order of deciding, and what humans have always allowed."""
    from . import policing

    if context.invoked_subcommand is None:
        policing.show(config, as_json=json)


@policy_commands.command("check")
def check_policy(
    file: Annotated[Path | None, typer.Argument(help="./aosk.toml if omitted.")] = None,
    json: Json = False,
    debug: Debug = False,
) -> None:
    """Can all rules be read, and does each of them decide anything? Starts nothing.

    Ends with 1 where a rule is never reached or says nothing new.
    """
    from . import policing

    policing.check(file, as_json=json)


@policy_commands.command("try")
def try_call(
    call: Call,
    mode: InMode = None,
    tenant: Annotated[str, typer.Option("--tenant", help="As of a process of this tenant.")] = (
        "default"
    ),
    config: ConfigFile = None,
    json: Json = False,
    debug: Debug = False,
) -> None:
    """What would become of a call, and by which rule. Toolsets start; no tool is called.

    Ends with 5 where it would be refused.
    """
    from . import policing

    policing.attempt(config, policing.Attempt(call, mode, tenant), as_json=json)


@policy_commands.command()
def explain(
    pid: Annotated[int, typer.Argument(metavar="PID", help="The process's number.")],
    key: Annotated[str, typer.Argument(metavar="KEY", help="As `aosk trace` shows it.")],
    config: ConfigFile = None,
    json: Json = False,
    debug: Debug = False,
) -> None:
    """Which rule let a process's call be made, or refused it, as the log has it."""
    from . import policing

    policing.explain(config, pid, key, as_json=json)


@policy_commands.command()
def revoke(
    number: Annotated[int, typer.Argument(help="As `aosk policy` shows it.")],
    config: ConfigFile = None,
    json: Json = False,
    debug: Debug = False,
) -> None:
    """Ask again for what was always allowed; every kernel heeds it at once."""
    from . import policing

    policing.revoke(config, number, as_json=json)
