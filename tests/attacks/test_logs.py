"""The log: nobody's words forge a line, steer a terminal or fill a disk."""

import logging
from collections.abc import Iterator
from pathlib import Path

import pytest

from racksack_controller import logs


@pytest.fixture
def logger(tmp_path: Path) -> Iterator[logging.Logger]:
    """A logger that writes as the controller's does."""
    root = logging.getLogger()
    before = list(root.handlers)
    root.handlers.clear()
    logs.set_up(tmp_path / "controller.log")
    try:
        yield logging.getLogger("racksack.test")
    finally:
        for handler in root.handlers:
            handler.close()
        root.handlers[:] = before


def lines(folder: Path) -> list[str]:
    return (folder / "controller.log").read_text().splitlines()


@pytest.mark.parametrize(
    "words",
    [
        "\n2026-01-01 00:00:00,000 INFO racksack accepted file=forged",
        "\r\x1b[2Jgone",
        "\x1b]52;c;cm0gLXJm\x07",
        "\u202egnp.exe\u2028next",
        "\x9b31mred",
    ],
)
def test_words_of_others_stay_in_their_line(logger: logging.Logger, tmp_path: Path, words: str) -> None:
    logger.warning("node=r1 said %s", words)
    (line,) = lines(tmp_path)
    assert line.isprintable()
    assert "said \\x" in line


def test_an_exceptions_words_do_too(logger: logging.Logger, tmp_path: Path) -> None:
    try:
        raise ValueError("\x1b]0;x\x07\n2026-01-01 00:00:00,000 INFO racksack forged" + "y" * 10_000_000)
    except ValueError:
        logger.exception("failed")
    found = lines(tmp_path)
    assert all(line.isprintable() for line in found)
    assert all(line.startswith("    ") for line in found[1:])
    assert sum(map(len, found)) < 25 * logs.LINE_CHARS_MAX


def test_a_long_line_is_cut(logger: logging.Logger, tmp_path: Path) -> None:
    logger.warning("%s", "x" * 50_000_000)
    (line,) = lines(tmp_path)
    assert len(line) == logs.LINE_CHARS_MAX
    assert line.endswith("...")


def test_a_flood_of_warnings_is_left_out_and_decisions_are_not(logger: logging.Logger, tmp_path: Path) -> None:
    for number in range(1000):
        logger.warning("no more files: %d", number)
        logger.info("accepted %d", number)
    found = lines(tmp_path)
    assert sum("no more files" in line for line in found) == logs.BURST
    assert sum("(repeats are suppressed for a minute)" in line for line in found) == 1
    assert sum("accepted" in line for line in found) == 1000
    logger.warning("another place")
    assert "another place" in lines(tmp_path)[-1]


def test_the_file_is_begun_anew_while_the_controller_runs(logger: logging.Logger, tmp_path: Path) -> None:
    for _ in range(2 * logs.FILE_BYTES_MAX // 3900):
        logger.info("%s", "x" * 3900)
    sizes = [path.stat().st_size for path in tmp_path.iterdir()]
    assert len(sizes) == 2
    assert max(sizes) <= logs.FILE_BYTES_MAX
