"""Storage: carries commits and reads to the driver."""

from ...kernel.service import Service, handles
from . import messages as words
from .driver import StorageDriver


class Storage(Service, name="storage", driver="storage", restart="never"):
    """The disk: one log, and what is derived from it."""

    def __init__(self, driver: StorageDriver) -> None:
        self._driver = driver

    async def start(self) -> None:
        await self._driver.start()

    async def run(self) -> None:
        await self._driver.run()

    async def stop(self) -> None:
        await self._driver.stop()

    @handles(words.NewPid)
    async def new_pid(self, request: words.NewPid) -> words.Pid:
        return await self._driver.new_pid()

    @handles(words.Commit)
    async def commit(self, request: words.Commit) -> None:
        await self._driver.commit(request)
        if any(write.write == "memory" for write in request.writes):
            await self.publish(words.MemoriesAdded())

    @handles(words.ClaimProcesses)
    async def claim(self, request: words.ClaimProcesses) -> tuple[words.ProcessRecord, ...]:
        return await self._driver.claim(request)

    @handles(words.ReadLog)
    async def read_log(self, query: words.ReadLog) -> tuple[words.Entry, ...]:
        return await self._driver.read(query)

    @handles(words.ReadPages)
    async def read_pages(self, query: words.ReadPages) -> tuple[words.Page, ...]:
        return await self._driver.read(query)

    @handles(words.ReadLetters)
    async def read_letters(self, query: words.ReadLetters) -> tuple[words.Letter, ...]:
        return await self._driver.read(query)

    @handles(words.ReadProcess)
    async def read_process(self, query: words.ReadProcess) -> words.ProcessRecord | None:
        return await self._driver.read(query)

    @handles(words.FindProcesses)
    async def find_processes(self, query: words.FindProcesses) -> tuple[words.ProcessRecord, ...]:
        return await self._driver.read(query)

    @handles(words.FindMemories)
    async def find_memories(self, query: words.FindMemories) -> tuple[words.Memory, ...]:
        return await self._driver.read(query)

    @handles(words.FindSimilar)
    async def find_similar(self, query: words.FindSimilar) -> tuple[words.Memory, ...]:
        return await self._driver.read(query)

    @handles(words.FindUnembedded)
    async def find_unembedded(self, query: words.FindUnembedded) -> tuple[words.Memory, ...]:
        return await self._driver.read(query)
