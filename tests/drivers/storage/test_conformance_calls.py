"""What calls a process, on every storage driver: commands, questions, times, and the doorbell."""

from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any

import anyio
import pytest
from postgres import Make, opened

from aoskernel.subsystems.storage.driver import (
    AddProcess,
    Annotate,
    AnswerQuestion,
    ClaimProcesses,
    CloseQuestion,
    Commit,
    FindAlarms,
    FindStranded,
    Intend,
    Pid,
    PostCommand,
    PostLetter,
    ProcessRecord,
    PutQuestion,
    ReadCommands,
    ReadLog,
    ReadProcess,
    ReadQuestions,
    SaveProcess,
    Settle,
    StorageDriver,
    TakeCommand,
)
from aoskernel.subsystems.storage.messages import Write

OUTSIDE = Pid(0)
PROGRAM = (("p", "1"),)


def record(pid: Pid, **more: Any) -> ProcessRecord:
    given = {"program": "p", "version": "1", "state_json": "{}", **more}
    return ProcessRecord(pid=pid, **given)


async def put(driver: StorageDriver, pid: Pid, *writes: Write, epoch: int = 0) -> None:
    await driver.commit(Commit(pid=pid, epoch=epoch, writes=writes))


async def born(driver: StorageDriver, **more: Any) -> Pid:
    pid = await driver.new_pid()
    await put(driver, pid, AddProcess(record=record(pid, **more)))
    return pid


async def parked(driver: StorageDriver, **more: Any) -> Pid:
    pid = await born(driver)
    await put(driver, pid, SaveProcess(record=record(pid, state="parked", **more)))
    return pid


async def is_due(driver: StorageDriver, pid: Pid, moment: float = 0.0) -> bool:
    return bool(await driver.claim(ClaimProcesses(pid=pid, due_by=moment)))


async def test_what_a_parked_process_waits_for_is_read_back(driver: StorageDriver) -> None:
    async with opened(driver):
        waits = {"waits_in": ("receive", "wait"), "waits_for": (Pid(7), Pid(8))}
        pid = await parked(driver, **waits, wake_at=12.5, clock=3.25)
        found = await driver.read(ReadProcess(pid=pid))
        assert found == record(pid, state="parked", **waits, wake_at=12.5, clock=3.25)


async def test_what_a_process_is_held_to_is_read_back(driver: StorageDriver) -> None:
    async with opened(driver):
        bounds = ('{"mode":"read_only"}', '{"capabilities":[{"call":"tools.call:\\"é\\u0000,{}"}]}')
        pid = await born(driver, bounds=bounds)
        parked = record(pid, state="parked", bounds=bounds)
        await put(driver, pid, SaveProcess(record=parked))
        assert await driver.read(ReadProcess(pid=pid)) == parked
        (claimed,) = await driver.claim(ClaimProcesses(pid=pid))
        assert claimed.bounds == bounds


async def test_the_rule_that_let_a_call_be_made_is_that_of_its_last_attempt(
    driver: StorageDriver,
) -> None:
    async with opened(driver):
        pid = await born(driver)
        intent = Intend(key="0:0", kind="call:x", fingerprint="00" * 12, effect="once")
        for rule in ("policy.allow tools.call:*", "approved: standard.ask"):
            await put(driver, pid, replace(intent, rule=rule))
        settled = Settle(key="0:0", kind="call:x", fingerprint="00" * 12, body="1")
        await put(driver, pid, settled)
        (entry,) = await driver.read(ReadLog(pid=pid))
        assert (entry.rule, entry.attempts) == ("approved: standard.ask", 2)


async def test_a_process_that_was_cut_at_its_work_is_due(driver: StorageDriver) -> None:
    async with opened(driver):
        assert await is_due(driver, await parked(driver))
        assert not await is_due(driver, await parked(driver, waits_in=("receive",)))


