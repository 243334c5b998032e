"""Models: each configured model is a service of its own, named llm.NAME."""

from ...kernel.call import Call, here
from ...kernel.service import Service, handles
from .driver import LLM
from .messages import (
    Complete,
    Completed,
    Completion,
    CompletionFailed,
    Count,
    Delta,
    DeltaKind,
    Describe,
    LimitsTold,
    ModelCard,
    Usage,
)


class Model(Service, name="llm", driver="llm"):
    """One model behind one driver: answers, streams, counts."""

    def __init__(self, driver: LLM) -> None:
        self._driver = driver

    async def start(self) -> None:
        await self._driver.start()

    async def stop(self) -> None:
        await self._driver.stop()

    @handles(Complete)
    async def complete(self, ask: Complete) -> Completion:
        call = here()
        assert isinstance(call, Call)
        stream = _Stream(self, call)
        try:
            completion = await self._driver.complete(ask, stream.emit, call.meter)
        except BaseException as error:
            if self.bus.hears(CompletionFailed):
                await self._tell_failure(error, stream)
            raise
        if self.bus.hears(Completed):
            await self._tell(completion, stream)
        if (told := self._driver.allowances()) and self.bus.hears(LimitsTold):
            await self.publish(LimitsTold(address=self.address, allowances=told))
        return completion

    async def _tell(self, completion: Completion, stream: "_Stream") -> None:
        await self.publish(
            Completed(
                call=stream.call.span_id,
                caller=str(stream.call.origin or "app"),
                address=self.address,
                model=completion.model,
                usage=completion.usage,
                finish=completion.finish,
                seconds=self.bus.time() - stream.began,
                first_token_s=stream.first_token_s,
            )
        )

    async def _tell_failure(self, error: BaseException, stream: "_Stream") -> None:
        await self.publish(
            CompletionFailed(
                call=stream.call.span_id,
                caller=str(stream.call.origin or "app"),
                address=self.address,
                model=self._driver.card().model,
                error=type(error).__name__ if isinstance(error, Exception) else "cancelled",
                usage=stream.used(),
                seconds=self.bus.time() - stream.began,
            )
        )

    @handles(Count)
    async def count(self, ask: Count) -> int:
        return await self._driver.count(ask.messages, ask.tools)

    @handles(Describe)
    async def describe(self, request: Describe) -> ModelCard:
        return self._driver.card()


class _Stream:
    """The deltas of one attempt: to the caller in full, and a copy to the bus."""

    def __init__(self, model: Model, call: Call[Completion]) -> None:
        self.began = model.bus.time()
        self.first_token_s: float | None = None
        self.call, self._model = call, model
        self._offsets: dict[DeltaKind, int] = {"text": 0, "reasoning": 0}
        call.meter.add("llm.attempts", 1)
        self._attempt = int(call.meter["llm.attempts"])
        self._copied = model.bus.hears(Delta)
        self._before = dict(call.meter)

    def used(self) -> Usage:
        """What the call's meter has counted since."""

        def tokens(name: str) -> int:
            counted = f"llm.{name}_tokens"
            return int(self.call.meter.get(counted, 0) - self._before.get(counted, 0))

        return Usage(
            prompt=tokens("prompt"),
            completion=tokens("completion"),
            cached=tokens("cached"),
            cache_written=tokens("cache_written"),
            reasoning=tokens("reasoning"),
        )

    async def emit(self, text: str, kind: DeltaKind = "text", /) -> None:
        if self.first_token_s is None:
            self.first_token_s = self._model.bus.time() - self.began
        if self.call.sink is None and not self._copied:
            return
        delta = Delta(
            call=self.call.span_id,
            attempt=self._attempt,
            offset=self._offsets[kind],
            text=text,
            kind=kind,
        )
        self._offsets[kind] += len(text)
        if self.call.sink is not None:
            await self.call.sink(delta)
        if self._copied:
            await self._model.publish(delta)
