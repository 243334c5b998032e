"""Arithmetic: a text's meaning as a number, exact where it can be, within bounds always.

The text becomes a tree by Python's own parser, and only numbers, signs and a few functions may
stand in it; nothing is ever looked up or run.
"""

import ast
import math
import re
from collections.abc import Callable
from decimal import (
    Context,
    Decimal,
    DecimalException,
    DivisionByZero,
    InvalidOperation,
    Overflow,
    Underflow,
    localcontext,
)
from fractions import Fraction

DIGITS = 50
"""Of a result that has no end, such as 1/3 or sqrt(2)."""
LENGTH, DEPTH, BITS = 1000, 200, 16_384
CONTEXT = Context(
    prec=DIGITS,
    Emax=9999,
    Emin=-9999,
    traps=[DivisionByZero, InvalidOperation, Overflow, Underflow],
)
STUCK = re.compile(r"(?<![A-Za-z_\d.])(?>\d[\d_.]*(?:[eE][+-]?\d+)?)[A-Za-z_]")
"""A number that a letter sticks to; of some Python's parser only warns."""

Number = Fraction
Function = Callable[..., Number]


class Wrong(ValueError):
    """This cannot be calculated; says why."""


def calculate(text: str) -> str:
    """The value, as a decimal number. Raises Wrong."""
    if len(text) > LENGTH:
        raise Wrong(f"an expression has at most {LENGTH} characters, this one {len(text)}")
    text = text.strip().replace("^", "**")
    if not text.isascii() or STUCK.search(text):
        raise Wrong("write numbers and signs plainly: 0-9 . + - * / // % ** ( )")
    try:
        tree = ast.parse(text, mode="eval")
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise Wrong("this is no expression that can be calculated") from error
    try:
        return shown(_value(tree.body, text, DEPTH))
    except ZeroDivisionError as error:
        raise Wrong("this divides by zero") from error
    except Wrong:
        raise
    except (DecimalException, OverflowError, ValueError) as error:
        raise Wrong("this has no value, or one too large or too small") from error


def _value(node: ast.expr, text: str, depth: int) -> Number:
    if not depth:
        raise Wrong(f"more than {DEPTH} things stand within each other")
    match node:
        case ast.Constant(value=int() | float() as value) if not isinstance(value, bool):
            return bounded(_literal(node, text))
        case ast.UnaryOp(op=ast.USub() | ast.UAdd() as sign, operand=operand):
            number = _value(operand, text, depth - 1)
            return -number if isinstance(sign, ast.USub) else number
        case ast.BinOp(left=left, op=op, right=right) if type(op) in OPERATORS:
            sides = _value(left, text, depth - 1), _value(right, text, depth - 1)
            return bounded(OPERATORS[type(op)](*sides))
        case ast.Name(id=name) if name in CONSTANTS:
            return CONSTANTS[name]
        case ast.Call(func=ast.Name(id=name), args=arguments, keywords=[]) if name in FUNCTIONS:
            function, least, most = FUNCTIONS[name]
            if not least <= len(arguments) <= most:
                raise Wrong(f"{name} takes {least} to {most} numbers, not {len(arguments)}")
            return bounded(function(*(_value(a, text, depth - 1) for a in arguments)))
    raise Wrong(
        f"{(ast.get_source_segment(text, node) or '')[:60]!r} is not arithmetic; there are + - * / // % **, "
        f"{', '.join(sorted((*CONSTANTS, *FUNCTIONS)))}"
    )


def _literal(node: ast.Constant, text: str) -> Number:
    """The number as it is written: 0.1 is a tenth, which a float is not."""
    written = ast.get_source_segment(text, node) or ""
    if isinstance(node.value, int):
        return Fraction(node.value)
    number = Decimal(written.replace("_", ""))
    if number.adjusted() not in range(-CONTEXT.Emax, CONTEXT.Emax):
        raise Wrong("this number is too large or too small")
    return Fraction(number)


def bounded(value: Number) -> Number:
    """Raises Wrong for a number with too many digits."""
    if max(value.numerator.bit_length(), value.denominator.bit_length()) > BITS * 2:
        raise Wrong(f"this has more than {BITS * 2 * 3 // 10:,} digits, which is too many")
    return value


