"""What every decoder of foreign bytes has to stand: hostile input of all kinds, in time that grows with its length.

`tests/test_foreign_input.py` has the table of the decoders.
"""

import ast
import importlib
import itertools
import re
import signal
import time
from collections.abc import Callable
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from hypothesis import strategies as st

from tests.support.properties import is_nightly

PACKAGE = Path(__file__).parents[2] / "celcombiller"

TOKENS = (
    *(b"\x00", b"\x1b", b"\x7f", b"\x80", b"\xff", b"\n", b"\r", b"\r\n", b"\n\n", b"\t", b" ", b"  ", b"%00", b"%"),
    *(b'"', b"\\", b"'", b",", b";", b":", b"=", b"&", b"|", b"/", b"-", b"+", b".", b"#", b"(", b")", b"<", b">"),
    *(b"[", b"]", b"{", b"}", b"[" * 3000, b'{"a":' * 3000),
    *(b"0", b"-1", b"00000000000000000000", b"9" * 20, b"9" * 5000, b"1e400", b"-1e-400", b"1e9999999999999999999"),
    *(b"NaN", b"Infinity", b"true", b"null", b"1.5", b"0x1F", b"1_000", b"1e5"),
    *("é".encode("latin-1"), "²".encode(), "٣".encode(), "ǰ".encode(), "\u202e".encode(), "\ufeff".encode()),
    *(b"\xed\xa0\x80", b"\\ud800", b"\\u0000", b"9999-12-31T23:59:59", b"0001-01-01T00:00:00"),
)
"""What has broken decoders: signs, numbers that are too long, digits that are none, halves of characters, edges."""

SMALLEST = 256
GROWTH = 4
"""Each size that is measured is so many times the one before; linear work takes as many times as long."""

LARGEST_BY_DAY = 16_384
"""Octets up to which each run looks; by night it is as many as a decoder may be given."""

ROOM = 2.5
"""How much more than that is still taken for linear, because the machine has other work too; quadratic work has 4."""


BEGINNING = 3000
"""How much slower than reading its octets a decoder may be with the smallest input; a file of settings takes 300.

What it takes for no octets is allowed beside: five readings of all settings take as long as 3,000 such octets.
"""


@dataclass(frozen=True, kw_only=True)
class Decoder:
    """One row of the table.

    ``decode`` takes any bytes; only ``errors`` may leave it, and none for what is in ``seeds``. ``hostile`` has input
    that broke it once. ``separators`` are what its format puts between parts; long runs of each are timed, up to
    ``largest`` octets: as long as what the decoder may be given. ``expressions`` are the regular expressions that it
    uses, as `list_expressions` names them.

    ``fails`` and ``is_slow`` mark what is not mended yet.
    """

    name: str
    decode: Callable[[bytes], object]
    errors: tuple[type[Exception], ...] = ()
    seeds: tuple[bytes, ...]
    hostile: tuple[bytes, ...] = ()
    separators: tuple[bytes, ...] = ()
    largest: int = 65_536
    expressions: tuple[str, ...] = ()
    fails: bool = False
    is_slow: bool = False

    def __str__(self):
        return self.name

    def attempt(self, data):
        """Decode, and let pass the errors that are the decoder's own."""
        with suppress(*self.errors):
            self.decode(data)


# -- any input -------------------------------------------------------------------------------------------------------

_PLACE = st.integers(0, 2**16 - 1)
_EDITS = st.lists(
    st.tuples(st.sampled_from(["cut", "double", "flip", "insert", "repeat", "drop", "replace"]), _PLACE, _PLACE),
    min_size=1,
    max_size=4,
)


def hostile_inputs(seeds):
    """Return a strategy of random bytes, and of seeds that are cut, doubled, changed in a bit, or added to."""
    return st.one_of(
        st.binary(max_size=80),
        st.lists(st.sampled_from(TOKENS), max_size=8).map(b"".join),
        st.builds(_edited, st.sampled_from(seeds), _EDITS),
        st.builds(_edited, st.sampled_from(seeds), _EDITS),
    )


