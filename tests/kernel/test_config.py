from dataclasses import dataclass
from pathlib import Path
from typing import Any

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr

from aoskernel.kernel import Config, ConfigError, Kernel, Request, Service, SwapFailed, handles
from aoskernel.kernel import config as configuration
from aoskernel.kernel.config import RouteConfig, build, construct


class Get(Request[Any], topic="conf.get", addressed=True):
    pass


class Holder(Service, name="holder"):
    """Holds what its table says."""

    def __init__(self, size: int = 1, label: str = "", *, ratio: float = 0.5) -> None:
        self.size, self.label, self.ratio = size, label, ratio

    @handles(Get)
    async def get(self, request: Get) -> Any:
        return (self.size, self.label)


@dataclass
class Wire:
    url: str
    token: SecretStr | None = None
    retries: int = 3

    def __post_init__(self) -> None:
        if self.retries < 0:
            raise ValueError("retries cannot be negative")


class Driven(Service, name="driven", driver="conf"):
    def __init__(self, driver: Wire, window_s: float = 1.0) -> None:
        self.driver_, self.window_s = driver, window_s

    @handles(Get)
    async def get(self, request: Get) -> Any:
        return self.driver_


HOLDER, DRIVEN, WIRE = (f"{__name__}:{name}" for name in ("Holder", "Driven", "Wire"))


