"""The parser of command lines, over jsonargparse: errors in one sentence, with a suggestion for a typing error."""

import argparse
import difflib
import re
import warnings
from collections.abc import Iterable, Mapping
from typing import Any, Never

import jsonargparse

PARSED = {"int": "an integer", "float": "a number", "bool": "true or false"}


class UsageError(ValueError):
    """A mistake on the command line; the message is one sentence."""


class HelpFormatter(argparse.RawDescriptionHelpFormatter):
    """Help with examples as they are written and one metavar for all names of an option."""

    def __init__(self, prog: str, **options: Any):
        super().__init__(prog, **{"max_help_position": 30} | options)


class Parser(jsonargparse.ArgumentParser):
    """jsonargparse's parser, which raises [`UsageError`] with a suggestion instead of exiting."""

    def __init__(self, *args: Any, **options: Any):
        super().__init__(*args, **{"formatter_class": HelpFormatter, "allow_abbrev": False} | options)

    def error(self, message: str, ex: Exception | None = None) -> Never:
        known = sorted(set(re.findall(r"(?<![\w-])--[a-z][\w-]*", self.format_help())))
        raise UsageError(f'{explain(message, known)} (see "{self.prog} --help")') from ex


def explain(message: str, options: Iterable[str]) -> str:
    """A message of jsonargparse in one sentence of plain words, with a suggestion from the known `options`."""
    if found := re.search(r"unrecognized arguments: (.*)", message, re.DOTALL):
        word = found[1].split()[0].partition("=")[0]
        if word.startswith("-"):
            return f"unknown option {word}{did_you_mean(word, options)}"
        return f"unexpected argument {word!r}"
    if found := re.match(r'Parser key "([\w.]+)":\s*(.*)', message, re.DOTALL):
        return explain_value(option_name(found[1]), found[2])
    if found := re.search(r"invalid choice: '?(.*?)'? \(choose from (.*)\)", message, re.DOTALL):
        known = [name.strip(" '") for name in found[2].split(",")]
        return f"{message[: found.start()]}invalid choice {choice(found[1], known)}"
    return " ".join(message.split())


def explain_value(name: str, reason: str) -> str:
    """What is wrong with the value of an option, by jsonargparse's reason."""
    found = re.search(r"(?:Got|Given) value: (.*)", reason)
    if found is None:
        return f"{name}: {' '.join(reason.split())}"
    value = found[1]
    if choices := re.search(r"Literal\[(.*?)\]", reason):
        known = re.findall("'([^']*)'", choices[1])
        return f"{name}: invalid choice {choice(value, known)}"
    kind = next((PARSED[kind] for kind in re.findall(r"<class '(\w+)'>", reason) if kind in PARSED), None)
    expected = f", expected {kind}" if kind else ""
    return f"{name}: invalid value {value!r}{expected}"


def choice(value: str, known: list[str]) -> str:
    """A value that is not among the `known` ones, with the closest of them, for a message."""
    return f"{value!r}{did_you_mean(value, known)} (choose from {', '.join(known)})"


def option_name(name: str) -> str:
    """`--output-dir` for `output_dir`."""
    return f"--{name.replace('_', '-')}"


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """`: did you mean train?` for the closest of the `known` words; empty where none is close."""
    known = list(known)
    of_family = [name for name in known if word and name.partition(":")[2] == word]
    close = of_family or difflib.get_close_matches(word, known, 1, 0.7)
    return f": did you mean {close[0]}?" if close else ""


def replace_former(words: Iterable[str], names: Mapping[str, str]) -> list[str]:
    """Command-line arguments with the former names of options replaced; a warning names each."""
    replaced = []
    for word in words:
        name, equals, value = word.partition("=")
        if name in names:
            text = f"{name} is deprecated, use {names[name]}"
            warnings.warn(text, FutureWarning, stacklevel=2)
        replaced.append(f"{names.get(name, name)}{equals}{value}")
    return replaced
