"""Ways out of a workspace that people have found, and how to swap a file at the worst moment."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

PATHS = [
    "..",
    "../secret.txt",
    "../root-x/secret.txt",
    "../root/notes.txt",
    "sub/../../secret.txt",
    "./.././secret.txt",
    "sub/deep/../../../secret.txt",
    "/etc/passwd",
    "//etc/passwd",
    "/",
    "/proc/self/environ",
    "/proc/self/root/etc/passwd",
    "/dev/stdin",
    "{root}/../secret.txt",
    "{root}-x/secret.txt",
    "{root}x",
    "sub/{root}/../secret.txt",
    "..\\secret.txt",
    "..%2fsecret.txt",
    "%2e%2e/secret.txt",
    "．．/secret.txt",
    "..../secret.txt",
    "../SECRET.TXT",
    "NOTES.TXT",
    "~/.ssh/id_rsa",
    "~root",
    "file:///etc/passwd",
    "$HOME/secret.txt",
    "notes.txt\0",
    "../secret.txt\0.txt",
    "\0",
    "a" * 5000,
    "a" * 300,
    "a/" * 2000,
    "../" * 1000 + "etc/passwd",
    "out.txt",
    "out/secret.txt",
    "sub/up/secret.txt",
    "sub/up/root/notes.txt",
    "sibling/secret.txt",
    "sibling",
    "chain/secret.txt",
    "proc/environ",
    "zero",
    "loop",
    "loop/x",
    "back-and-forth/secret.txt",
]


def make_links(root: Path) -> None:
    """The links that some of those paths go through."""
    links = {
        "out.txt": "../secret.txt",
        "out": str(root.parent),
        "sub/up": "../..",
        "sibling": f"{root}-x",
        "hop": "out",
        "chain": "hop",
        "proc": "/proc/self",
        "zero": "/dev/zero",
        "loop": "loop",
        "back-and-forth": f"../{root.name}/..",
    }
    for name, target in links.items():
        (root / name).symlink_to(target)


class _Opening:
    """Calls `then` once, right before the first opening of something named `name`."""

    event = "open"
    name = ""
    then: Callable[[], None] | None = None

    def __call__(self, event: str, args: tuple[Any, ...]) -> None:
        if self.then is None or event != self.event or not str(args[0]).endswith(self.name):
            return
        then, self.then = self.then, None
        then()


_opening = _Opening()
_hooked = False


@contextmanager
def right_before_opening(
    name: str, then: Callable[[], None], *, event: str = "open"
) -> Iterator[None]:
    """Do something once, at the last moment; `event` is that of an audit hook."""
    global _hooked
    if not _hooked:
        sys.addaudithook(_opening)  # there is no way to take it off again
        _hooked = True
    _opening.event, _opening.name, _opening.then = event, name, then
    try:
        yield
        assert _opening.then is None, f"{event} of {name} never came"
    finally:
        _opening.then = None
