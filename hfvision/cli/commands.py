"""The tree of commands: which parser and function belong to what is typed."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from ..utils.parser import Parser, UsageError, did_you_mean, replace_former

Function = Callable[[Any], int | None]
Parse = Callable[[list[str]], Any]

RENAMED = {"--licence": "--license", "--data-licence": "--data-license"}


@dataclass
class Command:
    """One command, or a group of them.

    Attributes:
        parser: its own; it makes the help.
        function: what it runs, with what `parse` returns; None for a group.
        parse: from the words after the command to its arguments.
        commands: those of a group, by name.
    """

    parser: Parser
    function: Function | None = None
    parse: Parse | None = None
    commands: dict[str, "Command"] = field(default_factory=dict)
    _action: Any = None

    def add(
        self,
        function: Function | None,
        description: str,
        examples: str | None = None,
        name: str | None = None,
        *,
        usage: str | None = None,
        parse: Parse | None = None,
    ) -> Parser:
        """The parser of a new command that runs `function` and is called like it where it has no `name`."""
        name = name or str(getattr(function, "__name__", "")).replace("_", "-")
        prog = f"{self.parser.prog} {name}"
        parser = Parser(prog=prog, usage=usage and f"{prog} {usage}", description=description, epilog=examples)
        self._action = self._action or self.parser.add_subcommands(
            title="commands", description="", required=True, metavar="COMMAND", dest="command"
        )
        self._action.add_subcommand(name, parser, help=description)
        parser.prog = prog
        self.commands[name] = Command(parser, function, parse)
        return parser

    def add_group(self, name: str, description: str) -> "Command":
        """A new group of commands."""
        self.add(None, description, name=name)
        return self.commands[name]

    def add_message_options(self) -> None:
        """Add the options that [`main`] reads before it parses a command to every command, after its own."""
        for command in self.commands.values():
            command.add_message_options()
        if self.function is None:
            return
        group = self.parser.add_argument_group("messages")
        group.add_argument("-q", "--quiet", action="store_true", help="show errors only")
        group.add_argument("-v", "--verbose", action="store_true", help="show debug messages")
        group.add_argument("--debug", action="store_true", help="show the traceback of an error")

    def find(self, words: Sequence[str]) -> tuple["Command", list[str]]:
        """The command that the words name, and what follows it.

        Raises:
            UsageError: for a command that does not exist, or a group without one.
            SystemExit: after `--help` or `--version` of a group.
        """
        command, rest = self, list(words)
        while command.commands:
            name = rest[0] if rest else ""
            if name not in command.commands:
                command.refuse(rest)
            command, rest = command.commands[name], rest[1:]
        return command, rest

    def refuse(self, words: list[str]) -> None:
        """Print the help of a group that was asked for it, or raise UsageError."""
        known = list(self.commands)
        if not words or not words[0].startswith("-"):
            what = f"unknown command {words[0]!r}{did_you_mean(words[0], known)}" if words else "a command is required"
            raise UsageError(f'{what} (one of {", ".join(known)}; see "{self.parser.prog} --help")')
        self.parser.parse_args(words[:1])
        self.parser.error(f"unrecognized arguments: {words[0]}")

    def run(self, words: Sequence[str]) -> int | None:
        """Run the command that the words name; what it returns. Raises as [`Command.find`], and what it raises."""
        command, rest = self.find(words)
        assert command.function is not None
        return command.function((command.parse or command.parser.parse_args)(replace_former(rest, RENAMED)))
