"""Builds the documentation as a web site in build/site/: `make docs`. A link that leads nowhere fails the build.

The pages in docs/ are read as they are on the forge, so they link to files outside of docs/. For the site those files
are copied beside the pages and the links follow them. The tools are in requirements-docs.lock; they get an environment
of their own.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PAGES = ROOT / "build" / "docs"
TOOLS = ROOT / "build" / "docs-tools"
LINK = re.compile(r"(\]\()([^)#\s]+)((?:#[^)\s]*)?\))")
AT_THE_TOP = {"README.md": "readme.md", "CHANGELOG.md": "changelog.md", "CONTRIBUTING.md": "contributing.md"} | {
    "SECURITY.md": "reporting.md"
}


def main() -> int:
    """Copy, rewrite, build; the exit code of mkdocs."""
    shutil.rmtree(PAGES, ignore_errors=True)
    shutil.copytree(ROOT / "docs", PAGES)
    for page in [*PAGES.rglob("*.md")]:
        home = ROOT / "docs" / page.relative_to(PAGES)
        page.write_text(rewritten(home, page))
    for name, copy in AT_THE_TOP.items():
        (PAGES / copy).write_text(rewritten(ROOT / name, PAGES / copy))
    if not (TOOLS / "bin" / "mkdocs").exists():
        install_tools()
    environment = os.environ | {"NO_MKDOCS_2_WARNING": "1"}
    build = [TOOLS / "bin" / "mkdocs", "build", "--strict", "--quiet"]
    return subprocess.run(build, cwd=ROOT, env=environment, check=False).returncode


def rewritten(home: Path, page: Path) -> str:
    """The text of `home`, with the links of the page that it becomes."""
    return LINK.sub(lambda link: link[1] + target(link[2], home, page) + link[3], home.read_text())


def target(link: str, home: Path, page: Path) -> str:
    """Where a relative link of `home` leads from `page`; what is no page of the site is copied to files/."""
    if re.match(r"[a-z]+:", link):
        return link
    aim = (home.parent / link).resolve()
    name = aim.relative_to(ROOT).as_posix()
    if name in AT_THE_TOP:
        there = PAGES / AT_THE_TOP[name]
    elif aim.is_relative_to(ROOT / "docs"):
        there = PAGES / aim.relative_to(ROOT / "docs")
    else:
        there = PAGES / "files" / name
        if aim.is_file():
            there.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(aim, there)
    return os.path.relpath(there, page.parent)


def install_tools() -> None:
    """An environment with what requirements-docs.lock names."""
    uv = ROOT / ".venv" / "bin" / "uv"
    subprocess.run([uv, "venv", "--quiet", "--allow-existing", "--python", sys.executable, TOOLS], check=True)
    lock = ROOT / "requirements-docs.lock"
    subprocess.run(
        [uv, "pip", "install", "--quiet", "--python", TOOLS / "bin" / "python", "--require-hashes", "-r", lock],
        check=True,
    )


if __name__ == "__main__":
    sys.exit(main())