def _power(base: Number, exponent: Number) -> Number:
    if exponent.denominator != 1:
        if base < 0:
            raise Wrong("a negative number has no such power")
        return _by_decimal(lambda: decimal(base) ** decimal(exponent))
    bits = max(base.numerator.bit_length(), base.denominator.bit_length())
    if base not in (0, 1, -1) and bits * abs(exponent) > BITS:
        raise Wrong(f"a power has at most {BITS * 3 // 10:,} digits; this one has more")
    return Fraction(base ** int(exponent)) if base not in (1, -1) else base ** int(exponent % 2)


def decimal(value: Number) -> Decimal:
    """With fifty digits."""
    return CONTEXT.divide(Decimal(value.numerator), Decimal(value.denominator))


def _by_decimal(work: Callable[[], Decimal]) -> Number:
    with localcontext(CONTEXT):
        return Fraction(work())


def _root(value: Number) -> Number:
    if value < 0:
        raise Wrong("a negative number has no square root")
    exact = Fraction(math.isqrt(value.numerator), math.isqrt(value.denominator))
    return exact if exact * exact == value else _by_decimal(lambda: decimal(value).sqrt())


def _logarithm(value: Number, base: Number | None = None) -> Number:
    if value <= 0 or (base is not None and (base <= 0 or base == 1)):
        raise Wrong("only positive numbers have logarithms, to a positive base that is not 1")
    if base is None:
        return _by_decimal(lambda: decimal(value).ln())
    if base == 10:
        return _by_decimal(lambda: decimal(value).log10())
    return _by_decimal(lambda: decimal(value).ln() / decimal(base).ln())


def _by_float(function: Callable[[float], float]) -> Function:
    """With the fifteen digits that a float has."""
    return lambda value: Fraction(repr(round(function(float(value)), 15)))


def _rounded(value: Number, digits: Number = Fraction(0)) -> Number:
    """Half away from zero, as people round."""
    if digits.denominator != 1 or abs(digits) > DIGITS:
        raise Wrong(f"round to a whole number of places, at most {DIGITS}")
    scale = Fraction(10) ** int(digits)
    away = math.floor(abs(value) * scale + Fraction(1, 2)) / scale
    return away if value >= 0 else -away


def _factorial(value: Number) -> Number:
    if value.denominator != 1 or not 0 <= value <= 1000:
        raise Wrong("factorial takes a whole number from 0 to 1000")
    return Fraction(math.factorial(int(value)))


OPERATORS: dict[type[ast.operator], Function] = {
    ast.Add: lambda a, b: a + b,
    ast.Sub: lambda a, b: a - b,
    ast.Mult: lambda a, b: a * b,
    ast.Div: lambda a, b: a / b,
    ast.FloorDiv: lambda a, b: Fraction(a // b),
    ast.Mod: lambda a, b: a % b,
    ast.Pow: _power,
}
CONSTANTS = {
    "pi": Fraction("3.1415926535897932384626433832795028841971693993751"),
    "e": Fraction("2.7182818284590452353602874713526624977572470937000"),
}
FUNCTIONS: dict[str, tuple[Function, int, int]] = {
    "abs": (abs, 1, 1),
    "acos": (_by_float(math.acos), 1, 1),
    "asin": (_by_float(math.asin), 1, 1),
    "atan": (_by_float(math.atan), 1, 1),
    "ceil": (lambda a: Fraction(math.ceil(a)), 1, 1),
    "cos": (_by_float(math.cos), 1, 1),
    "exp": (lambda a: _by_decimal(lambda: decimal(a).exp()), 1, 1),
    "factorial": (_factorial, 1, 1),
    "floor": (lambda a: Fraction(math.floor(a)), 1, 1),
    "ln": (_logarithm, 1, 1),
    "log": (_logarithm, 1, 2),
    "log10": (lambda a: _logarithm(a, Fraction(10)), 1, 1),
    "max": (max, 1, 100),
    "min": (min, 1, 100),
    "round": (_rounded, 1, 2),
    "sin": (_by_float(math.sin), 1, 1),
    "sqrt": (_root, 1, 1),
    "tan": (_by_float(math.tan), 1, 1),
}


def shown(value: Number) -> str:
    """As people write it: all digits where they end, fifty where they do not."""
    if value.denominator == 1:
        return str(Decimal(value.numerator))
    rest = value.denominator
    for prime in (2, 5):
        while rest % prime == 0:
            rest //= prime
    if rest == 1 and value.denominator.bit_length() < DIGITS * 3:
        with localcontext(prec=2 * BITS):
            return f"{Decimal(value.numerator) / Decimal(value.denominator):f}"
    number = decimal(value).normalize(CONTEXT)
    return f"{number:f}" if -20 < number.adjusted() < DIGITS else str(number)
