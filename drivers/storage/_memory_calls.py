"""What calls a process, in dictionaries: commands, questions, alarms, and who waits for whom."""

import heapq
import itertools
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace

from ...subsystems.storage import driver as d


@dataclass(slots=True)
class Calls:
    """Numbered from 1 on, each kind by itself."""

    _commands: dict[d.Pid, dict[int, d.Command]] = field(default_factory=dict)
    _questions: dict[int, d.Question] = field(default_factory=dict)
    _asked: dict[tuple[d.Pid, d.Key], int] = field(default_factory=dict)
    _waiters: dict[d.Pid, set[d.Pid]] = field(default_factory=dict)
    _alarms: dict[d.Pid, float] = field(default_factory=dict)
    _bound: dict[d.Pid, list[d.Pid]] = field(default_factory=dict)
    _numbers: Iterator[int] = field(default_factory=lambda: itertools.count(1))
    _question_numbers: Iterator[int] = field(default_factory=lambda: itertools.count(1))

    # Commands

    def post(self, to: d.Pid, signal: str, grace_s: float) -> None:
        number = next(self._numbers)
        command = d.Command(number=number, signal=signal, grace_s=grace_s)
        self._commands.setdefault(to, {})[number] = command

    def obey(self, pid: d.Pid, number: int) -> None:
        self._commands.get(pid, {}).pop(number, None)

    def commands(self, pid: d.Pid) -> tuple[d.Command, ...]:
        return tuple(self._commands.get(pid, {}).values())

    # Questions

    def put(self, pid: d.Pid, write: d.PutQuestion) -> None:
        if (pid, write.key) in self._asked:
            return
        number = self._asked[pid, write.key] = next(self._question_numbers)
        self._questions[number] = d.Question(
            number=number,
            pid=pid,
            key=write.key,
            text=write.text,
            choices=write.choices,
            deadline=write.deadline,
        )

    def close(self, pid: d.Pid, key: d.Key) -> None:
        number = self._asked.get((pid, key), 0)
        if number:
            self._questions[number] = replace(self._questions[number], closed=True)

    def answer(self, write: d.AnswerQuestion) -> tuple[d.Pid, ...]:
        """Who asked, if this is the answer."""
        question = self._questions.get(write.number)
        if question is None or question.closed or question.answer is not None:
            return ()
        answered = replace(question, answer=write.text, receipt=write.receipt)
        self._questions[write.number] = answered
        return (question.pid,)

    def questions(self, query: d.ReadQuestions) -> Iterable[d.Question]:
        """The one that is meant, or all that are open."""
        number = query.number
        if query.pid is not None and query.key is not None:
            number = self._asked.get((query.pid, query.key), 0)
        if number is not None:
            return [q for q in (self._questions.get(number),) if q is not None]
        return [q for q in self._questions.values() if q.answer is None and not q.closed]

    # Who waits for whom, and until when

    def bear(self, record: d.ProcessRecord) -> None:
        if record.bound and record.parent is not None:
            self._bound.setdefault(record.parent, []).append(record.pid)

    def save(self, before: d.ProcessRecord | None, now: d.ProcessRecord) -> None:
        """Note what a process waits for from now on."""
        for pid in before.waits_for if before else ():
            self._waiters.get(pid, set()).discard(now.pid)
        for pid in now.waits_for:
            self._waiters.setdefault(pid, set()).add(now.pid)
        if self._alarms:
            self._alarms.pop(now.pid, None)
        if now.state == "parked" and now.wake_at is not None:
            self._alarms[now.pid] = now.wake_at

    def end(self, pid: d.Pid) -> set[d.Pid]:
        """A process has ended: who has waited for it, and who is bound to end with it."""
        bound = self._bound.pop(pid, ())
        for child in bound:
            self.post(child, "TERM", GRACE_S)
        return self._waiters.pop(pid, set()) | set(bound)

    def forget(self, pid: d.Pid) -> None:
        """Nobody calls a process that is gone."""
        self._commands.pop(pid, None)
        for place in [place for place in self._asked if place[0] == pid]:
            del self._questions[self._asked.pop(place)]

    def is_answered(self, pid: d.Pid) -> bool:
        """Has a human answered what the process asks?"""
        mine = (q for q in self._questions.values() if q.pid == pid)
        return any(q.answer is not None and not q.closed for q in mine)

    def alarms(self, programs: Iterable[d.Pid]) -> list[d.Alarm]:
        """Those of these processes."""
        found = (d.Alarm(pid=pid, at=self._alarms[pid]) for pid in programs)
        return heapq.nsmallest(100, found, key=lambda alarm: alarm.at)

    @property
    def sleepers(self) -> Iterable[d.Pid]:
        return self._alarms


GRACE_S = 5.0
"""For the clean-up of a process that ends with its parent."""
