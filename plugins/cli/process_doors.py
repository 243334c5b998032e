"""The doors of the commands for durable processes; the work is in the modules."""

from typing import Annotated, Literal

import typer

from .options import ConfigFile, Debug, Json, JsonLines

process_commands = typer.Typer()

Number = Annotated[int, typer.Argument(metavar="PID", help="The process's number.")]
Numbers = Annotated[list[int], typer.Argument(metavar="PID...", help="The processes' numbers.")]
Group = Annotated[
    bool, typer.Option("--group", help="Its children too, and theirs, as far down as there are.")
]


@process_commands.command()
def up(
    check: Annotated[
        bool, typer.Option("--check", help="Tell what it would do; do nothing.")
    ] = False,
    log_format: Annotated[
        Literal["text", "json"] | None,
        typer.Option(help="Of the log; text unless the configuration says otherwise."),
    ] = None,
    metrics: Annotated[
        int | None,
        typer.Option(metavar="PORT", help="Show metrics there, on this machine only."),
    ] = None,
    config: ConfigFile = None,
    json: Json = False,
    debug: Debug = False,
) -> None:
    """A kernel as a daemon: it takes over the processes of its programs.

    The programs are those that the configuration names: [services.processes] programs =
    ["module:name"]. Log lines go to stderr. SIGTERM or SIGINT suspends the processes within
    drain_s, a second one ends it at once.
    """
    from . import daemon

    if check:
        daemon.check(config, as_json=json)
    else:
        daemon.up(config, daemon.Wish(log_format, metrics), debug=debug)


@process_commands.command()
def health(config: ConfigFile = None, json: Json = False, debug: Debug = False) -> None:
    """The database, its schema, the kernels, the processes. Ends with 1 where something is amiss."""
    from . import database

    database.health(config, as_json=json)


@process_commands.command()
def limits(config: ConfigFile = None, json: Json = False, debug: Debug = False) -> None:
    """The limits that are configured, and how those stand that all kernels share."""
    from . import limits as limits_

    limits_.limits(config, as_json=json)


@process_commands.command()
def ps(
    all_: Annotated[bool, typer.Option("--all", "-a", help="Ended ones too.")] = False,
    state: Annotated[
        list[str] | None,
        typer.Option("--state", help="Only in this state, or `stranded`. Repeatable."),
    ] = None,
    config: ConfigFile = None,
    json: Json = False,
    debug: Debug = False,
) -> None:
    """The processes, and why one does not go on."""
    from . import listing

    listing.ps(config, ended=all_, states=tuple(state or ()), as_json=json)


@process_commands.command()
def top(
    once: Annotated[bool, typer.Option("--once", help="Show it once and end.")] = False,
    every: Annotated[
        float, typer.Option("--every", min=0.2, metavar="SECONDS", help="How often to look.")
    ] = 2.0,
    config: ConfigFile = None,
    json: Json = False,
    debug: Debug = False,
) -> None:
    """What goes on, live: processes, models, kernels, of all kernels on the database.

    Ctrl-C ends it. With --json, or into a pipe, it is shown once.
    """
    from . import top

    top.top(config, once=once, every_s=every, as_json=json)


@process_commands.command()
def wait(pid: Number, config: ConfigFile = None, json: Json = False, debug: Debug = False) -> None:
    """Wait until a process has ended; prints its result, ends as it ended."""
    from . import following

    following.wait(config, pid, as_json=json)


@process_commands.command()
def attach(
    pid: Number, config: ConfigFile = None, json: JsonLines = False, debug: Debug = False
) -> None:
    """Follow what a process does from now on, as it is committed, to its end.

    A model's text comes when it is complete. Ctrl-C ends this command, not the process.
    """
    from . import following

    following.attach(config, pid, as_json=json)


@process_commands.command()
def resume(
    pid: Number, config: ConfigFile = None, json: JsonLines = False, debug: Debug = False
) -> None:
    """Go on with a process here that was left behind, and show what it does to its end.

    Such as one whose `aosk run` was killed. Ctrl-C suspends it again.
    """
    from . import resuming

    resuming.resume(config, pid, as_json=json)


@process_commands.command()
def kill(
    pids: Numbers,
    signal: Annotated[
        Literal["TERM", "KILL", "STOP", "CONT"],
        typer.Option("--signal", "-s", help="TERM lets it clean up, KILL does not."),
    ] = "TERM",
    grace: Annotated[
        float, typer.Option("--grace", min=0, help="Seconds that TERM gives for cleaning up.")
    ] = 5.0,
    group: Group = False,
    config: ConfigFile = None,
    json: Json = False,
    debug: Debug = False,
) -> None:
    """Send a signal to processes, wherever they run."""
    from . import signalling

    order = signalling.Order(signal, tuple(pids), grace_s=grace, group=group)
    signalling.send(config, order, as_json=json)


