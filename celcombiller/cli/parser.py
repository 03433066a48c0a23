"""The command's parser: it loads what a command needs when that command is used, and corrects misspelt words.

Only the standard library is imported here, so that ``--help`` and a wrong word cost nothing else.
"""

from __future__ import annotations

import argparse
import difflib
import re
from importlib import import_module
from typing import TYPE_CHECKING, Any, NoReturn

if TYPE_CHECKING:
    from collections.abc import Sequence

_INVALID_CHOICE = re.compile(r"invalid choice: '(.*?)' \(choose from (.*)\)", re.DOTALL)


class CommandParser(argparse.ArgumentParser):
    """An argument parser that is configured at its first use.

    ``configured_by`` names a function as ``module:function``; it gets the parser and adds the arguments.
    """

    def __init__(self, *arguments: Any, configured_by: str = "", **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._configured_by = configured_by

    def _configure(self) -> None:
        if self._configured_by:
            module, _, function = self._configured_by.partition(":")
            self._configured_by = ""
            getattr(import_module(module), function)(self)

    def format_help(self) -> str:
        """Return the help, of this command's own arguments too."""
        self._configure()
        return super().format_help()

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """Parse as argparse does; an option that this command does not have is an error of this command."""
        self._configure()
        found, unknown = super().parse_known_args(args, namespace)
        if unknown and not self._subparsers:
            self.error(f"unrecognized arguments: {' '.join(unknown)}{_suggest(unknown, self._option_string_actions)}")
        return found, unknown

    def error(self, message: str) -> NoReturn:
        """Print the usage and the message, with the nearest known word, and exit with status 2."""
        wrong = _INVALID_CHOICE.search(message)
        if wrong is not None:
            message += _suggest([wrong[1]], [each.strip("'\"") for each in wrong[2].split(", ")])
        super().error(message)


def _suggest(words: Sequence[str], known: Any) -> str:
    for word in words:
        near = difflib.get_close_matches(word.partition("=")[0], list(known), n=1, cutoff=0.6)
        if near:
            return f"; did you mean {near[0]}?"
    return ""


def extract_global_options(argv: Sequence[str]) -> list[str]:
    """Return the arguments with ``--config FILE`` first and ``--json`` last, wherever they stood."""
    anywhere = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    anywhere.add_argument("--config")
    anywhere.add_argument("--json", action="store_true")
    words = list(argv)
    end = words.index("--") if "--" in words else len(words)
    if "--config" in words[:end] and words[:end][-1] == "--config":
        return words  # its value is missing: the parser proper says so
    found, rest = anywhere.parse_known_args(words[:end])
    first = [] if found.config is None else ["--config", found.config]
    return [*first, *rest, *(["--json"] if found.json else []), *words[end:]]