@pytest.fixture(autouse=True)
def _bare(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No defaults but ours, nothing from this machine's environment."""
    defaults = tmp_path / "defaults.toml"
    defaults.write_text("")
    monkeypatch.setattr(configuration, "DEFAULTS", defaults)


def write(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "aosk.toml"
    path.write_text(text)
    return path


def table(**keys: Any) -> dict[str, Any]:
    return {"holder": {"use": HOLDER, **keys}}


def holder(**keys: Any) -> Holder:
    service = build("holder", {"use": HOLDER, **keys})
    assert isinstance(service, Holder)
    return service


def wire(**keys: Any) -> Wire:
    service = build("driven", {"use": DRIVEN, "driver": WIRE, **keys})
    assert isinstance(service, Driven)
    return service.driver_


# Layers


def test_a_file_sets_services_and_kernel(tmp_path: Path) -> None:
    path = write(
        tmp_path, f'[kernel]\ndrain_s = 3\n[services.holder]\nuse = "{HOLDER}"\nsize = 5\n'
    )
    config = Config.load(path)
    assert config.kernel.drain_s == 3
    assert config.services == table(size=5)


def test_the_environment_overrides_the_file_and_keywords_both(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(tmp_path, "[kernel]\ndrain_s = 1\nstart_s = 1\nslow_start_s = 1\n")
    monkeypatch.setenv("AOSKERNEL__KERNEL__START_S", "2")
    monkeypatch.setenv("AOSKERNEL__KERNEL__SLOW_START_S", "2")
    config = Config.load(path, kernel={"slow_start_s": 3})
    kernel = config.kernel
    assert (kernel.drain_s, kernel.start_s, kernel.slow_start_s) == (1, 2, 3)


def test_an_underscore_in_the_environment_stands_for_a_dot_in_a_known_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(tmp_path, f'[services."holder.one"]\nuse = "{HOLDER}"\n')
    monkeypatch.setenv("AOSKERNEL__SERVICES__HOLDER_ONE__SIZE", "7")
    (service,) = Config.load(path).build()
    assert isinstance(service, Holder)
    assert (service.address, service.size) == ("holder.one", 7)


def test_a_list_in_the_environment_is_read_as_toml(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AOSKERNEL__ROUTES__A.B", '["x", "y"]')
    assert Config.load().routes["a.b"].guards == ("x", "y")


def test_a_broken_list_in_the_environment_names_the_variable(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("AOSKERNEL__ROUTES__A.B", '["x"')
    with pytest.raises(ConfigError, match=r"AOSKERNEL__ROUTES__A.B looks like TOML but is not"):
        Config.load()


def test_a_number_like_text_from_the_environment_stays_a_text(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("AOSKERNEL__SERVICES__HOLDER__LABEL", "1e5")
    (service,) = Config.load(services=table()).build()
    assert isinstance(service, Holder)
    assert service.label == "1e5"


def test_conflicting_variables_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AOSKERNEL__KERNEL", "5")
    monkeypatch.setenv("AOSKERNEL__KERNEL__DRAIN_S", "5")
    with pytest.raises(ConfigError, match="kernel is set to a value already"):
        Config.load()


def test_a_variable_below_a_plain_value_is_an_unknown_or_bad_key(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AOSKERNEL__KERNEL__DRAIN_S__MAX", "5")
    with pytest.raises(ConfigError, match=r"kernel\.drain_s"):
        Config.load(write(tmp_path, "[kernel]\ndrain_s = 1\n"))


def test_another_driver_does_not_inherit_the_defaults_of_the_first() -> None:
    configuration.DEFAULTS.write_text('[services.model]\ndriver = "local"\nweights = "big.gguf"\n')
    config = Config.load(services={"model": {"driver": "remote", "url": "x"}})
    assert config.services["model"] == {"driver": "remote", "url": "x"}


def test_the_same_driver_keeps_the_defaults() -> None:
    configuration.DEFAULTS.write_text('[services.model]\ndriver = "local"\nweights = "big.gguf"\n')
    config = Config.load(services={"model": {"gpu": True}})
    assert config.services["model"] == {"driver": "local", "weights": "big.gguf", "gpu": True}


def test_default_routes_may_name_what_nobody_handles() -> None:
    configuration.DEFAULTS.write_text('[routes]\n"tools.call" = []\n')
    assert Config.load().routes["tools.call"].optional


# What is refused


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[kernal]\n", r"unknown key 'kernal'; did you mean 'kernel'\?"),
        ("[kernel]\ndrian_s = 1\n", r"unknown key 'kernel.drian_s'; did you mean 'drain_s'\?"),
        ("[kernel]\ndrain_s = -1\n", r"'kernel.drain_s': .*greater than or equal to 0"),
        ('[kernel]\ndrain_s = "long"\n', r"'kernel.drain_s': .*valid number"),
        (
            '[routes."a.b"]\ngaurds = []\n',
            r"unknown key 'routes.a.b.gaurds'; did you mean 'guards'",
        ),
        ("services = 3\n", r"'services': .*valid dictionary"),
        ("[services]\nholder = 3\n", r"'services.holder': .*valid dictionary"),
        ("routes = 3\n", r"'routes': .*valid dictionary"),
        ("kernel = \n", r"cannot read .*aosk.toml"),
    ],
)
def test_a_bad_file_is_refused_naming_the_key(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Config.load(write(tmp_path, text))


def test_a_missing_file_says_how_to_make_one(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"no config file .*nowhere.toml; `aosk init`"):
        Config.load(tmp_path / "nowhere.toml")


def test_an_unknown_key_of_a_service_is_refused_with_the_nearest() -> None:
    with pytest.raises(
        ConfigError, match=r"unknown key 'services.holder.siez'; did you mean 'size'"
    ):
        holder(siez=3)


def test_an_unknown_key_of_a_driver_is_refused_with_the_nearest_of_both() -> None:
    with pytest.raises(ConfigError, match=r"'services.driven.window'; did you mean 'window_s'"):
        wire(url="x", window=3)
    with pytest.raises(ConfigError, match=r"'services.driven.retrys'; did you mean 'retries'"):
        wire(url="x", retrys=3)


def test_a_missing_key_is_named() -> None:
    with pytest.raises(ConfigError, match=r"'services.driven.url' must be set"):
        wire()


def test_a_key_of_the_wrong_type_is_named() -> None:
    with pytest.raises(ConfigError, match=r"'services.holder.size': .*valid integer"):
        holder(size="many")


def test_a_constructors_own_objection_names_the_service() -> None:
    with pytest.raises(ConfigError, match=r"services.driven: retries cannot be negative"):
        wire(url="x", retries=-1)


def test_an_unknown_service_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(configuration, "installed", lambda group: {"holder": HOLDER})
    with pytest.raises(ConfigError, match=r"no service named 'holdre'; did you mean 'holder'"):
        build("x", {"use": "holdre"})


def test_an_unknown_driver_is_refused_naming_the_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    drivers = {"openai": WIRE, "anthropic": WIRE}
    monkeypatch.setattr(configuration, "installed", lambda group: drivers)
    message = (
        r"no driver for conf named 'opnai'; did you mean 'openai'\? at hand: anthropic, openai"
    )
    with pytest.raises(ConfigError, match=message):
        build("driven", {"use": DRIVEN, "driver": "opnai"})


def test_a_service_without_its_driver_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"services.driven needs a driver; at hand: none"):
        build("driven", {"use": DRIVEN})


def test_a_module_that_cannot_be_imported_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"cannot load service 'no.such:Thing'"):
        build("x", {"use": "no.such:Thing"})


def test_what_is_no_service_is_refused() -> None:
    with pytest.raises(ConfigError, match="is not a Service class"):
        build("x", {"use": WIRE})


# Building


def test_the_name_of_the_table_is_the_address_and_names_the_service(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(configuration, "installed", lambda group: {"holder": HOLDER})
    service = build("holder.big", {"size": 100})
    assert isinstance(service, Holder)
    assert (service.address, service.size) == ("holder.big", 100)


def test_keys_go_to_the_service_or_to_its_driver() -> None:
    service = build("driven", {"use": DRIVEN, "driver": WIRE, "url": "x", "window_s": 9})
    assert isinstance(service, Driven)
    assert (service.window_s, service.driver_.url) == (9, "x")


def test_what_is_not_set_keeps_the_constructors_default() -> None:
    assert holder().ratio == 0.5


def test_construct_takes_any_typed_callable() -> None:
    def make(size: int, **built: Any) -> tuple[int, Any]:
        return size, built

    assert construct(make, "here", {"size": 3}) == (3, {})


# Secrets


def test_a_secret_comes_from_the_named_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WIRE_TOKEN", "s3cret")
    token = wire(url="x", token={"env": "WIRE_TOKEN"}).token
    assert token is not None
    assert token.get_secret_value() == "s3cret"


def test_an_unset_variable_is_refused_naming_variable_and_service() -> None:
    message = r"services.driven.token .* WIRE_TOKEN, which is not set; .* service 'driven'"
    with pytest.raises(ConfigError, match=message):
        wire(url="x", token={"env": "WIRE_TOKEN"})


def test_a_secret_in_plain_text_is_refused_without_repeating_it() -> None:
    with pytest.raises(ConfigError, match=r"services.driven.token is a secret") as refused:
        wire(url="x", token="s3cret")
    assert "s3cret" not in str(refused.value)


def test_a_plain_value_may_come_from_a_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WIRE_URL", "postgresql://x")
    assert wire(url={"env": "WIRE_URL"}).url == "postgresql://x"


def test_a_number_may_come_from_a_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SIZE", "12")
    assert holder(size={"env": "SIZE"}).size == 12


def test_a_secret_may_come_from_our_own_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AOSKERNEL__SERVICES__DRIVEN__TOKEN", "12345")
    (service,) = Config.load(
        services={"driven": {"use": DRIVEN, "driver": WIRE, "url": "x"}}
    ).build()
    assert isinstance(service, Driven)
    assert service.driver_.token == SecretStr("12345")


def test_a_secret_is_not_in_the_error_about_another_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WIRE_TOKEN", "s3cret")
    with pytest.raises(ConfigError) as refused:
        wire(token={"env": "WIRE_TOKEN"}, retries={"env": "WIRE_TOKEN"})
    assert "s3cret" not in str(refused.value)


# Routes

names = st.lists(st.sampled_from("abcdef"), unique=True, max_size=6).map(tuple)


@given(names, names)
def test_merging_routes_loses_no_guard_and_keeps_the_users_order(
    default: tuple[str, ...], user: tuple[str, ...]
) -> None:
    merged = RouteConfig(guards=default).under(RouteConfig(guards=user)).guards
    assert sorted(merged) == sorted({*default, *user})
    assert [name for name in merged if name in user] == list(user)


def test_a_user_inserts_a_guard_among_the_defaults() -> None:
    default = RouteConfig(guards=("policy", "retry", "journal"))
    user = RouteConfig(guards=("policy", "pii", "journal"))
    assert default.under(user).guards == ("policy", "retry", "pii", "journal")


def test_routes_of_all_layers_merge(tmp_path: Path) -> None:
    path = write(tmp_path, '[routes]\n"a.b" = ["x", "y"]\n')
    config = Config.load(path, routes={"a.b": {"guards": ["z"], "off": ["x"]}})
    route = config.routes["a.b"]
    assert (sorted(route.guards), route.off) == (["x", "y", "z"], ("x",))


# Reload


async def test_reload_swaps_what_has_changed_and_only_that() -> None:
    services = {**table(size=1), "other": {"use": HOLDER}}
    async with Kernel.from_config(services=services) as kernel:
        before = {seat.address: seat.service for seat in kernel.services()}
        await kernel.reload(services={**services, **table(size=2)})
        after = {seat.address: seat.service for seat in kernel.services()}
        assert after["other"] is before["other"]
        assert await kernel.request(Get(), to="holder") == (2, "")


async def test_reload_adds_what_is_new() -> None:
    async with Kernel.from_config(services=table()) as kernel:
        await kernel.reload(services={**table(), "new": {"use": HOLDER, "size": 9}})
        assert await kernel.request(Get(), to="new") == (9, "")
        assert [seat.state for seat in kernel.services()] == ["up", "up"]


async def test_reload_refuses_to_remove() -> None:
    async with Kernel.from_config(services=table()) as kernel:
        with pytest.raises(ConfigError, match="cannot remove holder; restart"):
            await kernel.reload(services={})


async def test_reload_of_a_kernel_without_config_is_refused() -> None:
    async with Kernel(Holder()) as kernel:
        with pytest.raises(ConfigError, match=r"not built from a config; use swap\(\)"):
            await kernel.reload()


async def test_a_reload_that_does_not_fit_changes_nothing() -> None:
    async with Kernel.from_config(services=table()) as kernel:
        with pytest.raises(ConfigError):
            await kernel.reload(services={**table(size=2), "bad": {"use": HOLDER, "siez": 1}})
        assert await kernel.request(Get()) == (1, "")
        assert [seat.address for seat in kernel.services()] == ["holder"]


class Broken(Holder, name="broken"):
    async def start(self) -> None:
        if self.size > 1:
            raise OSError("no")


BROKEN = f"{__name__}:Broken"


async def test_an_added_service_that_does_not_start_is_taken_away_again() -> None:
    services = {**table(), "bad": {"use": BROKEN, "size": 2}}
    async with Kernel.from_config(services=table()) as kernel:
        with pytest.raises(OSError, match="no"):
            await kernel.reload(services=services)
        assert [seat.address for seat in kernel.services()] == ["holder"]
        assert await kernel.request(Get()) == (1, "")
        services["bad"]["size"] = 1
        await kernel.reload(services=services)
        assert await kernel.request(Get(), to="bad") == (1, "")


async def test_a_reload_whose_swap_fails_can_be_tried_again() -> None:
    services = {"holder": {"use": BROKEN, "size": 1}}
    async with Kernel.from_config(services=services) as kernel:
        with pytest.raises(SwapFailed):
            await kernel.reload(services={"holder": {"use": BROKEN, "size": 2}})
        assert await kernel.request(Get()) == (1, "")
        await kernel.reload(services={"holder": {"use": BROKEN, "size": 1, "label": "again"}})
        assert await kernel.request(Get()) == (1, "again")


class Stamp(Service, name="stamp"):
    calls = 0

    async def guard(self, call: Any, proceed: Any) -> Any:
        Stamp.calls += 1
        return await proceed(call)


async def test_reload_sets_routes_and_kernel_times_anew() -> None:
    services = {**table(), "stamp": {"use": f"{__name__}:Stamp"}}
    async with Kernel.from_config(services=services) as kernel:
        await kernel.request(Get())
        routes = {"conf.get": ["stamp"]}
        await kernel.reload(services=services, routes=routes, kernel={"drain_s": 1})
        await kernel.request(Get())
        assert Stamp.calls == 1
        assert kernel.config.drain_s == 1


async def test_after_a_reload_services_still_stop_in_reverse() -> None:
    with anyio.fail_after(20):
        async with Kernel.from_config(services=table()) as kernel:
            await kernel.reload(services={**table(), "new": {"use": HOLDER}})
            assert [seat.address for seat in kernel.services()] == ["holder", "new"]


def test_a_table_with_a_key_named_env_is_merged_like_any_other(tmp_path: Path) -> None:
    file = tmp_path / "aosk.toml"
    file.write_text('[services.mine]\nuse = "a:B"\nenv = { ONE = "1" }\n')
    config = Config.load(file, services={"mine": {"env": {"TWO": "2"}}})
    assert config.services["mine"] == {"use": "a:B", "env": {"ONE": "1", "TWO": "2"}}
