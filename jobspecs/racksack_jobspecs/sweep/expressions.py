"""Expressions of users: `where`, `if` and what `top` ranks by.

simpleeval reads and evaluates them; nothing is ever handed to `eval`. Only the pieces of the table below may stand in
one, so that each of them can also be evaluated for whole columns of values at once (in the controller) and means the
same there.
"""

from __future__ import annotations

import ast
import functools
import math
import operator
from collections.abc import Callable, Collection, Mapping
from typing import Any

import msgspec

from racksack_jobspecs.readers import closest, either, shown

TEXT_CHARS_MAX = 2000
NODES_MAX = 500
POWER_MAX = 1024.0  # exponents; so that no number grows beyond bounds

_ALLOWED = (
    ast.Expr,
    ast.BoolOp,
    ast.And,
    ast.Or,
    ast.UnaryOp,
    ast.Not,
    ast.USub,
    ast.UAdd,
    ast.BinOp,
    ast.Add,
    ast.Sub,
    ast.Mult,
    ast.Div,
    ast.FloorDiv,
    ast.Mod,
    ast.Pow,
    ast.Compare,
    ast.Eq,
    ast.NotEq,
    ast.Lt,
    ast.LtE,
    ast.Gt,
    ast.GtE,
    ast.In,
    ast.NotIn,
    ast.IfExp,
    ast.Call,
    ast.Name,
    ast.Load,
    ast.Constant,
    ast.Tuple,
    ast.List,
)


def _or_nan(function: Callable[..., Any]) -> Callable[..., Any]:
    """Where arithmetic has no answer, the answer is nan, as in columns."""

    def safe(*values: Any) -> Any:  # noqa: ANN401
        try:
            return function(*values)
        except (ZeroDivisionError, ValueError):
            return math.nan
        except OverflowError:
            return math.inf

    return safe


def _power(base: float, exponent: float) -> float:
    if abs(exponent) > POWER_MAX:
        raise TypeError(f"an exponent is above {POWER_MAX:g}")
    return math.pow(base, exponent)


def _times(left: float, right: float) -> float:
    if isinstance(left, str) or isinstance(right, str):
        raise TypeError("a text cannot be multiplied")
    return left * right


FUNCTIONS: dict[str, Callable[..., Any]] = {
    "abs": abs,
    "min": min,
    "max": max,
    "sqrt": _or_nan(math.sqrt),
    "log": _or_nan(math.log),
    "log10": _or_nan(math.log10),
    "exp": _or_nan(math.exp),
    "floor": _or_nan(math.floor),
    "ceil": _or_nan(math.ceil),
    "round": _or_nan(round),
}
_ARITHMETIC: dict[type[ast.operator], Callable[..., Any]] = {
    ast.Mult: _times,
    ast.Div: _or_nan(operator.truediv),
    ast.FloorDiv: _or_nan(operator.floordiv),
    ast.Mod: _or_nan(operator.mod),
    ast.Pow: _or_nan(_power),
}
_ONE_ARGUMENT = frozenset(FUNCTIONS) - {"min", "max"}


class Expression(msgspec.Struct, frozen=True):
    """One that may be evaluated: its text, the names in it and its tree."""

    text: str
    names: tuple[str, ...]
    tree: Any


@functools.lru_cache(maxsize=256)
def parse(text: str) -> Expression:
    """An expression. Raises ValueError with a sentence for one that is wrong or holds what may not stand in one."""
    from simpleeval import SimpleEval

    if not text.strip():
        raise ValueError("this expression is empty; write one such as fast < slow")
    if len(text) > TEXT_CHARS_MAX:
        raise ValueError(f"this expression has {len(text)} characters; write at most {TEXT_CHARS_MAX}")
    try:
        tree = SimpleEval.parse(f"({text.strip()}\n)")
    except SyntaxError as error:
        raise ValueError(f"{shown(text)} is not an expression ({error.msg}); write one such as fast < slow") from None
    except (ValueError, RecursionError, MemoryError):
        raise ValueError(f"{shown(text)} is not an expression; write one such as fast < slow") from None
    _check(text, tree)
    called = {id(node.func) for node in ast.walk(tree) if isinstance(node, ast.Call)}
    names = [node.id for node in ast.walk(tree) if isinstance(node, ast.Name) and id(node) not in called]
    return Expression(text, tuple(dict.fromkeys(names)), tree)


def _check(text: str, tree: ast.AST) -> None:
    if not isinstance(tree, ast.Expr):
        raise ValueError(f"{shown(text)} is not an expression; write one such as fast < slow")
    nodes = list(ast.walk(tree))
    if len(nodes) > NODES_MAX:
        raise ValueError(f"this expression has more than {NODES_MAX} parts; write a shorter one")
    for node in nodes:
        if not isinstance(node, _ALLOWED):
            raise ValueError(
                f"{shown(text)} holds what an expression may not ({type(node).__name__}); "
                "use parameters, numbers, texts, comparisons, and, or, not, in, arithmetic and "
                + either(sorted(FUNCTIONS))
            )
        if isinstance(node, ast.Call):
            _check_call(text, node)
        if isinstance(node, ast.Constant) and not isinstance(node.value, (bool, int, float, str, type(None))):
            raise ValueError(f"{shown(text)} holds {node.value!r}; use numbers and texts")


def _check_call(text: str, node: ast.Call) -> None:
    name = node.func.id if isinstance(node.func, ast.Name) else ""
    if name not in FUNCTIONS:
        raise ValueError(f"{shown(text)} calls what is no function here; there are {either(sorted(FUNCTIONS))}")
    if node.keywords or not node.args or (name in _ONE_ARGUMENT and len(node.args) != 1):
        wanted = "one value" if name in _ONE_ARGUMENT else "values"
        raise ValueError(f"{shown(text)}: {name} takes {wanted} in brackets")


def check(text: str, known: Collection[str]) -> Expression:
    """An expression whose names are all known. Raises ValueError with a sentence."""
    expression = parse(text)
    for name in expression.names:
        if name not in known:
            close = closest(name, known)
            hint = f"did you mean {close}?" if close else f"there are {either(sorted(known)) if known else 'none'}"
            where = "" if name == text.strip() else f" in {shown(text)}"
            raise ValueError(f"{shown(name)}{where} is not known; {hint}")
    return expression


def evaluate(expression: Expression, values: Mapping[str, Any]) -> Any:  # noqa: ANN401 - whatever it says
    """Its value; nan for a division by zero and the like. Raises ValueError with a sentence for a text plus 1."""
    from simpleeval import DEFAULT_OPERATORS, EvalWithCompoundTypes, InvalidExpression

    evaluator = EvalWithCompoundTypes({**DEFAULT_OPERATORS, **_ARITHMETIC}, FUNCTIONS, dict(values))
    try:
        return evaluator.eval(expression.text, previously_parsed=expression.tree)
    except (ArithmeticError, TypeError, ValueError, InvalidExpression) as error:
        raise ValueError(f"{shown(expression.text)} has no value here: {error}") from None


def holds(text: str, values: Mapping[str, Any]) -> bool:
    """Whether a condition is true; one that names an absent parameter, or has no value, is not."""
    expression = parse(text)
    if any(name not in values for name in expression.names):
        return False
    try:
        found = evaluate(expression, values)
        return bool(found) and found == found  # nan is not equal to itself
    except ValueError:
        return False


def leaves_in(text: str, values: Mapping[str, Any]) -> bool:
    """Whether a constraint leaves a combination in; one that names an absent parameter does not speak of it."""
    return any(name not in values for name in parse(text).names) or holds(text, values)
