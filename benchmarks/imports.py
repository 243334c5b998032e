"""What `import aoskernel` costs, beside the three libraries that every kernel needs."""

import subprocess
import sys

from .case import Effort, Figures, Goal, case

HEAVY = ("httpx", "numpy", "rich", "typer", "xllamacpp")
"""Libraries for those who ask for them; structlog itself pulls in rich where it is installed."""

PROGRAM = """
import sys, time
began = time.process_time()
{imports}
used = time.process_time() - began
print(used * 1e3, len(sys.modules), sum(name in sys.modules for name in {heavy!r}))
"""


def _in_a_fresh_interpreter(imports: str) -> Figures:
    program = PROGRAM.format(imports=imports, heavy=HEAVY)
    told = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    used_ms, modules, heavy = map(float, told.stdout.split())
    return {"import_ms": used_ms, "modules": modules, "heavy_modules": heavy}


@case("imports", "floor: its libraries", floor=True)
async def libraries(effort: Effort) -> Figures:
    return _in_a_fresh_interpreter("import pydantic, anyio, structlog")


@case("imports", "its libraries and one model")
async def one_model(effort: Effort) -> Figures:
    """`import pydantic` alone loads next to nothing; this is what any use of it costs."""
    return _in_a_fresh_interpreter(
        "import pydantic, anyio, structlog; pydantic.create_model('Model', number=int)"
    )


@case(
    "imports",
    "the users' door",
    goals=[Goal("import_ms", above=80), Goal("heavy_modules", above=0)],
)
async def door(effort: Effort) -> Figures:
    return _in_a_fresh_interpreter("from aoskernel import Kernel, Service, Request, program")
