"""`aosk init` writes a workspace that works, and nothing over somebody's work."""

import re
from pathlib import Path

from aoskernel.kernel import Config

from .conftest import Aosk


def test_init_writes_a_configuration_that_is_in_order(aosk: Aosk, tmp_path: Path) -> None:
    assert aosk("init", "new").code == 0
    assert "Friday" in (tmp_path / "new" / "notes.txt").read_text("utf-8")
    assert aosk("config", "check", "new/aosk.toml").code == 0


def test_init_says_what_to_do_next(aosk: Aosk) -> None:
    said = aosk("init", "new").out
    assert "cd new" in said
    assert 'aosk run "What does notes.txt say about Friday?" --file notes.txt' in said


def test_init_in_json_names_what_it_wrote(aosk: Aosk) -> None:
    assert aosk("init", "--json").document == {"ok": True, "written": ["aosk.toml", "notes.txt"]}


def test_init_twice_overwrites_nothing_unless_forced(aosk: Aosk, tmp_path: Path) -> None:
    aosk("init")
    (tmp_path / "aosk.toml").write_text("# mine", "utf-8")

    again = aosk("init")

    assert again.code == 2
    assert "--force" in again.err
    assert (tmp_path / "aosk.toml").read_text("utf-8") == "# mine"
    assert aosk("init", "--force").code == 0
    assert (tmp_path / "aosk.toml").read_text("utf-8") != "# mine"


def test_every_setting_that_the_template_shows_can_be_set(aosk: Aosk, tmp_path: Path) -> None:
    aosk("init")
    template = tmp_path / "aosk.toml"
    lines = template.read_text("utf-8").splitlines()
    shown = [line for line in lines if re.match(r"# \w+ += ", line)]
    assert len(shown) == 8
    for line in shown:
        key = line.split()[1]
        changed = [
            other.removeprefix("# ") if other == line else other
            for other in lines
            if not other.startswith(f"{key} =")  # the template may set it otherwise
        ]
        template.write_text("\n".join(changed), "utf-8")
        assert Config.load(template).build(), line