async def test_a_letter_makes_due_who_waits_for_letters(driver: StorageDriver) -> None:
    async with opened(driver):
        receives = await parked(driver, waits_in=("receive",))
        sleeps = await parked(driver, waits_in=("sleep",), wake_at=9.0)
        waits = await parked(driver, waits_in=("wait",), waits_for=(receives,))
        for pid in (receives, sleeps, waits):
            await put(driver, OUTSIDE, PostLetter(to=pid, body=1))
        assert await is_due(driver, receives)
        assert not await is_due(driver, sleeps)
        assert not await is_due(driver, waits)


async def test_the_end_of_a_process_makes_due_who_waits_for_it(driver: StorageDriver) -> None:
    async with opened(driver):
        child = await born(driver)
        waits = await parked(driver, waits_in=("wait",), waits_for=(child,))
        assert not await is_due(driver, waits)
        await put(driver, child, SaveProcess(record=record(child, state="exited", result="1")))
        assert await is_due(driver, waits)


async def test_a_time_that_has_come_makes_due(driver: StorageDriver) -> None:
    async with opened(driver):
        sleeps = await parked(driver, waits_in=("sleep",), wake_at=9.0)
        assert not await is_due(driver, sleeps, 8.9)
        assert await is_due(driver, sleeps, 9.0)


async def test_a_command_makes_due_until_it_is_taken(driver: StorageDriver) -> None:
    async with opened(driver):
        pid = await parked(driver, waits_in=("receive",))
        await put(driver, OUTSIDE, PostCommand(to=pid, signal="TERM", grace_s=2.5))
        (command,) = await driver.read(ReadCommands(pid=pid))
        assert (command.signal, command.grace_s) == ("TERM", 2.5)
        (taken,) = await driver.claim(ClaimProcesses(pid=pid, due_by=0.0))
        back = record(pid, state="parked", waits_in=("receive",), epoch=taken.epoch)
        obeyed = TakeCommand(number=command.number, signal=command.signal)
        await put(driver, pid, obeyed, SaveProcess(record=back), epoch=taken.epoch)
        assert await driver.read(ReadCommands(pid=pid)) == ()
        assert not await is_due(driver, pid)


async def test_an_answer_makes_due_until_the_question_is_closed(driver: StorageDriver) -> None:
    async with opened(driver):
        pid = await born(driver)
        ask = PutQuestion(key="0:1", text="Ü\0?", choices=("a", "b"), deadline=5.0)
        await put(driver, pid, ask)
        await put(driver, pid, ask)  # again, after a crash
        (question,) = await driver.read(ReadQuestions())
        assert (question.pid, question.key, question.text) == (pid, "0:1", "Ü\0?")
        assert (question.choices, question.deadline) == (("a", "b"), 5.0)
        waits = record(pid, state="parked", waits_in=("ask",))
        await put(driver, pid, SaveProcess(record=waits))
        assert not await is_due(driver, pid)
        answer = AnswerQuestion(number=question.number, text="a", receipt="r")
        await put(driver, OUTSIDE, answer)
        (taken,) = await driver.claim(ClaimProcesses(pid=pid, due_by=0.0))
        assert await driver.read(ReadQuestions()) == ()
        waits = record(pid, state="parked", waits_in=("ask",), epoch=taken.epoch)
        await put(driver, pid, CloseQuestion(key="0:1"), SaveProcess(record=waits), epoch=1)
        assert not await is_due(driver, pid)


async def test_the_first_answer_counts_and_none_after_the_close(driver: StorageDriver) -> None:
    async with opened(driver):
        pid = await born(driver)
        await put(driver, pid, PutQuestion(key="0:1", text="?"), PutQuestion(key="0:2", text="!"))
        first, second = await driver.read(ReadQuestions())
        for text in ("yes", "no"):
            answer = AnswerQuestion(number=first.number, text=text, receipt=text)
            await put(driver, OUTSIDE, answer)
        await put(driver, pid, CloseQuestion(key="0:2"))
        late = AnswerQuestion(number=second.number, text="late", receipt="late")
        await put(driver, OUTSIDE, late)
        (answered,) = await driver.read(ReadQuestions(number=first.number))
        (closed,) = await driver.read(ReadQuestions(pid=pid, key="0:2"))
        assert (answered.answer, answered.receipt) == ("yes", "yes")
        assert (closed.answer, closed.closed) == (None, True)


