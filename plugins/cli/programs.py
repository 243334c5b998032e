"""What `aosk run` runs when files are named: the order is the program's, not the model's."""

from ...subsystems.processes.program import Process, program

SYSTEM = "You answer from the text you are given. Answer briefly."


@program(name="aosk.read")
async def read_and_think(self: Process, task: str, files: tuple[str, ...]) -> str:
    """Read every file through the file tool, then think once with what was read."""
    texts = [f"{path}:\n{await self.call('read_file', path=path)}" for path in files]
    await self.note(SYSTEM, role="system")
    reply = await self.think("\n\n".join([*texts, task]))
    return reply.text
