"""Expressions of users: `where`, `if` and what `top` ranks by.

simpleeval reads and evaluates them; nothing is ever handed to `eval`. Only the pieces of the table below may stand in
one, so that each of them can also be evaluated for whole columns of values at once (in the controller) and means the
same there.

Users write these, so their cost has a bound: the text, its parts and its depth are counted when it is read; lists are
only choices (`mode in ("fast", "slow")`), never values; arithmetic takes numbers alone, through simpleeval's own safe
operators; and a whole number beyond 64 bits goes on as a float.
"""

from __future__ import annotations

import ast
import functools
import math
import operator
import warnings
from collections.abc import Callable, Collection, Mapping
from typing import Any

import msgspec

from racksack_jobspecs.readers import closest, either, shown

TEXT_CHARS_MAX = 2000
NODES_MAX = 500  # parts of an expression, without the values in its lists
DEPTH_MAX = 200  # parts within parts; evaluation is recursive
CHOICES_MAX = 1000  # values in the lists behind `in` and `not in`
POWER_MAX = 1024.0  # exponents; so that no number grows beyond bounds
WHOLE_MAX = 2**63 - 1  # larger whole numbers go on as floats

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


def _on_numbers(function: Callable[..., Any]) -> Callable[..., Any]:
    """Arithmetic on numbers alone. Where it has no answer, the answer is nan, as in columns."""

    def safe(*values: Any) -> Any:  # noqa: ANN401
        for value in values:
            if not isinstance(value, (bool, int, float)):
                raise TypeError(f"arithmetic takes numbers, not {kind_of(value)}")
        try:
            return _bounded(function(*values))
        except (ZeroDivisionError, ValueError):
            return math.nan
        except OverflowError:
            return math.inf

    return safe


def _bounded(value: float) -> float:
    """Raises OverflowError for a whole number that no float can hold."""
    return float(value) if isinstance(value, int) and abs(value) > WHOLE_MAX else value


def kind_of(value: object) -> str:
    """What a sentence calls a value that is no number."""
    return "a value that is absent" if value is None else "text" if isinstance(value, str) else "a list"


def _power(base: float, exponent: float) -> float:
    if abs(exponent) > POWER_MAX:
        raise TypeError(f"an exponent is above {POWER_MAX:g}")
    return math.pow(base, exponent)


FUNCTIONS: dict[str, Callable[..., Any]] = {
    "abs": _on_numbers(abs),
    "min": lambda *values: min(values),
    "max": lambda *values: max(values),
    "sqrt": _on_numbers(math.sqrt),
    "log": _on_numbers(math.log),
    "log10": _on_numbers(math.log10),
    "exp": _on_numbers(math.exp),
    "floor": _on_numbers(math.floor),
    "ceil": _on_numbers(math.ceil),
    "round": _on_numbers(round),
}
_ONE_ARGUMENT = frozenset(FUNCTIONS) - {"min", "max"}


@functools.cache
def _operators() -> dict[type[ast.AST], Callable[..., Any]]:
    """The operators of simpleeval; those of arithmetic take numbers alone."""
    from simpleeval import DEFAULT_OPERATORS, safe_add, safe_mult

    arithmetic: dict[type[ast.AST], Callable[..., Any]] = {
        ast.Add: safe_add,
        ast.Sub: operator.sub,
        ast.Mult: safe_mult,
        ast.Div: operator.truediv,
        ast.FloorDiv: operator.floordiv,
        ast.Mod: operator.mod,
        ast.Pow: _power,
        ast.USub: operator.neg,
        ast.UAdd: operator.pos,
    }
    return {**DEFAULT_OPERATORS, **{kind: _on_numbers(function) for kind, function in arithmetic.items()}}


class Expression(msgspec.Struct, frozen=True):
    """One that may be evaluated: its text, the names in it, its tree and how deep that is."""

    text: str
    names: tuple[str, ...]
    tree: Any
    depth: int