async def test_the_questions_of_the_ended_are_not_open(driver: StorageDriver) -> None:
    async with opened(driver):
        pid = await born(driver)
        await put(driver, pid, PutQuestion(key="0:1", text="?"))
        await put(driver, pid, SaveProcess(record=record(pid, state="killed")))
        assert await driver.read(ReadQuestions()) == ()


async def test_alarms_are_found_earliest_first_for_programs_one_has(
    driver: StorageDriver,
) -> None:
    async with opened(driver):
        late = await parked(driver, waits_in=("sleep",), wake_at=9.0)
        early = await parked(driver, waits_in=("receive",), wake_at=5.0)
        await parked(driver, waits_in=("receive",))
        found = await driver.read(FindAlarms(programs=PROGRAM))
        assert [(alarm.pid, alarm.at) for alarm in found] == [(early, 5.0), (late, 9.0)]
        assert await driver.read(FindAlarms(programs=(("other", "1"),))) == ()
        assert await driver.read(FindAlarms(programs=())) == ()


async def test_a_note_is_of_the_last_intent(driver: StorageDriver) -> None:
    async with opened(driver):
        pid = await born(driver)
        intent = Intend(key="0:0", kind="k", fingerprint="ab", effect="once", note="begun")
        await put(driver, pid, intent)
        assert [e.note for e in await driver.read(ReadLog(pid=pid))] == ["begun"]
        await put(driver, pid, Annotate(key="0:0", note="said"))
        (entry,) = await driver.read(ReadLog(pid=pid))
        assert (entry.note, entry.attempts, entry.epoch) == ("said", 1, 0)
        again = Intend(key="0:0", kind="k", fingerprint="ab", effect="once")
        await put(driver, pid, again)
        (entry,) = await driver.read(ReadLog(pid=pid))
        assert (entry.note, entry.attempts) == ("", 2)
        await put(driver, pid, Settle(key="0:0", kind="k", fingerprint="ab", body="1"))
        assert (await driver.read(ReadLog(pid=pid)))[0].settled


async def test_a_bound_child_is_told_to_end_with_its_parent(driver: StorageDriver) -> None:
    async with opened(driver):
        parent = await born(driver)
        bound = await born(driver, parent=parent, bound=True)
        free = await born(driver, parent=parent)
        await put(driver, parent, SaveProcess(record=record(parent, state="failed", error="x")))
        told = [await driver.read(ReadCommands(pid=pid)) for pid in (bound, free)]
        assert [[command.signal for command in commands] for commands in told] == [["TERM"], []]


async def test_stranded_is_what_nobody_owns_and_nobody_has_a_program_for(
    driver: StorageDriver,
) -> None:
    async with opened(driver):
        owned, free = await born(driver), await parked(driver, waits_in=("receive",))
        ended = await born(driver)
        await put(driver, ended, SaveProcess(record=record(ended, state="exited", result="1")))
        everyone = (owned, free, ended)
        assert await driver.read(FindStranded(pids=everyone)) == (free,)
        await driver.claim(ClaimProcesses(programs=PROGRAM, due_by=0.0))
        assert await driver.read(FindStranded(pids=everyone)) == ()


class Bell:
    """What a kernel hears."""

    def __init__(self) -> None:
        self.heard: set[Pid] = set()
        self.rung = anyio.Event()

    def __call__(self, pids: Iterable[Pid] | None) -> None:
        self.heard.update(pids or ())
        self.rung.set()

    async def hears(self, *pids: Pid) -> None:
        while not self.heard.issuperset(pids):
            self.rung = anyio.Event()
            await self.rung.wait()


