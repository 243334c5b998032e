from aoskernel import Process, program

@program
async def brief(self: Process, topic: str) -> str:
    notes = await self.call("read_file", path=f"{topic}.txt")
    reply = await self.think(f"Summarise in one sentence:\n{notes}")
    await self.remember(reply.text, tags=[topic])
    return reply.text
