"""`aosk audit`: what was changed is told, what is erased is gone, and seals are kept elsewhere."""

import json
import subprocess
from pathlib import Path

import anyio
import pytest
from daemons import run
from errands import brief, stray

from aoskernel import Kernel
from aoskernel.plugins.cli.exits import ExitCode
from aoskernel.subsystems.processes.messages import Inspect, Resume
from aoskernel.subsystems.storage.messages import Pid, ProcessRecord

from .conftest import Aosk, Durable


def test_the_chain_of_a_process_is_shown_and_is_as_it_was_written(
    aosk: Aosk, durable: Durable
) -> None:
    (pid,) = run(durable(), brief(topic="tea"))
    links = aosk("audit", "show", str(pid), "--json").document["links"]
    assert links[0]["kind"] == "@born"
    assert links[-1]["kind"] == "@ended"
    assert links[0]["hash"][:16] in aosk("audit", "show", str(pid)).out
    told = aosk("audit", "verify", str(pid))
    assert told.code == ExitCode.OK
    assert f"{len(links)} links" in told.out
    assert "only an exported seal can tell" in told.out
    document = aosk("audit", "verify", str(pid), "--json").document
    assert (document["ok"], document["links"], document["faults"]) == (True, len(links), [])
    assert aosk("audit", "show", "999999999").code == ExitCode.FAILED


def test_what_is_erased_is_gone_and_the_chain_is_whole(aosk: Aosk, durable: Durable) -> None:
    (pid,) = run(durable(), brief(topic="tea"))
    told = aosk("audit", "erase", str(pid))
    assert told.code == ExitCode.USAGE
    assert "would be erased, for good; --yes does it" in told.err
    assert "is erased" in aosk("audit", "erase", str(pid), "--yes").out
    document = aosk("audit", "verify", str(pid), "--json").document
    assert document["ok"]
    assert document["erased"] > 1
    assert "tea" not in aosk("trace", str(pid), "--json").out


def resumed(config: Path, pid: Pid) -> ProcessRecord:
    """How it is as soon as it goes on no more."""

    async def resume() -> ProcessRecord:
        with anyio.fail_after(60):
            async with Kernel.from_config(config) as kernel:
                await kernel.request(Resume(pid=pid))
                while (found := await kernel.request(Inspect(pid=pid))).record.state in (
                    "running",
                    "parked",
                ):
                    await anyio.sleep(0.01)
        return found.record

    return anyio.run(resume)


def test_a_process_that_needs_what_was_erased_does_not_go_on(aosk: Aosk, durable: Durable) -> None:
    config = durable()
    one, all_of_it = run(config, stray(), stray())
    assert aosk("audit", "erase", str(one), "--key", "0:0", "--yes").code == ExitCode.OK
    assert aosk("audit", "erase", str(all_of_it), "--yes").code == ExitCode.OK
    stopped, failed = resumed(config, one), resumed(config, all_of_it)
    assert (stopped.state, stopped.error_kind) == ("stopped", "Erased")
    assert (failed.state, failed.error_kind) == ("failed", "Erased")
    assert "`aosk kill" in aosk("ps").out
    for pid in (one, all_of_it):
        assert aosk("audit", "verify", str(pid)).code == ExitCode.OK


def test_an_exported_seal_is_signed_and_must_be_there(
    aosk: Aosk, durable: Durable, tmp_path: Path
) -> None:
    run(durable(), brief(topic="tea"))
    key, public, other = (tmp_path / name for name in ("key.pem", "public.pem", "other.pem"))
    for made in (key, other):
        _openssl("genpkey", "-algorithm", "ed25519", "-out", made)
    _openssl("pkey", "-in", key, "-pubout", "-out", public)
    file = tmp_path / "seal.json"
    file.write_text(aosk("audit", "export", "--key", str(key)).out)
    checked = ("audit", "verify", "--against", str(file), "--public-key", str(public))
    assert aosk(*checked, "--json").document["ok"]

    file.write_text(aosk("audit", "export", "--key", str(other)).out)
    told = aosk(*checked)
    assert told.code == ExitCode.FAILED
    assert "was not signed with the key" in told.err

    exported = json.loads(aosk("audit", "export").out)
    file.write_text(json.dumps({**exported, "hash": "00" * 32}))
    told = aosk("audit", "verify", "--against", str(file))
    assert told.code == ExitCode.FAILED
    assert f"seal {exported['seal']} is not the one that was exported" in told.err
    assert aosk("audit", "verify", "--against", str(tmp_path / "no")).code == ExitCode.USAGE
    assert aosk("audit", "verify", "--public-key", str(public)).code == ExitCode.USAGE


def _openssl(*arguments: object) -> None:
    subprocess.run(["openssl", *map(str, arguments)], check=True, capture_output=True)


@pytest.mark.usefixtures("workspace")
def test_what_is_in_memory_keeps_no_audit(aosk: Aosk) -> None:
    assert aosk("audit", "verify").code == ExitCode.CONFIG