Act = Callable[[StorageDriver, Pid], Any]


async def _posts_a_letter(driver: StorageDriver, pid: Pid) -> None:
    await put(driver, OUTSIDE, PostLetter(to=pid, body=1))


async def _posts_a_command(driver: StorageDriver, pid: Pid) -> None:
    await put(driver, OUTSIDE, PostCommand(to=pid, signal="KILL"))


async def _ends_it(driver: StorageDriver, pid: Pid) -> None:
    await put(driver, pid, SaveProcess(record=record(pid, state="exited", result="1")))


async def _suspends_it(driver: StorageDriver, pid: Pid) -> None:
    await put(driver, pid, SaveProcess(record=record(pid, state="parked")))


@pytest.mark.parametrize("act", [_posts_a_letter, _posts_a_command, _ends_it, _suspends_it])
async def test_a_commit_of_one_kernel_rings_in_the_other(make: Make, act: Act) -> None:
    ours, theirs, bell = make(), make(), Bell()
    async with opened(ours), opened(theirs, ring=bell):
        await bell.rung.wait()  # it listens
        pid = await born(ours)
        await act(ours, pid)
        await bell.hears(pid)


async def test_an_end_rings_for_who_waits_for_it_even_where_it_was_written(make: Make) -> None:
    driver, bell = make(), Bell()
    async with opened(driver, ring=bell):
        await bell.rung.wait()
        child = await born(driver)
        waits = await parked(driver, waits_in=("wait",), waits_for=(child,))
        bound = await born(driver, parent=child, bound=True)
        await _ends_it(driver, child)
        await bell.hears(waits, bound)


SILENCE = "update kernel set until = now() - interval '1 second' where id = $1"
FORGET = "delete from kernel where id = $1"


async def test_a_claim_rings_for_the_kernel_that_had_the_process_and_only_there(
    make: Make,
) -> None:
    silent, taker, other = make(), make(), make()
    lost, taken, heard = Bell(), Bell(), Bell()
    async with opened(silent, ring=lost), opened(taker, ring=taken), opened(other, ring=heard):
        for bell in (lost, taken, heard):
            await bell.rung.wait()  # it listens
        pids = [await born(silent) for _ in range(3)]
        place = database_of(silent)
        await place._connections.run(SILENCE, place._commits.kernel)
        assert len(await taker.claim(ClaimProcesses())) == 3
        await lost.hears(*pids)
        await _posts_a_letter(taker, pids[0])
        await heard.hears(pids[0])
        assert (taken.heard, heard.heard) == (set(), {pids[0]})


async def test_a_kernel_that_was_forgotten_rings_for_everything(make: Make) -> None:
    driver, bell = make(lease_s=0.3), Bell()
    async with opened(driver, ring=bell):
        await bell.rung.wait()
        bell.rung = anyio.Event()
        place = database_of(driver)
        await place._connections.run(FORGET, place._commits.kernel)
        await bell.rung.wait()


def database_of(driver: Any) -> Any:
    return driver._running() if hasattr(driver, "_running") else driver._database


HANG_UP = """
select pg_terminate_backend(pid) from pg_stat_activity
where application_name = 'aoskernel' and query ilike 'listen%' and datname = current_database()
"""


async def test_a_doorbell_whose_line_was_cut_rings_for_everything_and_then_goes_on(
    make: Make,
) -> None:
    ours, bell = make(), Bell()
    everything: list[bool] = []

    def ring(pids: Iterable[Pid] | None) -> None:
        everything.append(pids is None)
        bell(pids)

    async with opened(ours, ring=ring):
        await bell.rung.wait()
        bell.rung = anyio.Event()
        await database_of(ours)._connections.run(HANG_UP)
        await bell.rung.wait()
        assert everything == [False, True]
        theirs = make()
        async with opened(theirs):
            pid = await born(theirs)
            await _posts_a_letter(theirs, pid)
            await bell.hears(pid)
