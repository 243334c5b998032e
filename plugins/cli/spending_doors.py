"""The doors of the commands for quotas and cost; the work is in `spending`."""

from typing import Annotated, Literal

import typer

from .options import ConfigFile, Debug, Json

spending_commands = typer.Typer()
quota_commands = typer.Typer(
    invoke_without_command=True, help="What processes, tenants and all together may use."
)


@spending_commands.command()
def cost(
    by: Annotated[
        Literal["agent", "tenant", "model", "day"], typer.Option("--by", help="A line for each.")
    ] = "agent",
    since: Annotated[
        str | None, typer.Option("--since", metavar="DAY", help="From this day on, in UTC.")
    ] = None,
    config: ConfigFile = None,
    json: Json = False,
    debug: Debug = False,
) -> None:
    """What calls have used: tokens, money where a price is known, tool calls."""
    from . import spending

    spending.cost(config, by, since, as_json=json)


@quota_commands.callback()
def quota(
    context: typer.Context,
    all_: Annotated[bool, typer.Option("--all", "-a", help="Of ended processes too.")] = False,
    config: ConfigFile = None,
    json: Json = False,
    debug: Debug = False,
) -> None:
    """The quotas there are: what is used of each, reserved, and left."""
    from . import spending

    if context.invoked_subcommand is None:
        spending.quotas(config, ended=all_, as_json=json)


Whose = Annotated[
    str, typer.Argument(metavar="WHOSE", help="all, tenant:NAME, or a process's number.")
]
Action = Annotated[
    Literal["stop", "ask", "degrade"],
    typer.Option("--action", help="What becomes of a process that meets it."),
]
Lift = Annotated[
    list[str] | None,
    typer.Option("--lift", metavar="WHAT", help="No ceiling for this any more. Repeatable."),
]


@quota_commands.command("set")
def set_quota(
    whose: Whose,
    tokens: Annotated[int | None, typer.Option("--tokens", help="Prompts and replies.")] = None,
    prompt_tokens: Annotated[int | None, typer.Option("--prompt-tokens")] = None,
    completion_tokens: Annotated[int | None, typer.Option("--completion-tokens")] = None,
    calls: Annotated[int | None, typer.Option("--calls", help="Calls of models.")] = None,
    tool_calls: Annotated[int | None, typer.Option("--tool-calls")] = None,
    money: Annotated[float | None, typer.Option("--money", help="With --currency.")] = None,
    currency: Annotated[
        str | None, typer.Option("--currency", help="Its ISO 4217 code, such as EUR.")
    ] = None,
    wall_s: Annotated[
        float | None, typer.Option("--wall-s", help="Seconds from now on; of a process.")
    ] = None,
    model: Annotated[
        str | None, typer.Option("--model", help="What a tenant asks of this address only.")
    ] = None,
    action: Action = "stop",
    instead: Annotated[
        str, typer.Option("--instead", help="With --action degrade: the cheaper model.")
    ] = "",
    lift: Lift = None,
    config: ConfigFile = None,
    json: Json = False,
    debug: Debug = False,
) -> None:
    """Set what somebody may use; what was used until now stays.

    A kernel that runs hears of it at once. One that the configuration names as well stays until
    the configuration says something else than before.
    """
    from . import spending

    given = {
        "tokens": tokens,
        "prompt_tokens": prompt_tokens,
        "completion_tokens": completion_tokens,
        "calls": calls,
        "tool_calls": tool_calls,
        "money": money,
        "currency": currency,
        "wall_s": wall_s,
        "action": action,
        "instead": instead,
    }
    setting = spending.Setting(whose, model, given, tuple(lift or ()))
    spending.put(config, setting, as_json=json)
