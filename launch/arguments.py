"""`--key=value` arguments into a frozen dataclass, by draccus (LeRobot's parser), with one-line errors and help from field docstrings.

A verb declares its arguments as a frozen dataclass in which every field has a default and a docstring below it; nested dataclasses give
dotted keys (`--policy.path=...`). `--flag` alone is `--flag=true`. `--config_path=FILE` reads a YAML or JSON file; the command line wins.
"""

import dataclasses
import difflib
import textwrap
import typing
from collections.abc import Iterator, Sequence
from typing import Any

import draccus
import yaml
from draccus.utils import DecodingError, DraccusException
from draccus.wrappers.docstring import get_attribute_docstring

from handsight.sensors.errors import HandsightError

CONFIG_FILE = "config_path"  # draccus's own name


@dataclasses.dataclass(frozen=True)
class Option:
    """One `--key`, its type, its default and what it means."""

    key: str
    type: Any
    default: Any
    doc: str

    @property
    def type_name(self) -> str:
        """How the type is written in Python, without the module."""
        return (
            self.type.__name__ if isinstance(self.type, type) and not typing.get_args(self.type) else str(self.type).replace("pathlib.", "")
        )


def parse[T](arguments: type[T], argv: Sequence[str], prog: str, doc: str, *, positional: str = "") -> T:
    """Parses `argv` into `arguments`.

    Args:
        arguments: a dataclass; every field needs a default.
        argv: what follows the verb.
        prog: how the command is called, e.g. `handsight rollout`.
        doc: what it does, for `--help`.
        positional: the key that words without `--` are collected into, if the verb takes any (`handsight report DIR...`): a tuple of
            strings collects them all, a string takes one.

    Raises:
        HandsightError: unknown key, missing or undecodable value, or a value that the dataclass refuses.
        SystemExit: with 0, after `--help`.
    """
    options = {option.key: option for option in options_of(arguments)}
    if any(word in ("-h", "--help") for word in argv):
        print(help_text(options.values(), prog, doc, positional))
        raise SystemExit(0)
    words = _Words(options, prog, positional).normalise(argv)
    try:
        return draccus.parse(arguments, args=words, prog=prog, exit_on_error=False)
    except DraccusException as error:
        raise HandsightError(_explain(error, options, prog)) from error
    except yaml.YAMLError as error:
        problem = " ".join(str(error).split())
        raise HandsightError(f"expected values that YAML can read, got {problem}; put the value in quotes") from error
    except FileNotFoundError as error:
        raise HandsightError(f"expected a file for --{CONFIG_FILE}, got {error.filename}, which does not exist") from error


def options_of(arguments: type[Any], prefix: str = "") -> Iterator[Option]:
    """Every option of a dataclass, nested ones with dotted keys, in order of declaration."""
    hints = typing.get_type_hints(arguments)
    for field in dataclasses.fields(arguments):
        key, kind = prefix + field.name, hints[field.name]
        if dataclasses.is_dataclass(kind) and isinstance(kind, type):
            yield from options_of(kind, key + ".")
        else:
            doc = get_attribute_docstring(arguments, field.name)
            default = field.default_factory() if field.default_factory is not dataclasses.MISSING else field.default
            yield Option(key, kind, default, " ".join((doc.docstring_below or doc.comment_inline or doc.comment_above).split()))


def help_text(options: typing.Iterable[Option], prog: str, doc: str, positional: str = "") -> str:
    """What `--help` prints."""
    words = f" {positional.upper()}..." if positional else ""
    lines = [f"usage: {prog}{words} --key=value ...", "", doc.strip(), ""]
    for option in options:
        default = "" if option.default in ("", None, ()) else f" (default: {option.default})"
        lines.append(f"  --{option.key}={option.type_name}")
        lines += textwrap.wrap(option.doc + default, 120, initial_indent=" " * 8, subsequent_indent=" " * 8)
    lines.append(f"  --{CONFIG_FILE}=FILE\n        A YAML or JSON file with these keys; the command line wins.")
    return "\n".join(lines)


@dataclasses.dataclass(frozen=True)
class _Words:
    """Checks the words of a command line and brings them into the one form `--key=value`."""

    options: dict[str, Option]
    prog: str
    positional: str

    def normalise(self, argv: Sequence[str]) -> list[str]:
        named: list[str] = []
        unnamed: list[str] = []
        rest = list(argv)
        while rest:
            word = rest.pop(0)
            if word.startswith("--"):
                named.append(self._named(word, rest))
            else:
                unnamed.append(word)
        return named + self._unnamed(unnamed)

    def _named(self, word: str, rest: list[str]) -> str:
        key, equals, value = word.removeprefix("--").partition("=")
        if key != CONFIG_FILE and key not in self.options:
            raise HandsightError(f"expected an option of {self.prog}, got --{key}{self._did_you_mean(key)}")
        if equals:
            return f"--{key}={value}"
        if key in self.options and self.options[key].type is bool:
            return f"--{key}={rest.pop(0)}" if rest and rest[0] in ("true", "false") else f"--{key}=true"
        if not rest or rest[0].startswith("--"):
            raise HandsightError(f"expected a value, got --{key} alone; write --{key}=VALUE, see `{self.prog} --help`")
        return f"--{key}={rest.pop(0)}"

    def _unnamed(self, words: list[str]) -> list[str]:
        if not words:
            return []
        many = bool(self.positional) and self.options[self.positional].type is not str
        if not self.positional or (len(words) > 1 and not many):
            raise HandsightError(f"expected --key=value, got {words[-1]!r}; see `{self.prog} --help`")
        value = yaml.safe_dump(words, default_flow_style=True, width=1 << 20).strip() if many else words[0]
        return [f"--{self.positional}={value}"]

    def _did_you_mean(self, key: str) -> str:
        # The last part alone, too: people write --task for --env.task.
        endings = {name: name for name in self.options} | {name.rpartition(".")[2]: name for name in self.options}
        close = difflib.get_close_matches(key, endings, n=1)
        return f"; did you mean --{endings[close[0]]}?" if close else f"; see `{self.prog} --help`"


def _explain(error: DraccusException, options: dict[str, Option], prog: str) -> str:
    cause: BaseException | None = error
    while cause is not None:  # what the dataclass itself refused says best what was expected
        if isinstance(cause, HandsightError):
            return str(cause)
        cause = cause.__cause__
    if isinstance(error, DecodingError):
        option = options.get(".".join(error.key_path))
        expected = f"{option.type_name} for --{option.key}" if option else f"the options of {prog}"
        return f"expected {expected}: {error.message}; see `{prog} --help`"
    return f"{error} {error.__cause__ or ''}; see `{prog} --help`"
