"""Rules, modes and bounds: which decides of a call, whatever the order they are written in."""

import random
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aoskernel.kernel.message import Effect
from aoskernel.subsystems.llm.messages import ToolSpec
from aoskernel.subsystems.policy.judge import STRICTEST_FIRST, Judge, strictest
from aoskernel.subsystems.policy.messages import Bounds, Decision, Mode, Rule, Written
from aoskernel.subsystems.policy.places import Places, host_of
from aoskernel.subsystems.policy.rules import rules
from aoskernel.subsystems.tools.messages import Access, Tool, Touch, resources

Lists = dict[str, list[Written]]


def tool(name: str, effect: Effect = "once", **touches: tuple[str, Access]) -> Tool:
    return Tool(
        spec=ToolSpec(name=name, description="", parameters={}),
        effect=effect,
        address="tools.x",
        touches=tuple(
            Touch.model_validate({"argument": argument, "kind": kind, "access": access})
            for argument, (kind, access) in touches.items()
        ),
    )


READ = tool("read", "none", path=("path", "read"))
WRITE = tool("write", "idempotent", path=("path", "write"))
MOVE = tool("move", "once", source=("path", "delete"), target=("path", "write"))
DELETE = tool("delete", "once", path=("path", "delete"))
FETCH = tool("fetch", "none", url=("url", "read"))
SHELL = tool("shell", "once")


def paying(name: str, effect: Effect = "once", **currencies: str) -> Tool:
    """A tool that spends; by argument, a currency or the argument that says it."""
    touches = tuple(
        Touch(argument=argument, kind="spend", access="spend", currency=currency)
        for argument, currency in currencies.items()
    )
    return tool(name, effect).model_copy(update={"touches": touches})


PAY = paying("pay", amount="currency")
TIP = paying("tip", amount="EUR", tip="EUR")
LOOK_UP = paying("look_up", "none", fee="EUR")
BUY = PAY.model_copy(
    update={
        "spec": FETCH.spec.model_copy(update={"name": "buy"}),
        "touches": FETCH.touches + PAY.touches,
    }
)
TOOLS = (READ, WRITE, MOVE, DELETE, FETCH, SHELL, PAY, TIP, LOOK_UP, BUY)


def judge(mode: Mode | None = None, **lists: list[Any]) -> Judge:
    parsed = {name: rules(name, lists.get(name, ())) for name in ("deny", "ask", "allow")}  # type: ignore[arg-type]
    return Judge("policy", parsed, mode)  # type: ignore[arg-type]


def decide(
    by: Judge, of: Tool, bounds: tuple[str, ...] = (), root: str = "/desk", **arguments: Any
) -> Decision:
    layers = by.layers(bounds, "tools.call", of.name)
    case = (arguments, resources(of, arguments), Places(root))
    return strictest(layer.with_effect(of.effect).decide(case) for layer in layers)


def verdict(by: Judge, of: Tool, **arguments: Any) -> str:
    return decide(by, of, **arguments).verdict


# Written


@pytest.mark.parametrize(
    ("rule", "told"),
    [
        ("tools.call:git push", "'push' is no pattern of an argument; write argument=pattern"),
        ("tools.call:git 'a b=c", "is no rule; write topic:subject"),
        ({"call": "tools.call:x", "host": "a.org"}, "unknown key 'host'; did you mean 'hosts'?"),
        ({"below": "."}, "lacks its call"),
        ({"call": "tools.call:x", "effect": "twice"}, "effect: Input should be 'none'"),
        ({"call": "tools.call:x", "hosts": "http://a.org/"}, "is no host; write example.org"),
        ({"call": "tools.call:x", "hosts": "a.*.org"}, "is no host"),
        ({"call": "tools.call:x", "below": ""}, "a directory is missing"),
        ({"call": "llm.complete:*", "below": "."}, "only a tool has arguments"),
        ("llm.complete:* max=1", "only a tool has arguments"),
        ({"call": "read_file"}, "is no rule; write topic:subject"),
        (
            {"call": "tools.call:x", "spends_over": "much"},
            'is no amount; write for example "100 EUR"',
        ),
        ({"call": "tools.call:x", "spends_over": "-1 EUR"}, "'-1 EUR' is no amount"),
        ({"call": "tools.call:x", "spends_up_to": ["1 EUR", "2 eur"]}, "are two amounts of EUR"),
        ({"call": "llm.complete:*", "spends_over": "1 EUR"}, "only a tool has arguments"),
    ],
)
def test_a_rule_that_says_nothing_sensible_says_what_to_write(rule: Written, told: str) -> None:
    with pytest.raises(ValueError, match=r"^deny: ") as caught:
        rules("deny", ["tools.call:*", rule])
    assert told in str(caught.value)


