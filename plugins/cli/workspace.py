"""`aosk init`: a configuration to read and a file to ask about."""

from importlib.resources import files
from pathlib import Path

from . import output
from .exits import ExitCode, Stop

FILES = ("aosk.toml", "notes.txt")


def init(directory: Path, *, force: bool, as_json: bool) -> None:
    """Write the templates. Raises Stop where one is there already."""
    there = [name for name in FILES if (directory / name).exists()]
    if there and not force:
        raise Stop(
            f"{directory.absolute()} already has {' and '.join(there)}; nothing was written. "
            "Name another directory, or overwrite with --force.",
            ExitCode.USAGE,
        )
    templates = files(__package__) / "templates"
    try:
        directory.mkdir(parents=True, exist_ok=True)
        for name in FILES:
            (directory / name).write_text((templates / name).read_text("utf-8"), "utf-8")
    except OSError as error:
        reason = error.strerror or error
        raise Stop(f"cannot write to {directory}: {reason}", ExitCode.FAILED) from error
    _tell(directory, as_json=as_json)


def _tell(directory: Path, *, as_json: bool) -> None:
    written = [str(directory / name) for name in FILES]
    if as_json:
        output.document({"ok": True, "written": written})
        return
    print(f"Wrote {' and '.join(written)}. Next:\n")
    if directory.absolute() != Path.cwd():
        print(f"  cd {directory}")
    print("  aosk models list           # is a model here? `aosk models fetch` brings one")
    print('  aosk run "What does notes.txt say about Friday?" --file notes.txt')
