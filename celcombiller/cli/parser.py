"""The parser of the command line: it loads a command on its first use, and suggests words for misspelt ones.

It imports only the standard library, so that ``--help`` takes little time.
"""

from __future__ import annotations

import argparse
import difflib
import re
from importlib import import_module
from itertools import takewhile
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, cast

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

_INVALID_CHOICE = re.compile(r"invalid choice: '(.*?)' \(choose from (.*)\)", re.DOTALL)


class CommandParser(argparse.ArgumentParser):
    """An argument parser that is configured at its first use.

    ``configured_by`` names a function as ``module:function``; it gets the parser and adds the arguments.
    """

    def __init__(self, *arguments: Any, configured_by: str = "", **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._configured_by = configured_by
        self._words: Sequence[str] = ()

    def _configure(self) -> None:
        if self._configured_by:
            module, _, function = self._configured_by.partition(":")
            self._configured_by = ""
            getattr(import_module(module), function)(self)

    def walk(self) -> Iterator[argparse.Action]:
        """Yield all arguments of this command and of those below it; this loads them all."""
        self._configure()
        for action in self._actions:
            yield action
            if isinstance(action.choices, dict):
                for below in action.choices.values():
                    yield from below.walk()

    def format_help(self) -> str:
        """Return the help, of this command's own arguments too."""
        self._configure()
        return super().format_help()

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """Parse as argparse does; an option that this command does not have is an error of this command."""
        self._configure()
        self._words = args or ()
        found, unknown = super().parse_known_args(args, namespace)
        if unknown:
            self.error(f"unrecognized arguments: {' '.join(unknown)}")
        return found, unknown

    def error(self, message: str) -> NoReturn:
        """Print the usage and the message, with the nearest known word, and exit with status 2."""
        known: dict[str, Iterable[str]] = dict.fromkeys(self._unknown_options(), self._option_string_actions)
        wrong = _INVALID_CHOICE.search(message)
        if wrong is not None:
            known[wrong[1]] = [each.strip("'\"") for each in wrong[2].split(", ")]
        super().error(message + _suggest(known))

    def _unknown_options(self) -> Iterator[str]:
        """Yield the options that this command does not have; those after the name of a sub-command are not its own."""
        own = takewhile(lambda word: word.startswith("-"), self._words) if self._subparsers else self._words
        for option in (word.partition("=")[0] for word in own if word.startswith("--")):
            if not any(known.startswith(option) for known in self._option_string_actions):
                yield option


class PrintVersion(argparse.Action):
    """Print the version of the installed package, and exit."""

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
        """Print it."""
        from importlib.metadata import version  # noqa: PLC0415  slow, and rarely wanted

        print(f"{parser.prog} {version('celcombiller')}")
        parser.exit()


class PrintCompletion(argparse.Action):
    """Print a shell's completion script for all commands, and exit."""

    def __call__(self, parser: argparse.ArgumentParser, _namespace: Any, shell: Any, _option: Any = None) -> None:
        """Print the script."""
        import shtab  # noqa: PLC0415  rarely wanted

        for action in cast("CommandParser", parser).walk():
            if action.type is Path:
                action.complete = shtab.FILE  # type: ignore[attr-defined]
        print(shtab.complete(parser, shell))
        parser.exit()


def _suggest(known: Mapping[str, Iterable[str]]) -> str:
    """Return the nearest known word of the first misspelt word that has one."""
    for word, choices in known.items():
        for near in difflib.get_close_matches(word, choices, n=1, cutoff=0.6):
            return f"; did you mean {near}?"
    return ""


def extract_global_options(argv: Sequence[str]) -> list[str]:
    """Return the arguments with ``--config FILE`` moved to the front and ``--json`` to the end."""
    anywhere = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    anywhere.add_argument("--config")
    anywhere.add_argument("--json", action="store_true")
    words = list(argv)
    end = words.index("--") if "--" in words else len(words)
    if "--config" in words[:end] and words[:end][-1] == "--config":
        return words  # its value is missing: the real parser reports it
    found, rest = anywhere.parse_known_args(words[:end])
    first = [] if found.config is None else ["--config", found.config]
    return [*first, *rest, *(["--json"] if found.json else []), *words[end:]]