@pytest.mark.parametrize(
    ("pattern", "command", "fits"),
    [
        ("command=status*", "status -s", True),
        ("command=status*", "push", False),
        ("'command=push --force*'", "push --force origin", True),
        ("'command=push --force*'", "push", False),
        ("command=a command=b", "b", True),
        ("command=a other=b", "a", False),
    ],
)
def test_an_argument_s_pattern_is_of_all_its_text(pattern: str, command: str, fits: bool) -> None:
    by = judge(allow=[f"tools.call:shell {pattern}"])
    assert (verdict(by, SHELL, command=command) == "allow") is fits


def test_of_a_list_a_rule_that_allows_needs_all_and_one_that_denies_any() -> None:
    allows, denies = (
        judge(allow=["tools.call:shell a=x*"]),
        judge("trusted", deny=["tools.call:shell a=x*"]),
    )
    assert verdict(allows, SHELL, a=["x1", "x2"]) == "allow"
    assert verdict(allows, SHELL, a=["x1", "y"]) == "deny"
    assert verdict(allows, SHELL, a=[]) == "deny"
    assert verdict(denies, SHELL, a=["y", "x"]) == "deny"
    assert verdict(denies, SHELL, a=["y"]) == "allow"


# Paths


def test_below_follows_links_and_dots_and_knows_a_prefix_from_a_parent(tmp_path: Path) -> None:
    work, other = tmp_path / "work", tmp_path / "work-old"
    for directory in (work / "src", other):
        directory.mkdir(parents=True)
    (work / "out").symlink_to(other)
    (work / "in").symlink_to(work / "src")
    (tmp_path / "alias").symlink_to(work)
    by = judge(allow=[{"call": "tools.call:write", "below": "."}])

    def says(path: Path | str) -> str:
        return verdict(by, WRITE, root=str(tmp_path / "alias"), path=str(path))

    assert says(work / "a.txt") == says(work / "in" / "a.txt") == says(work) == "allow"
    assert says(tmp_path / "alias" / "new" / "a.txt") == "allow"
    for outside in (
        other / "a.txt",
        work / "out" / "a.txt",
        work / ".." / "work-old" / "a",
        work / "in" / ".." / ".." / "a",
        f"/proc/self/root{other}/a",
        f"{work}\0/a",
        "/",
    ):
        assert says(outside) == "deny", outside


def test_a_path_that_nobody_can_follow_is_denied_by_a_rule_about_places() -> None:
    by = judge("trusted", deny=[{"call": "tools.call:*", "below": "/etc"}])
    assert verdict(by, READ, path="/srv/a") == "allow"
    assert verdict(by, READ, path="/etc/../etc/passwd") == "deny"
    assert verdict(by, READ, path="/srv/\0") == "deny"
    assert verdict(by, READ, path="~/x") == verdict(by, READ, path="~root/x") == "deny"
    assert verdict(by, READ, path="./~") == "allow"


def test_a_move_is_allowed_where_both_its_ends_are(tmp_path: Path) -> None:
    inside, outside = str(tmp_path / "a"), "/elsewhere/a"
    by = judge(allow=[{"call": "tools.call:move", "below": str(tmp_path)}])
    assert verdict(by, MOVE, source=inside, target=inside) == "allow"
    assert verdict(by, MOVE, source=inside, target=outside) == "deny"
    assert verdict(by, MOVE, source=outside, target=inside) == "deny"


# Hosts


