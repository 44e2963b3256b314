"""Expressions for whole columns of values at once: `where` over a grid, `top --by` over a million results.

The expression was checked by `racksack_jobspecs.sweep.expressions`; simpleeval walks it, and numpy does each step for
all points. What has no value for a point (a division by zero, a logarithm of -1) is nan there.
"""

from __future__ import annotations

import ast
import operator
from collections.abc import Callable, Mapping
from functools import reduce
from typing import Any

import numpy as np
from simpleeval import EvalWithCompoundTypes

from racksack_jobspecs.sweep.expressions import POWER_MAX, Expression

Column = Any  # an array, or a single value that stands for all points


def _power(base: Column, exponent: Column) -> Column:
    """In floats, and with small exponents, so that no number grows beyond bounds."""
    if np.any(np.abs(np.asarray(exponent, dtype=float)) > POWER_MAX):
        raise ValueError(f"an exponent is above {POWER_MAX:g}")
    return np.power(np.asarray(base, dtype=float), exponent)


def _times(left: Column, right: Column) -> Column:
    if isinstance(left, str) or isinstance(right, str):
        raise ValueError("a text cannot be multiplied")
    return left * right


def _by(divide: Callable[..., Column]) -> Callable[..., Column]:
    """A division by zero is nan, never infinite."""
    return lambda left, right: np.where(np.asarray(right) == 0, np.nan, divide(left, right))


def _logarithm(function: Callable[..., Column]) -> Callable[..., Column]:
    return lambda value: np.where(np.asarray(value) <= 0, np.nan, function(value))


def _is_in(value: Column, choices: Any) -> Column:  # noqa: ANN401
    if not isinstance(choices, (tuple, list)):
        raise ValueError("in needs a list such as (1, 2, 3)")
    return reduce(np.logical_or, [_equal(value, choice) for choice in choices], np.asarray(False))


def _equal(left: Column, right: Column) -> Column:
    return np.asarray(left == right, dtype=bool)


def _not_equal(left: Column, right: Column) -> Column:
    return np.logical_not(_equal(left, right))


_OPERATORS: dict[type[ast.AST], Callable[..., Column]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: _times,
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
    ast.In: _is_in,
    ast.NotIn: lambda value, choices: np.logical_not(_is_in(value, choices)),
    ast.Not: np.logical_not,
    ast.USub: operator.neg,
    ast.UAdd: operator.pos,
}
_FUNCTIONS: dict[str, Callable[..., Column]] = {
    "abs": np.abs,
    "min": lambda *values: reduce(np.minimum, values),
    "max": lambda *values: reduce(np.maximum, values),
    "sqrt": np.sqrt,
    "log": _logarithm(np.log),
    "log10": _logarithm(np.log10),
    "exp": np.exp,
    "floor": np.floor,
    "ceil": np.ceil,
    "round": np.round,
}


class _Columns(EvalWithCompoundTypes):  # type: ignore[misc]  # simpleeval has no types
    """simpleeval's walk, where what it decides for one value is decided for each."""

    def __init__(self, names: Mapping[str, Column]) -> None:
        super().__init__(operators=dict(_OPERATORS), functions=dict(_FUNCTIONS), names=dict(names))
        self.nodes[ast.BoolOp] = self._bool_op
        self.nodes[ast.Compare] = self._compare
        self.nodes[ast.IfExp] = self._if

    def _bool_op(self, node: ast.BoolOp) -> Column:
        join = np.logical_and if isinstance(node.op, ast.And) else np.logical_or
        return reduce(join, [self._eval(value) for value in node.values])

    def _compare(self, node: ast.Compare) -> Column:
        values = [self._eval(part) for part in (node.left, *node.comparators)]
        steps = [
            self.operators[type(op)](left, right) for op, left, right in zip(node.ops, values, values[1:], strict=False)
        ]
        return reduce(np.logical_and, steps)

    def _if(self, node: ast.IfExp) -> Column:
        return np.where(self._eval(node.test), self._eval(node.body), self._eval(node.orelse))


def evaluate(expression: Expression, columns: Mapping[str, Column]) -> Column:
    """The value for each point. Raises ValueError with a sentence where a text meets a number and the like."""
    with np.errstate(all="ignore"):
        try:
            return _Columns(columns).eval(expression.text, previously_parsed=expression.tree)
        except (TypeError, ValueError, ArithmeticError) as error:
            raise ValueError(f"{expression.text} has no value here: {error}") from None