@functools.lru_cache(maxsize=256)
def parse(text: str) -> Expression:
    """An expression. Raises ValueError with a sentence for one that is wrong or holds what may not stand in one."""
    from simpleeval import SimpleEval

    if not text.strip():
        raise ValueError("this expression is empty; write one such as fast < slow")
    if len(text) > TEXT_CHARS_MAX:
        raise ValueError(f"this expression has {len(text)} characters; write at most {TEXT_CHARS_MAX}")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", SyntaxWarning)  # Python's, of what is refused or means the same here
            tree = SimpleEval.parse(f"({text.strip()}\n)")
    except SyntaxError as error:
        raise ValueError(f"{shown(text)} is not an expression ({error.msg}); write one such as fast < slow") from None
    except (ValueError, RecursionError, MemoryError):
        raise ValueError(f"{shown(text)} is not an expression; write one such as fast < slow") from None
    depth = _check(text, tree)
    called = {id(node.func) for node in ast.walk(tree) if isinstance(node, ast.Call)}
    names = [node.id for node in ast.walk(tree) if isinstance(node, ast.Name) and id(node) not in called]
    return Expression(text, tuple(dict.fromkeys(names)), tree, depth)


def _check(text: str, tree: ast.AST) -> int:
    """How deep the tree is. Raises ValueError with a sentence for what may not stand in an expression."""
    if not isinstance(tree, ast.Expr):
        raise ValueError(f"{shown(text)} is not an expression; write one such as fast < slow")
    count = choices = deepest = 0
    waiting: list[tuple[ast.AST, int]] = [(tree, 1)]
    while waiting:
        node, depth = waiting.pop()
        inner = list(ast.iter_child_nodes(node))
        if isinstance(node, ast.Compare):
            lists = _choices(text, node)
            choices += sum(map(len, lists))
            inner = [part for part in inner if not isinstance(part, (ast.List, ast.Tuple))]
            inner += [item for items in lists for item in items if not _is_plain(item)]
        _check_part(text, node)
        count += 1
        deepest = max(deepest, depth)
        if count > NODES_MAX:
            raise ValueError(f"this expression has more than {NODES_MAX} parts; write a shorter one")
        if choices > CHOICES_MAX:
            raise ValueError(f"the lists of this expression have more than {CHOICES_MAX} values; write shorter ones")
        if deepest > DEPTH_MAX:
            raise ValueError(f"this expression is more than {DEPTH_MAX} brackets or signs deep; write a flatter one")
        waiting += [(part, depth + 1) for part in inner]
    return deepest


def _choices(text: str, node: ast.Compare) -> list[list[ast.expr]]:
    """The values of the list that a comparison with in or not in ends with. Raises ValueError."""
    found = []
    for at, (op, right) in enumerate(zip(node.ops, node.comparators, strict=True)):
        is_list = isinstance(right, (ast.List, ast.Tuple))
        if not isinstance(op, (ast.In, ast.NotIn)):
            if is_list:
                raise ValueError(_misplaced(text))
        elif not isinstance(right, (ast.List, ast.Tuple)):
            raise ValueError(f"{shown(text)}: in needs a list on its right, such as (1, 2, 3)")
        elif at + 1 < len(node.ops):
            raise ValueError(_misplaced(text))
        else:
            found.append(right.elts)
    return found


def _misplaced(text: str) -> str:
    return f"{shown(text)} has a list where none may stand; lists go to the right of in and not in"


def _is_plain(node: ast.expr) -> bool:
    """A number or text as it is written, with its sign."""
    inner = node.operand if isinstance(node, ast.UnaryOp) and isinstance(node.op, (ast.USub, ast.UAdd)) else node
    return isinstance(inner, ast.Constant) and _is_value(inner.value)


def _is_value(value: object) -> bool:
    return isinstance(value, (bool, float, str, type(None))) or (isinstance(value, int) and abs(value) <= WHOLE_MAX)


def _check_part(text: str, node: ast.AST) -> None:
    if isinstance(node, (ast.List, ast.Tuple)):
        raise ValueError(_misplaced(text))
    if not isinstance(node, _ALLOWED):
        raise ValueError(
            f"{shown(text)} holds what an expression may not ({type(node).__name__}); "
            "use parameters, numbers, texts, comparisons, and, or, not, in, arithmetic and " + either(sorted(FUNCTIONS))
        )
    if isinstance(node, ast.Call):
        _check_call(text, node)
    if isinstance(node, ast.Constant) and not _is_value(node.value):
        if isinstance(node.value, int):
            raise ValueError(f"{shown(text)} holds a whole number beyond 64 bits; write it as 1e20")
        raise ValueError(f"{shown(text)} holds {shown(repr(node.value))}; use numbers and texts")


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
    from simpleeval import EvalWithCompoundTypes, InvalidExpression

    evaluator = EvalWithCompoundTypes(_operators(), FUNCTIONS, dict(values))
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