@pytest.mark.parametrize(
    ("pattern", "url", "fits"),
    [
        ("example.org", "https://example.org/a", True),
        ("example.org", "https://EXAMPLE.org./a", True),
        ("example.org", "https://www.example.org/", False),
        ("example.org", "https://example.org.evil.net/", False),
        ("example.org", "https://example.org@evil.net/", False),
        ("example.org", "https://evil.net\\@example.org/", False),
        ("example.org", "https://evil.net/#@example.org", False),
        ("*.example.org", "https://a.b.example.org/", True),
        ("*.example.org", "https://example.org/", False),
        ("*.example.org", "https://notexample.org/", False),
        ("example.org:8443", "https://example.org:8443/", True),
        ("example.org:8443", "https://example.org/", False),
        ("example.org:443", "https://example.org/", True),
        ("example.org:443", "http://example.org/", False),
        ("bücher.example", "https://xn--bcher-kva.example/", False),
        ("xn--bcher-kva.example", "https://bücher.example/", True),
        ("*", "https://example.org/", True),
        ("*", "https://exa mple.org/", False),
        ("*", "file:///etc/passwd", False),
    ],
)
def test_a_host_is_matched_whole_or_label_by_label(pattern: str, url: str, fits: bool) -> None:
    by = judge(allow=[{"call": "tools.call:fetch", "hosts": pattern}])
    assert (verdict(by, FETCH, url=url) == "allow") is fits


@pytest.mark.parametrize(
    "url",
    [
        *("http://127.0.0.1/", "http://2130706433/", "http://0x7f.1/", "http://0177.0.0.1/"),
        *("http://[::1]/", "http://[::ffff:10.0.0.1]/", "http://[64:ff9b::a00:1]/"),
        *("http://[2002:7f00:1::]/", "http://169.254.169.254/latest/", "http://100.64.0.1/"),
        *("http://localhost/", "http://a.localhost/", "http://printer.local/", "http://intranet/"),
        *("http://10.1.2.3:8080/", "http://[fe80::1]/", "http://0.0.0.0/", "http://224.0.0.1/"),
    ],
)
def test_a_private_host_is_known_in_any_spelling(url: str) -> None:
    host = host_of(url)
    assert host is not None
    assert host.is_private
    by = judge("trusted", deny=[{"call": "tools.call:*", "private": True}])
    assert verdict(by, FETCH, url=url) == "deny"


@pytest.mark.parametrize(
    "url", ["https://example.org/", "http://8.8.8.8/", "http://[2606:4700::1]/"]
)
def test_a_public_host_is_not_private(url: str) -> None:
    host = host_of(url)
    assert host is not None
    assert not host.is_private


# Money

OVER = {"call": "tools.call:*", "spends_over": ["100 EUR", "120.50 USD"]}
UP_TO = {"call": "tools.call:*", "spends_up_to": ["100 EUR", "120.50 USD"]}


@pytest.mark.parametrize(
    ("amount", "currency", "is_over"),
    [
        (100, "EUR", False),
        ("100.00", "EUR", False),
        (100.01, "EUR", True),
        ("100.00000000000000000000000000000001", "EUR", True),
        (120.5, "USD", False),
        ("120.51", "usd", True),
        (0, "EUR", False),
        (1e300, "EUR", True),
        ([60, 40], "EUR", False),
        ([60, "40.01"], "EUR", True),
    ],
)
def test_an_amount_is_compared_exactly_and_a_list_as_its_sum(
    amount: Any, currency: str, is_over: bool
) -> None:
    call: dict[str, Any] = {"amount": amount, "currency": currency}
    assert verdict(judge("trusted", deny=[OVER]), PAY, **call) == ("deny" if is_over else "allow")
    assert verdict(judge(allow=[UP_TO]), PAY, **call) == ("deny" if is_over else "allow")


@pytest.mark.parametrize(
    ("amount", "currency"),
    [
        *((-1, "EUR"), ("-1", "EUR"), (float("nan"), "EUR"), (float("inf"), "EUR"), ("NaN", "EUR")),
        *(("ten", "EUR"), ("1e1", "EUR"), ("1_0", "EUR"), ("1,0", "EUR"), ("\uff11", "EUR")),
        *((" 1", "EUR"), ("", "EUR"), (None, "EUR"), (True, "EUR"), ({"value": 1}, "EUR")),
        *(([200, -150], "EUR"), ([[1]], "EUR"), ("1 EUR", ""), ("1", "EUR "), (1, "")),
        *((1, "CHF"), (1, None), (1, ["EUR"]), (1, "\u20ac")),
    ],
)
def test_what_cannot_be_compared_is_denied_by_a_rule_about_money_and_allowed_by_none(
    amount: Any, currency: Any
) -> None:
    call = {"amount": amount, "currency": currency}
    for rule in (OVER, UP_TO):
        assert verdict(judge("trusted", deny=[rule]), PAY, **call) == "deny"
        assert verdict(judge("trusted", ask=[rule]), PAY, **call) == "ask"
        assert verdict(judge(allow=[rule]), PAY, **call) == "deny"


