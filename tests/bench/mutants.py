"""How many one-token mutants of the core its tests notice: `python tests/bench/mutants.py --count 40 --seed 1`.

Each mutant changes one operator or comparison of one module in a copy of the package; the tests named by `--tests` run
against it until the first failure. Prints the score and, for judging, every mutant that survived.
"""

from __future__ import annotations

import argparse
import ast
import os
import random
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
CORE = Path("controller/racksack_controller/core")
SWAPS: dict[type[ast.AST], type[ast.AST]] = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Lt: ast.LtE,
    ast.LtE: ast.Lt,
    ast.Gt: ast.GtE,
    ast.GtE: ast.Gt,
    ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq,
    ast.And: ast.Or,
    ast.Or: ast.And,
    ast.Is: ast.IsNot,
    ast.IsNot: ast.Is,
}


def places(tree: ast.AST) -> list[tuple[ast.AST, str, int]]:
    """Every operator that can be swapped: the node, its field, and its place in a list (-1: it is no list)."""
    found: list[tuple[ast.AST, str, int]] = []
    for node in ast.walk(tree):
        if isinstance(node, ast.BinOp | ast.BoolOp) and type(node.op) in SWAPS:
            found.append((node, "op", -1))
        elif isinstance(node, ast.Compare):
            found += [(node, "ops", at) for at, op in enumerate(node.ops) if type(op) in SWAPS]
    return found


def mutate(source: str, rng: random.Random) -> tuple[str, str] | None:
    """The source with one operator swapped, and which; None when there is none."""
    tree = ast.parse(source)
    candidates = places(tree)
    if not candidates:
        return None
    node, field, at = rng.choice(candidates)
    before = ast.unparse(node)
    if at < 0:
        setattr(node, field, SWAPS[type(getattr(node, field))]())
    else:
        operators = getattr(node, field)
        operators[at] = SWAPS[type(operators[at])]()
    return ast.unparse(tree), f"line {getattr(node, 'lineno', 0)}: {before}  ->  {ast.unparse(node)}"


def is_killed(copy: Path, tests: list[str]) -> bool:
    """Whether any of the tests fails when the copy is imported."""
    paths = [str(copy), *(str(ROOT / name) for name in ("jobspecs", "agent", "client"))]
    command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", *tests]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}
    try:
        return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, timeout=300).returncode != 0
    except subprocess.TimeoutExpired:
        return True


def main() -> None:
    """Print a line for each mutant, and the score."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=20)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--under", default="", help="a folder of core, such as queue")
    parser.add_argument("--tests", nargs="*", default=["tests/core"])
    options = parser.parse_args()
    rng = random.Random(options.seed)
    modules = sorted((ROOT / CORE / options.under).rglob("*.py"))
    killed = tried = 0
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder)
        shutil.copytree(ROOT / "controller" / "racksack_controller", copy / "racksack_controller")
        if is_killed(copy, options.tests):
            sys.exit("the tests fail without any mutant; fix that first")
        while tried < options.count:
            module = rng.choice(modules)
            mutant = mutate(module.read_text(), rng)
            if mutant is None:
                continue
            aim = copy / module.relative_to(ROOT / "controller")
            aim.write_text(mutant[0])
            dead = is_killed(copy, options.tests)
            aim.write_text(module.read_text())
            tried, killed = tried + 1, killed + dead
            print(f"{'killed  ' if dead else 'SURVIVED'} {module.relative_to(ROOT / CORE)} {mutant[1]}", flush=True)
    print(f"{killed} of {tried} mutants killed")


if __name__ == "__main__":
    main()
