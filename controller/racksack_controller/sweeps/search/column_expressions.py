"""Expressions for whole columns of values at once: `where` over a grid, `top --by` over a million results.

The expression was checked by `racksack_jobspecs.sweep.expressions`; simpleeval walks it, and numpy does each step for
all points. What has no value for a point (a division by zero, a logarithm of -1) is nan there.

What an expression may take of memory is known before it is evaluated: no step makes more than one number for each
point, operands are folded as they come, and `rows_at_once` says how many points are looked at together.
"""

from __future__ import annotations

import ast
import operator
from collections.abc import Callable, Iterable, Mapping
from functools import reduce
from typing import Any

import numpy as np
from simpleeval import EvalWithCompoundTypes

from racksack_jobspecs.sweep.expressions import POWER_MAX, WHOLE_MAX, Expression, kind_of

Column = Any  # an array, or a single value that stands for all points

BLOCK_BYTES = 64 * 1024**2  # of all columns and intermediate results together
ROWS_MAX = 1 << 18
ROWS_LEAST = 4096


def rows_at_once(expressions: Iterable[Expression], columns: int) -> int:
    """How many points may be evaluated together, where so many columns are held beside."""
    pending = max((expression.depth for expression in expressions), default=1)
    return max(ROWS_LEAST, min(ROWS_MAX, BLOCK_BYTES // (8 * (pending + 2 * columns + 8))))


def _number(value: Column) -> Column:
    """A value of arithmetic: a number, or an array of numbers. Raises ValueError for text."""
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, (bool, int, float)):
        return value
    if not isinstance(value, np.ndarray):
        raise ValueError(f"arithmetic takes numbers, not {kind_of(value)}")
    if value.dtype.kind == "b":
        return value.astype(np.int64)
    if value.dtype.kind in "iuf":
        return value
    items = value.ravel().tolist()
    if any(isinstance(item, str) for item in items):
        raise ValueError("arithmetic takes numbers, not text")
    return np.array([np.nan if item is None else item for item in items], dtype=float).reshape(value.shape)


def _whole_bound(value: Column) -> int | None:
    """The largest magnitude of whole numbers; None where some are floats."""
    if isinstance(value, (bool, int)):
        return abs(int(value))
    if isinstance(value, np.ndarray) and value.dtype.kind in "iu":
        return max(abs(int(value.min())), abs(int(value.max()))) if value.size else 0
    return None


def _exact(combine: Callable[..., Column], bound: Callable[[int, int], int]) -> Callable[..., Column]:
    """Whole numbers stay whole up to 64 bits and go on as floats beyond, instead of wrapping round."""

    def combined(left: Column, right: Column) -> Column:
        left, right = _number(left), _number(right)
        wholes = _whole_bound(left), _whole_bound(right)
        if wholes[0] is not None and wholes[1] is not None and bound(wholes[0], wholes[1]) > WHOLE_MAX:
            left, right = np.asarray(left, dtype=float), np.asarray(right, dtype=float)
        return combine(left, right)

    return combined


def _power(base: Column, exponent: Column) -> Column:
    """In floats, and with small exponents, so that no number grows beyond bounds."""
    exponents = np.asarray(_number(exponent), dtype=float)
    if np.any(np.abs(exponents) > POWER_MAX):
        raise ValueError(f"an exponent is above {POWER_MAX:g}")
    return np.power(np.asarray(_number(base), dtype=float), exponents)


def _by(divide: Callable[..., Column]) -> Callable[..., Column]:
    """A division by zero is nan, never infinite."""

    def divided(left: Column, right: Column) -> Column:
        left, right = _number(left), _number(right)
        return np.where(np.asarray(right) == 0, np.nan, divide(left, right))

    return divided


def _logarithm(function: Callable[..., Column]) -> Callable[..., Column]:
    return lambda value: np.where(np.asarray(value) <= 0, np.nan, function(value))


def _equal(left: Column, right: Column) -> Column:
    return np.asarray(left == right, dtype=bool)


def _not_equal(left: Column, right: Column) -> Column:
    return np.logical_not(_equal(left, right))


def _truth(value: Column) -> Column:
    return np.asarray(value).astype(bool)


def _object(value: Column) -> Column:
    """Text in an array of references: numpy would write the longest text out for every point."""
    return value if np.asarray(value).dtype.kind in "biuf" else np.asarray(value, dtype=object)


_OPERATORS: dict[type[ast.AST], Callable[..., Column]] = {
    ast.Add: _exact(operator.add, operator.add),
    ast.Sub: _exact(operator.sub, operator.add),
    ast.Mult: _exact(operator.mul, operator.mul),
    ast.Div: _by(np.true_divide),
    ast.FloorDiv: _by(np.floor_divide),
    ast.Mod: _by(np.mod),
    ast.Pow: _power,
    ast.Eq: _equal,
    ast.NotEq: _not_equal,
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
    ast.Not: lambda value: np.logical_not(_truth(value)),
    ast.USub: lambda value: operator.neg(_number(value)),
    ast.UAdd: lambda value: operator.pos(_number(value)),
}
_FUNCTIONS: dict[str, Callable[..., Column]] = {
    "abs": np.abs,
    "sqrt": np.sqrt,
    "log": _logarithm(np.log),
    "log10": _logarithm(np.log10),
    "exp": np.exp,
    "floor": np.floor,
    "ceil": np.ceil,
    "round": np.round,
}
_FOLDED: dict[str, Callable[..., Column]] = {"min": np.minimum, "max": np.maximum}


class _Columns(EvalWithCompoundTypes):  # type: ignore[misc]  # simpleeval has no types
    """simpleeval's walk, where what it decides for one value is decided for each. Lists are met behind `in` alone."""

    def __init__(self, names: Mapping[str, Column]) -> None:
        super().__init__(operators=dict(_OPERATORS), functions={}, names=dict(names))
        self.nodes[ast.BoolOp] = self._bool_op
        self.nodes[ast.Compare] = self._compare
        self.nodes[ast.IfExp] = self._if
        self.nodes[ast.Call] = self._call

    def _bool_op(self, node: ast.BoolOp) -> Column:
        join = np.logical_and if isinstance(node.op, ast.And) else np.logical_or
        return reduce(lambda found, part: join(found, _truth(self._eval(part))), node.values[1:], self._first(node))

    def _first(self, node: ast.BoolOp) -> Column:
        return _truth(self._eval(node.values[0]))

    def _compare(self, node: ast.Compare) -> Column:
        left, found = self._eval(node.left), np.asarray(True)
        for op, part in zip(node.ops, node.comparators, strict=True):
            if isinstance(op, (ast.In, ast.NotIn)):
                is_in = self._is_in(left, part)
                return np.logical_and(found, is_in if isinstance(op, ast.In) else np.logical_not(is_in))
            right = self._eval(part)
            found = np.logical_and(found, _truth(self.operators[type(op)](left, right)))
            left = right
        return found

    def _is_in(self, value: Column, choices: Any) -> Column:  # noqa: ANN401 - an ast.List or ast.Tuple
        found = np.asarray(False)
        for choice in choices.elts:
            found = np.logical_or(found, _equal(value, self._eval(choice)))
        return found

    def _if(self, node: ast.IfExp) -> Column:
        return np.where(_truth(self._eval(node.test)), _object(self._eval(node.body)), _object(self._eval(node.orelse)))

    def _call(self, node: ast.Call) -> Column:
        name, arguments = node.func.id, node.args  # type: ignore[attr-defined]  # checked when it was parsed
        if name not in _FOLDED:
            return _FUNCTIONS[name](_number(self._eval(arguments[0])))
        return reduce(
            lambda found, part: _FOLDED[name](found, _object(self._eval(part))),
            arguments[1:],
            _object(self._eval(arguments[0])),
        )


def evaluate(expression: Expression, columns: Mapping[str, Column]) -> Column:
    """The value for each point. Raises ValueError with a sentence where a text meets a number and the like."""
    with np.errstate(all="ignore"):
        try:
            return _Columns(columns).eval(expression.text, previously_parsed=expression.tree)
        except (TypeError, ValueError, ArithmeticError) as error:
            raise ValueError(f"{expression.text} has no value here: {error}") from None