def test_an_amount_or_a_currency_that_is_left_out_cannot_be_compared() -> None:
    for call in ({"amount": 1}, {"currency": "EUR"}, {}):
        assert verdict(judge("trusted", deny=[OVER]), PAY, **call) == "deny"
        assert verdict(judge(allow=[UP_TO]), PAY, **call) == "deny"


def test_all_that_a_call_spends_is_added_up() -> None:
    denies, allows = judge("trusted", deny=[OVER]), judge(allow=[UP_TO])
    assert verdict(denies, TIP, amount=90, tip=10) == verdict(allows, TIP, amount=90, tip=10)
    assert verdict(denies, TIP, amount=90, tip="10.01") == "deny"
    assert verdict(allows, TIP, amount=90, tip="10.01") == "deny"


def test_a_rule_about_money_is_about_no_call_that_spends_none() -> None:
    assert verdict(judge("trusted", deny=[OVER]), SHELL) == "allow"
    assert verdict(judge(allow=[UP_TO]), SHELL) == "deny"
    assert verdict(judge(allow=[UP_TO]), READ, path="/desk/a") == "deny"


def test_money_narrows_a_rule_about_hosts_and_one_without_it_allows_no_spending() -> None:
    def buys(by: Judge, amount: int, host: str = "shop.example") -> str:
        return verdict(by, BUY, url=f"https://{host}/", amount=amount, currency="EUR")

    shop = {"call": "tools.call:buy", "hosts": "shop.example"}
    assert buys(judge(allow=[shop]), 1) == "deny"
    within = judge(allow=[{**shop, "spends_up_to": "50 EUR"}])
    assert [buys(within, 50), buys(within, 51), buys(within, 1, "a.org")] == [
        "allow",
        "deny",
        "deny",
    ]
    over = judge("trusted", deny=[{**shop, "spends_over": "50 EUR"}])
    assert [buys(over, 50), buys(over, 51), buys(over, 51, "a.org")] == ["allow", "deny", "allow"]


def test_two_limits_are_a_range() -> None:
    by = judge("trusted", ask=[{**OVER, "spends_over": "10 EUR", "spends_up_to": "20 EUR"}])
    says = [verdict(by, PAY, amount=n, currency="EUR") for n in (10, 11, 20, 21)]
    assert says == ["allow", "ask", "ask", "allow"]


# Modes

SAYS = {
    None: {},
    "read_only": {"read": "allow", "fetch": "ask", "read outside": "ask", "fetch private": "ask"},
    "standard": {
        "read": "allow",
        "write": "allow",
        "delete": "ask",
        "move": "ask",
        "fetch": "ask",
        "shell": "ask",
        "read outside": "ask",
        "write outside": "ask",
        "fetch private": "ask",
        "pay": "ask",
        "look up": "ask",
    },
    "trusted": dict.fromkeys(
        (
            *("read", "write", "delete", "move", "fetch", "shell"),
            *("read outside", "write outside", "fetch private", "pay", "look up"),
        ),
        "allow",
    ),
}
CALLS: dict[str, tuple[Tool, dict[str, Any]]] = {
    "read": (READ, {"path": "/desk/a"}),
    "write": (WRITE, {"path": "/desk/a"}),
    "delete": (DELETE, {"path": "/desk/a"}),
    "move": (MOVE, {"source": "/desk/a", "target": "/desk/b"}),
    "fetch": (FETCH, {"url": "https://example.org/"}),
    "shell": (SHELL, {"command": "make"}),
    "read outside": (READ, {"path": "/desk/../etc/passwd"}),
    "write outside": (WRITE, {"path": "/desk-old/a"}),
    "fetch private": (FETCH, {"url": "http://169.254.169.254/"}),
    "pay": (PAY, {"amount": 1, "currency": "EUR"}),
    "look up": (LOOK_UP, {"fee": 0.01}),
}


