"""`aosk`: the kernel from the command line. Here are its doors; the work is in the modules."""

import logging
import os
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, NoReturn

import typer

from ...subsystems.policy.messages import Mode
from . import output
from .audit_doors import audit_commands
from .database_doors import database_commands
from .exits import EPILOG, ExitCode, Stop, as_stop
from .options import ConfigFile, Debug, Json, JsonLines
from .policy_doors import policy_commands
from .process_doors import process_commands
from .spending_doors import quota_commands, spending_commands

app = typer.Typer(
    name="aosk",
    help="AOS Kernel: an operating-system kernel for AI agents.",
    epilog=EPILOG,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
model_commands = typer.Typer(
    no_args_is_help=True, help="Models: which are here, and bring them here."
)
config_commands = typer.Typer(no_args_is_help=True, help="The configuration file.")
app.add_typer(model_commands, name="models")
app.add_typer(config_commands, name="config")
app.add_typer(database_commands, name="db")
app.add_typer(audit_commands, name="audit")
app.add_typer(process_commands)
app.add_typer(spending_commands)
app.add_typer(quota_commands, name="quota")
app.add_typer(policy_commands, name="policy")


@app.command()
def init(
    directory: Annotated[Path, typer.Argument(help="Where; it is made if need be.")] = Path(),
    force: Annotated[bool, typer.Option("--force", help="Overwrite what is there.")] = False,
    json: Json = False,
    debug: Debug = False,
) -> None:
    """Write a commented aosk.toml and a small workspace to try it on."""
    from . import workspace

    workspace.init(directory, force=force, as_json=json)


@app.command()
def run(
    task: Annotated[str, typer.Argument(help="What the agent is to do, in any language.")],
    file: Annotated[
        list[str] | None,
        typer.Option("--file", "-f", help="Read this file first, then think. Repeatable."),
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(
            "--model",
            "-m",
            help="A configured address, a .gguf file, a known name or a vendor's model.",
        ),
    ] = None,
    mode: Annotated[
        Mode | None,
        typer.Option("--mode", help="What it may do; as configured if omitted."),
    ] = None,
    user: Annotated[
        str, typer.Option("--user", help="For whom it works; limits per user count by it.")
    ] = "",
    config: ConfigFile = None,
    json: JsonLines = False,
    debug: Debug = False,
) -> None:
    """Run an agent on a task and show what it does.

    With --file the order is fixed: read the files, then think. Without, the model may choose
    tools. A key in the environment is used only for a model of its vendor that is named, here
    or in the configuration.
    """
    from . import session

    order = session.Order(task, tuple(file or ()), model, config, mode, user)
    session.run(order, as_json=json)


@model_commands.command("list")
def list_models(
    vendor: Annotated[
        str | None, typer.Option("--vendor", help="The models of this vendor, with prices.")
    ] = None,
    config: ConfigFile = None,
    json: Json = False,
    debug: Debug = False,
) -> None:
    """The configured models, the model files known by name, and the vendors; or one vendor's."""
    from . import models

    if vendor is None:
        models.show(config, as_json=json)
    else:
        models.show_vendor(vendor, as_json=json)


@model_commands.command()
def fetch(
    name: Annotated[str | None, typer.Argument(help="Which; the only one if omitted.")] = None,
    source: Annotated[
        str | None, typer.Option("--from", "--source", help="A URL or a file to take it from.")
    ] = None,
    json: Json = False,
    debug: Debug = False,
) -> None:
    """Bring a model file here and check its SHA-256."""
    from . import models

    models.fetch(name, source, as_json=json)


@model_commands.command("check")
def check_model(
    address: Annotated[
        str | None, typer.Argument(help="A configured model; the one that answers if omitted.")
    ] = None,
    only: Annotated[
        str | None, typer.Option("--only", help="Only the checks with this in their name.")
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", help="The calls may cost money.")] = False,
    config: ConfigFile = None,
    json: Json = False,
    debug: Debug = False,
) -> None:
    """Check that a model's driver does what every model driver must.

    Asks before it spends money. Ends with 1 if a check failed.
    """
    from . import conformance

    conformance.check(address, config, allowed=yes, only=only, as_json=json)


@config_commands.command()
def check(
    file: Annotated[Path | None, typer.Argument(help="./aosk.toml if omitted.")] = None,
    json: Json = False,
    debug: Debug = False,
) -> None:
    """Is this configuration one that a kernel can start from? Starts nothing."""
    from . import composition

    composition.check(file, as_json=json)


@app.command()
def services(config: ConfigFile = None, json: Json = False, debug: Debug = False) -> None:
    """Start a kernel and list what runs in it."""
    from . import composition

    composition.services(config, as_json=json)


@app.command()
def tools(config: ConfigFile = None, json: Json = False, debug: Debug = False) -> int:
    """Start the toolsets, list them and their tools, and say which are left out and why.

    Ends with 1 if one does not start.
    """
    from . import toolsets

    return toolsets.show(config, as_json=json)


@app.command()
def drivers(json: Json = False, debug: Debug = False) -> None:
    """The drivers that are installed, by kind."""
    from . import installation

    installation.drivers(as_json=json)


@app.command()
def version(json: Json = False, debug: Debug = False) -> None:
    """The version of this installation."""
    from . import installation

    installation.version(as_json=json)


UsageError: type[Exception] = typer.BadParameter.__mro__[1]
"""Typer's own, under a name that stays where it is between its versions."""


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run a command line; always ends with SystemExit."""
    argv = list(sys.argv[1:] if arguments is None else arguments)
    flags = argv[: argv.index("--")] if "--" in argv else argv
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")  # a terminal that lacks a sign
    if debug := "--debug" in flags:
        logging.basicConfig(level=logging.DEBUG, stream=sys.stderr)
    sys.exit(_run(argv, as_json="--json" in flags, debug=debug))


def _run(argv: list[str], *, as_json: bool, debug: bool) -> int:
    interrupted = Stop("interrupted; the kernel has stopped", ExitCode.INTERRUPTED)
    try:
        code = app(argv, prog_name="aosk", standalone_mode=False)
        if code in (None, ExitCode.OK, ExitCode.FAILED):  # what failed has been told
            return ExitCode.FAILED if code else ExitCode.OK
        return _end(interrupted, as_json=as_json)
    except (KeyboardInterrupt, typer.Abort):  # Typer makes one a code, or the other, by version
        return _end(interrupted, as_json=as_json)
    except UsageError as error:
        error.show()  # type: ignore[attr-defined]
        return _end(Stop(_message(error), ExitCode.USAGE), as_json=as_json, told=True)
    except Exception as error:  # noqa: BLE001 - the outermost border: people see a paragraph
        bare = _bare(error)
        if isinstance(bare, BrokenPipeError):  # `aosk ... | head`: nobody reads on
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return ExitCode.FAILED
        if debug:
            traceback.print_exception(error)
        return _end(as_stop(bare), as_json=as_json)


def _bare(error: Exception) -> Exception:
    """The one error that a task group wrapped."""
    while isinstance(error, ExceptionGroup) and len(error.exceptions) == 1:
        error = error.exceptions[0]
    return error


def _message(error: Exception) -> str:
    return str(error.format_message())  # type: ignore[attr-defined]


def _end(stop: Stop, *, as_json: bool, told: bool = False) -> int:
    """Tell why: a paragraph on stderr, and with --json a document on stdout."""
    if not told:
        output.tell(f"aosk: {stop}")
    if as_json:
        error = {"kind": stop.kind, "message": str(stop)}
        output.document({"ok": False, "error": error, "exit_code": stop.code})
    return stop.code