def _edited(data, edits):
    for kind, where, what in edits:
        at = where * (len(data) + 1) >> 16
        token = TOKENS[what % len(TOKENS)]
        end = min(len(data), at + what % 24)
        match kind:
            case "cut":
                data = data[:at]
            case "double":
                data += data
            case "flip" if at < len(data):
                data = data[:at] + bytes([data[at] ^ 1 << what % 8]) + data[at + 1 :]
            case "repeat":
                data = data[:end] + data[at:]
            case "drop":
                data = data[:at] + data[end:]
            case "replace":
                data = data[:at] + token + data[end:]
            case _:
                data = data[:at] + token + data[at:]
    return data


# -- time ------------------------------------------------------------------------------------------------------------


class TooSlow(BaseException):
    """The work took longer than it may. No decoder catches it."""


def shapes(decoder):
    """Yield a name and a function of a length for each kind of input that makes bad decoders slow."""
    separators = dict.fromkeys((*decoder.separators, b" ", b"a", b"1"))
    for each in separators:
        yield f"{each!r}, many", lambda size, each=each: each * (size // len(each))
        yield f"{each!r} and a letter, many", lambda size, each=each: (each + b"a") * (size // (len(each) + 1))
        for seed in decoder.seeds[:1]:
            yield (
                f"{each!r}, many behind a seed",
                lambda size, each=each, seed=seed: seed + each * (size // len(each)),
            )
            yield (
                f"{each!r}, many within a seed",
                lambda size, each=each, seed=seed: (
                    seed[: len(seed) // 2] + each * (size // len(each)) + seed[len(seed) // 2 :]
                ),
            )
            yield (
                f"{each!r}, many before a seed's end",
                lambda size, each=each, seed=seed: seed[:-1] + each * (size // len(each)) + seed[-1:],
            )
    for number, seed in enumerate(decoder.seeds):
        yield f"seed {number}, again and again", lambda size, seed=seed: (seed * (size // len(seed) + 1))[:size]
        yield (
            f"seed {number}, cut, again and again",
            lambda size, seed=seed: (seed[:-1] * (size // len(seed) + 1))[:size],
        )


def find_growth(decoder):
    """Return the kind and the size of input whose time grows faster than its length; ``None`` if there is none.

    A machine may become slower between two sizes, and stay so for a while: what three looks find is there.
    """
    for _ in range(3):
        found = _look_for_growth(decoder)
        if found is None:
            return None
    return found


def _look_for_growth(decoder):
    """Return what one look finds, as `find_growth` does.

    What is compared is the worst CPU time, of all kinds of input, for two sizes, of which one is `GROWTH` times the
    other. Work that is less than reading the octets one by one in Python is never too much. Other load only adds to a
    measurement, so one good measurement of several is enough.
    """
    kinds = dict(shapes(decoder))
    largest = decoder.largest if is_nightly() else min(decoder.largest, LARGEST_BY_DAY)
    sizes = [size for size in (SMALLEST * GROWTH**n for n in range(9)) if size <= largest]
    worst = BEGINNING * _plain_seconds(SMALLEST) + ROOM * _seconds(lambda: _run(decoder, b""))
    for smaller, size in itertools.pairwise((0, *sizes)):
        limit = worst if not smaller else ROOM * GROWTH * max(worst, _plain_seconds(smaller))
        worst = 0.0
        for kind, make in kinds.items():
            data = make(size)
            seconds = next(each for each in _tries(decoder, data, limit) if each is not None)
            if seconds > limit:
                return kind, size
            worst = max(worst, seconds)
    return None


def _tries(decoder, data, limit):
    """Yield the first good measurement; infinity after several bad ones."""
    for _ in range(4):
        seconds = _seconds(lambda: _run(decoder, data), limit)
        yield seconds if seconds <= limit else None
    yield float("inf")


def _run(decoder, data):
    with suppress(Exception):  # which errors may leave is the business of another test
        decoder.decode(data)


def _plain_seconds(size):
    """Return how long it takes to read so many octets one by one."""
    octets = bytes(size)

    def read():
        for each in octets:
            abs(each)

    return _seconds(read)


def _seconds(work, limit=None):
    """Return the CPU time of ``work``, or infinity if it is stopped because it takes several times the limit."""
    with suppress(TooSlow), _stopped_after(limit):
        began = time.thread_time()
        work()
        return time.thread_time() - began
    return float("inf")


@contextmanager
def _stopped_after(limit):
    """Interrupt work that does not end; a regular expression looks for signals too."""
    if limit is None:
        yield
        return
    handler = signal.signal(signal.SIGVTALRM, _stop)
    signal.setitimer(signal.ITIMER_VIRTUAL, 2 * limit + 0.02)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, handler)


def _stop(*_):
    raise TooSlow


# -- regular expressions ---------------------------------------------------------------------------------------------

_FUNCTIONS = {"compile", "match", "fullmatch", "search", "sub", "subn", "split", "findall", "finditer"}


def list_expressions():
    """Return each regular expression of the package: ``module:name`` to its text, ``None`` where that is computed.

    Those of the types of fields (``Meta(pattern=...)``) are listed apart, by `list_field_patterns`. The name is that
    which the expression is assigned to, or of the function that it stands in; ``#2`` is its second.
    """
    found = {}
    for module, tree in _modules():
        for name, call in _named_calls(tree):
            if _is_of_re(call):
                key = f"{module}:{name}"
                again = sum(each.partition("#")[0] == key for each in found)
                found[f"{key}#{again + 1}" if again else key] = _text_of(call.args[0])
    return found


def list_field_patterns():
    """Return the pattern of each type of a field: ``module:line`` to its text."""
    return {
        f"{module}:{call.lineno}": _evaluate(module, keyword.value)
        for module, tree in _modules()
        for call in ast.walk(tree)
        if isinstance(call, ast.Call)
        for keyword in call.keywords
        if keyword.arg == "pattern"
    }


def _evaluate(module, node):
    """Return the value of a pattern, which may be put together of names of its module."""
    if isinstance(node, ast.Constant):
        return node.value
    names = vars(importlib.import_module(f"celcombiller.{module.replace('/', '.')}"))
    return eval(compile(ast.Expression(node), module, "eval"), names)


def list_other_imports():
    """Return the modules that import ``re`` in a way that `list_expressions` does not see."""
    return [
        module
        for module, tree in _modules()
        for each in ast.walk(tree)
        if (isinstance(each, ast.ImportFrom) and each.module == "re")
        or (isinstance(each, ast.Import) and any(name.name == "re" and name.asname for name in each.names))
    ]


@cache
def _modules():
    return [
        (path.relative_to(PACKAGE).with_suffix("").as_posix(), ast.parse(path.read_text("utf-8")))
        for path in sorted(PACKAGE.rglob("*.py"))
    ]


def _named_calls(tree, name=""):
    """Yield each call with the name of what it is assigned to, or of its function."""
    for child in ast.iter_child_nodes(tree):
        inner = name
        if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            inner = child.name
        elif isinstance(child, ast.Assign | ast.AnnAssign) and child.value is not None:
            target = child.targets[0] if isinstance(child, ast.Assign) else child.target
            if isinstance(target, ast.Tuple) and len(getattr(child.value, "elts", ())) == len(target.elts):
                for each, value in zip(target.elts, child.value.elts, strict=True):
                    yield from _named_calls(ast.Expr(value), getattr(each, "id", name))
                continue
            inner = name or getattr(target, "id", name)
        if isinstance(child, ast.Call):
            yield inner, child
        yield from _named_calls(child, inner)


def _is_of_re(call):
    called = call.func
    return (
        isinstance(called, ast.Attribute)
        and called.attr in _FUNCTIONS
        and isinstance(called.value, ast.Name)
        and called.value.id == "re"
    )


def _text_of(node):
    return node.value if isinstance(node, ast.Constant) else None


def pattern_decoder(name, text):
    """Return a row for the pattern of a field, which msgspec searches for in a text of any length."""
    search = re.compile(text).search
    seeds = (b"a1-Z 09/", b"2026-11-28", b"+5591980000001")
    return Decoder(
        name=name,
        decode=lambda data: search(data.decode("utf-8", "replace")),
        seeds=seeds,
        separators=(b"0", b".", b":", b"/", b"+", b"\n", b"tcp:1:", b"https://"),
    )