@pytest.mark.parametrize("mode", SAYS)
@pytest.mark.parametrize("name", CALLS)
def test_a_mode_decides_of_what_is_not_configured(mode: Mode | None, name: str) -> None:
    of, arguments = CALLS[name]
    assert verdict(judge(mode), of, **arguments) == SAYS[mode].get(name, "deny")


def test_what_is_configured_goes_before_a_mode_but_for_what_the_mode_denies() -> None:
    fetches = judge("standard", allow=[{"call": "tools.call:fetch", "hosts": "example.org"}])
    assert verdict(fetches, FETCH, url="https://example.org/") == "allow"
    assert verdict(fetches, FETCH, url="https://example.com/") == "ask"
    writes = judge("read_only", allow=["tools.call:write"])
    assert decide(writes, WRITE, path="/desk/a") == Decision(
        verdict="deny", rule="read_only.deny tools.call:* (access write or delete)"
    )


# Properties

names = st.sampled_from([one.name for one in TOOLS])
places = st.sampled_from([".", "/desk/src", "/etc", "/"])
hosts = st.sampled_from(["example.org", "*.example.org", "*"])
limits = st.sampled_from(["0 EUR", "10 EUR", "10.5 USD", ["10 EUR", "20 USD"]])
amounts = (
    st.sampled_from([None, True, "ten", "-1", "NaN", 10, "10.00", "10.01", 20, [5, 5], [5, 6], []])
    | st.floats()
    | st.integers(-1, 30)
)
payments = st.builds(
    lambda of, amount, currency: (
        of,
        {"url": "https://example.org/", "amount": amount, "currency": currency, "tip": 1},
    ),
    st.sampled_from([PAY, TIP, BUY]),
    amounts,
    st.sampled_from(["EUR", "usd", "CHF", "", None]),
)
conditions = st.fixed_dictionaries(
    {"call": names.map("tools.call:{}".format) | st.just("tools.call:*")},
    optional={
        "effect": st.sampled_from(["none", "idempotent", "once"]),
        "access": st.sampled_from(["read", "write", "delete", "spend"]),
        "below": places,
        "outside": places,
        "hosts": hosts,
        "private": st.just(True),
        "spends_over": limits,
        "spends_up_to": limits,
        "where": st.sampled_from([{"path": "/desk/*"}, {"command": "m*"}]),
    },
)
lists = st.fixed_dictionaries(
    {name: st.lists(conditions, max_size=4) for name in ("deny", "ask", "allow")}
)
modes = st.sampled_from([None, "read_only", "standard", "trusted"])
calls = payments | st.sampled_from(
    [*CALLS.values(), (READ, {"path": "/etc/x"}), (READ, {"path": "/a\0"})]
)
bound = st.builds(
    lambda mode, left: Bounds.of(mode, left) or Bounds(),
    modes,
    st.none() | st.lists(conditions, max_size=3),
).map(Bounds.written)
FAST = settings(max_examples=80, deadline=None)


@FAST
@given(lists, modes, calls)
def test_a_rule_that_denies_wins_over_all_others(lists: Lists, mode: Mode, call: Any) -> None:
    of, arguments = call
    alone = judge(deny=lists["deny"], allow=["tools.call:*"])
    if verdict(alone, of, **arguments) == "deny":
        assert verdict(judge(mode, **lists), of, **arguments) == "deny"


@FAST
@given(lists, modes, calls, st.randoms(use_true_random=False))
def test_the_order_of_rules_does_not_matter(
    lists: Lists, mode: Mode, call: Any, chance: random.Random
) -> None:
    of, arguments = call
    mixed = {name: chance.sample(rules, len(rules)) for name, rules in lists.items()}
    assert verdict(judge(mode, **lists), of, **arguments) == verdict(
        judge(mode, **mixed), of, **arguments
    )