@process_commands.command()
def stop(
    pids: Numbers,
    group: Group = False,
    config: ConfigFile = None,
    json: Json = False,
    debug: Debug = False,
) -> None:
    """Hold processes until `aosk cont`."""
    from . import signalling

    signalling.send(config, signalling.Order("STOP", tuple(pids), group=group), as_json=json)


@process_commands.command()
def cont(
    pids: Numbers,
    group: Group = False,
    config: ConfigFile = None,
    json: Json = False,
    debug: Debug = False,
) -> None:
    """Let stopped processes go on."""
    from . import signalling

    signalling.send(config, signalling.Order("CONT", tuple(pids), group=group), as_json=json)


@process_commands.command()
def checkpoint(
    pid: Number, config: ConfigFile = None, json: Json = False, debug: Debug = False
) -> None:
    """Bring a process to rest: out of memory, with all it has said committed.

    As soon as it only waits, or between two syscalls. It goes on from there by replay, at once or
    when what it waits for comes. Tells how much a resume replays.
    """
    from . import resting

    resting.checkpoint(config, pid, as_json=json)


@process_commands.command()
def logs(pid: Number, config: ConfigFile = None, json: Json = False, debug: Debug = False) -> None:
    """What a process said and what it was told, as text."""
    from . import reading

    reading.logs(config, pid, as_json=json)


@process_commands.command()
def trace(
    pid: Number,
    step: Annotated[int | None, typer.Option("--step", help="Only this step.")] = None,
    config: ConfigFile = None,
    json: Json = False,
    debug: Debug = False,
) -> None:
    """A process's syscalls, in order, and how each came out."""
    from . import reading

    reading.trace(config, pid, step, as_json=json)


@process_commands.command()
def asks(config: ConfigFile = None, json: Json = False, debug: Debug = False) -> None:
    """What waits for a human: questions, and calls that nobody knows the outcome of."""
    from . import questions

    questions.asks(config, as_json=json)


@process_commands.command()
def answer(
    number: Annotated[int, typer.Argument(help="The question's, as `aosk asks` shows it.")],
    text: Annotated[str, typer.Argument(help="Where there are choices, one of them.")],
    config: ConfigFile = None,
    json: Json = False,
    debug: Debug = False,
) -> None:
    """Answer a question of a process."""
    from . import questions

    questions.answer(config, number, text, as_json=json)


@process_commands.command()
def resolve(
    pid: Number,
    keys: Annotated[
        list[str] | None, typer.Argument(metavar="KEY...", help="As `aosk asks` shows them.")
    ] = None,
    all_: Annotated[bool, typer.Option("--all", help="Every call that it is in doubt of.")] = False,
    done: Annotated[
        str | None, typer.Option("--done", metavar="JSON", help="It was done; this came of it.")
    ] = None,
    failed: Annotated[
        str | None, typer.Option("--failed", metavar="TEXT", help="It failed, for this reason.")
    ] = None,
    again: Annotated[bool, typer.Option("--again", help="It was not done; do it.")] = False,
    config: ConfigFile = None,
    json: Json = False,
    debug: Debug = False,
) -> None:
    """Say how calls came out that nobody knows of.

    Their process goes on when it is in no doubt any more.
    """
    from . import questions

    verdict = questions.verdict(done, failed, again=again)
    meant = questions.meant(pid, keys or (), every=all_)
    questions.resolve(config, meant, verdict, as_json=json)


@process_commands.command()
def replay(
    pid: Number,
    program: Annotated[
        str | None, typer.Option("--program", metavar="MODULE:NAME", help="The program, by name.")
    ] = None,
    check: Annotated[
        bool,
        typer.Option("--check", help="Find clocks, chance and sockets that are in no log."),
    ] = False,
    config: ConfigFile = None,
    json: Json = False,
    debug: Debug = False,
) -> None:
    """Run a process's program against its log: no model and no tool is called.

    Says where the program diverges, or how far the log goes. With --check also in which line it
    reads a clock, draws a random number or connects by itself, and what to use instead.
    """
    from . import replaying

    work = replaying.check if check else replaying.replay
    work(config, pid, program, as_json=json)
