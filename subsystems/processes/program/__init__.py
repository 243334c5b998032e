"""Programs: what a process runs. This package is the programmer's door.

A program is an async function (one step), or a `Program` class whose fields are its state
and whose `step` gives the next state, or `Exit`.
"""

from .classes import Program
from .definition import Exit, Invocation
from .functions import program
from .process import Process
from .reference import ProcessRef, attach
from .spawning import spawn

__all__ = ["Exit", "Invocation", "Process", "ProcessRef", "Program", "attach", "program", "spawn"]