@FAST
@given(lists, modes, calls, st.lists(bound, min_size=1, max_size=4))
def test_a_delegated_bound_never_widens(
    lists: Lists, mode: Mode, call: Any, bounds: list[str]
) -> None:
    (of, arguments), by = call, judge(mode, **lists)
    parents = [decide(by, of, tuple(bounds[:n]), **arguments) for n in range(1, len(bounds) + 1)]
    strict = [STRICTEST_FIRST.index(decision.verdict) for decision in parents]
    assert strict == sorted(strict, reverse=True)


@FAST
@given(lists, modes, calls, bound)
def test_a_child_of_a_parent_without_bounds_stays_within_the_configuration(
    lists: Lists, mode: Mode, call: Any, own: str
) -> None:
    (of, arguments), by = call, judge(mode, **lists)
    parent = decide(by, of, **arguments).verdict
    child = decide(by, of, (Bounds().written(), own), **arguments).verdict
    assert STRICTEST_FIRST.index(child) <= STRICTEST_FIRST.index(parent)


@FAST
@given(lists, modes, calls)
def test_what_is_known_of_a_name_beforehand_is_what_each_call_of_it_is_told(
    lists: Lists, mode: Mode, call: Any
) -> None:
    (of, arguments), by = call, judge(mode, **lists)
    (layer,) = by.layers((), "tools.call", of.name)
    constant = layer.with_effect(of.effect).constant
    assert constant is None or constant == decide(by, of, **arguments)


@FAST
@given(payments, limits)
def test_no_payment_is_allowed_by_a_limit_that_also_denies_it(call: Any, limit: Any) -> None:
    of, arguments = call
    rule = {"call": "tools.call:*", "access": ["read", "spend"]}
    denied = verdict(judge("trusted", deny=[{**rule, "spends_over": limit}]), of, **arguments)
    allowed = verdict(judge(allow=[{**rule, "spends_up_to": limit}]), of, **arguments)
    assert (denied, allowed) in {("deny", "deny"), ("allow", "allow")} or not arguments["amount"]


@given(conditions)
def test_a_rule_of_a_bound_is_read_back_as_it_was(table: dict[str, Any]) -> None:
    written = Bounds.of("standard", [table])
    assert written is not None
    assert Bounds.model_validate_json(written.written()) == written


def test_an_unknown_mode_names_the_ones_there_are() -> None:
    with pytest.raises(ValueError, match="no mode 'standart'; did you mean 'standard'"):
        Bounds.of("standart", None)  # type: ignore[arg-type]


def test_a_bound_of_tools_leaves_models_alone_unless_it_names_them() -> None:
    by = judge("trusted")
    tools, models = (Bounds.of(None, [text]) for text in ("tools.call:read", "llm.complete:llm.x"))
    assert tools is not None
    assert models is not None
    (only,) = by.layers((tools.written(),), "llm.complete", "llm.y")
    assert only.otherwise.verdict == "allow"
    layers = by.layers((models.written(),), "llm.complete", "llm.y")
    assert strictest(layer.otherwise for layer in layers) == Decision(
        verdict="deny", rule="capabilities"
    )


def test_a_rule_that_is_never_reached_is_named_with_what_decides_before_it() -> None:
    by = judge(
        deny=["tools.call:rm*"], allow=["tools.call:rm_all", "tools.call:*", "tools.call:read"]
    )
    told = {line.rule: line.warning for line in by.lines()}
    assert told["policy.allow tools.call:rm_all"] == (
        "is never reached: policy.deny tools.call:rm* decides all of its calls"
    )
    assert told["policy.allow tools.call:read"].startswith(
        "says nothing new: policy.allow tools.call:*"
    )
    assert told["policy.allow tools.call:*"] == told["policy.deny tools.call:rm*"] == ""


def test_a_rule_reads_as_it_was_written() -> None:
    rule = Rule.parse({"call": "tools.call:fetch", "hosts": ["a.org", "b.org"], "private": True})
    assert str(rule) == "tools.call:fetch (hosts a.org or b.org; private host)"
    pays = Rule.parse({**OVER, "spends_up_to": "200 EUR"})
    told = "tools.call:* (spends over 100 EUR or 120.50 USD; spends up to 200 EUR)"
    assert str(pays) == told
    assert str(Rule.parse("tools.call:git 'command=a b*'")) == "tools.call:git 'command=a b*'"
