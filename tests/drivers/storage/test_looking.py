"""What is told of a store to whoever looks at it: who has which process, and how it is."""

from uuid import uuid4

import pytest
from postgres import Make, Server, opened, postgres
from stored import born, put, record

from aoskernel.drivers.storage.memory import MemoryStorage
from aoskernel.subsystems.storage.driver import (
    ClaimProcesses,
    FindLineage,
    FindTenures,
    Pid,
    SaveProcess,
    StorageDriver,
    StorageRefused,
    Surveyable,
    Tenure,
)


async def tenure(driver: StorageDriver, pid: Pid) -> Tenure:
    (found,) = await driver.read(FindTenures(pids=(pid,)))
    return found


async def test_whoever_bears_a_process_has_it(driver: StorageDriver) -> None:
    async with opened(driver):
        pid = await born(driver)
        assert (await tenure(driver, pid)).kernel is not None


async def test_what_is_parked_belongs_to_nobody(driver: StorageDriver) -> None:
    async with opened(driver):
        pid = await born(driver)
        await put(driver, pid, SaveProcess(record=record(pid, state="parked")))
        assert (await tenure(driver, pid)).kernel is None


async def test_a_state_has_a_beginning(driver: StorageDriver) -> None:
    async with opened(driver):
        pid = await born(driver)
        began = (await tenure(driver, pid)).since
        await put(driver, pid, SaveProcess(record=record(pid, step=1)))
        assert (await tenure(driver, pid)).since == began
        await put(driver, pid, SaveProcess(record=record(pid, state="parked")))
        parked = (await tenure(driver, pid)).since
        assert parked > began
        await driver.claim(ClaimProcesses(pid=pid))
        assert (await tenure(driver, pid)).since > parked


async def test_nobody_has_what_is_not_there(driver: StorageDriver) -> None:
    async with opened(driver):
        assert await driver.read(FindTenures(pids=(Pid(999_999_999),))) == ()


# Descent


async def test_a_process_without_parent_is_its_own_root(driver: StorageDriver) -> None:
    async with opened(driver):
        pid = await born(driver)
        lineage = await driver.read(FindLineage(pid=pid))
        assert lineage is not None
        assert (lineage.pid, lineage.parent, lineage.root) == (pid, None, pid)
        assert lineage.born == lineage.root_born > 1e9


async def test_a_grandchild_descends_of_its_grandparent(driver: StorageDriver) -> None:
    async with opened(driver):
        first = await born(driver)
        second = await born(driver, parent=first)
        third = await born(driver, parent=second)
        lineage = await driver.read(FindLineage(pid=third))
        assert lineage is not None
        assert (lineage.parent, lineage.root) == (second, first)
        assert lineage.root_born < lineage.born


async def test_when_a_process_was_born_does_not_change(driver: StorageDriver) -> None:
    async with opened(driver):
        pid = await born(driver)
        before = await driver.read(FindLineage(pid=pid))
        await put(driver, pid, SaveProcess(record=record(pid, state="parked")))
        assert await driver.read(FindLineage(pid=pid)) == before


async def test_nobody_descends_of_what_is_not_there(driver: StorageDriver) -> None:
    async with opened(driver):
        assert await driver.read(FindLineage(pid=Pid(999_999_999))) is None


# Surveys


async def test_a_survey_counts_kernels_and_processes(make: Make) -> None:
    driver = make()
    assert isinstance(driver, Surveyable)
    async with opened(driver):
        pid, _ = await born(driver), await born(driver)
        await driver.claim(ClaimProcesses(programs=(("job", "2"),)))
        await put(driver, pid, SaveProcess(record=record(pid, state="exited", result="1")))
        survey = await driver.survey()
    (kernel,) = survey.kernels
    assert (kernel.lives, kernel.processes, kernel.programs) == (True, 1, (("job", "2"),))
    assert survey.states == {"running": 1, "exited": 1}
    assert survey.applied[0] == "0001_log"
    assert (survey.missing, survey.unknown, survey.fault) == ((), (), None)


async def test_a_survey_takes_no_place(make: Make) -> None:
    async with opened(make()):
        looking = make()
        assert isinstance(looking, Surveyable)
        for _ in range(2):
            assert len((await looking.survey()).kernels) == 1
        await looking.stop()


async def test_a_survey_changes_nothing(server: Server) -> None:
    driver = postgres(server.dsn("postgres"), schema_name=f"s{uuid4().hex}")
    for _ in range(2):
        survey = await driver.survey()
        assert survey.applied == ()
        assert survey.missing[0] == "0001_log"
        assert (survey.kernels, survey.states) == ((), {})


def test_what_is_in_memory_cannot_be_surveyed() -> None:
    assert not isinstance(MemoryStorage(), Surveyable)


async def test_a_database_that_is_not_there_is_told(server: Server) -> None:
    with pytest.raises(StorageRefused, match="does not exist"):
        await postgres(server.dsn("nowhere")).survey()
