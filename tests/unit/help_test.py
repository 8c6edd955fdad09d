# Copyright The c7n-keyrot Authors.
# SPDX-License-Identifier: Apache-2.0
"""`--help` of every command has examples, and each of them is a command line that is accepted."""

from __future__ import annotations

import argparse
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import c7n.cli
import c7n_mailer.cli
import c7n_org.cli
import pytest

from c7n_keyrot import cli

ROOT = Path(__file__).parents[2]
OWN = [name for name in cli.COMMANDS if name not in cli.PROGRAMS]


def help_of(*words: str) -> str:
    """What `c7n-keyrot WORDS --help` prints, without what argparse makes of the width."""
    parser = cli._parser(words[0] if words else "")
    if words:
        parser = subparser(parser, words[0])
    return parser.format_help()


def subparser(parser: argparse.ArgumentParser, name: str) -> argparse.ArgumentParser:
    (action,) = (one for one in parser._actions if isinstance(one, argparse._SubParsersAction))
    return action.choices[name]


def example_lines(text: str) -> list[str]:
    """The lines below `examples:`; one that ends with a backslash goes on."""
    block = re.split(r"\n\n", text.partition("\nexamples:\n")[2])[0]
    return re.sub(r"\\\n\s*", "", block).splitlines()


def commands(line: str) -> Iterator[list[str]]:
    """The words of each c7n-keyrot in a line of shell."""
    yield from (shlex.split(inner) for inner in re.findall(r"\$\((c7n-keyrot [^()]*)\)", line))
    words: list[str] = []
    lexer = shlex.shlex(line, posix=True, punctuation_chars=True)
    lexer.whitespace_split = True
    try:
        found = [*lexer, ";"]
    except ValueError as error:
        pytest.fail(f"no line of shell ({error}), put a remark behind #: {line}")
    for word in found:
        if re.fullmatch(r"[|&;<>()]+", word):
            if words[:1] == ["c7n-keyrot"]:
                yield words
            words = []
        else:
            words.append(word)


def accept(words: list[str]) -> None:
    """Parse it as the command itself would; SystemExit says that it is refused."""
    _, command, *rest = words
    if command == "custodian":
        c7n.cli.setup_parser().parse_args(rest)
    elif command == "mailer":
        c7n_mailer.cli.get_c7n_mailer_parser().parse_args(rest)
    elif command == "org":
        program = c7n_org.cli.cli.commands[rest[0]]
        program.make_parser(program.context_class(program)).parse_args(rest[1:])
    else:
        cli._parser(command).parse_args([command, *rest])


@pytest.mark.parametrize("name", OWN)
def test_each_command_has_an_example_of_itself(name: str) -> None:
    lines = example_lines(help_of(name))
    found = [words for line in lines for words in commands(line) if words[1] == name]
    assert found, f"--help of {name} needs examples: epilog='examples:\\n  c7n-keyrot {name} ...'"


@pytest.mark.parametrize("name", ["", *OWN])
def test_each_example_is_accepted(name: str) -> None:
    for line in example_lines(help_of(*name.split())):
        for words in commands(line):
            accept(words)


@pytest.mark.parametrize("name", ["", *OWN])
def test_an_example_is_a_line_that_fits(name: str) -> None:
    lines = example_lines(help_of(*name.split()))
    assert [line for line in lines if len(line) > 100 or not line.startswith("  ")] == []


def test_the_files_that_examples_name_are_those_that_init_writes() -> None:
    text = "\n".join(help_of(*name.split()) for name in ("", *OWN))
    named = set(re.findall(r"\b(?:policies|examples|deploy)/[\w-]+\.yml", text))
    assert named
    assert [name for name in named if not (ROOT / name).is_file()] == []


def test_the_other_programs_are_in_the_examples_of_the_whole() -> None:
    found = [words[1] for line in example_lines(help_of()) for words in commands(line)]
    assert set(found) >= set(cli.PROGRAMS)


@pytest.mark.parametrize("name", OWN)
def test_each_argument_is_explained(name: str) -> None:
    actions = subparser(cli._parser(name), name)._actions
    assert [action.dest for action in actions if not action.help] == []


@pytest.mark.parametrize("name", OWN)
def test_the_description_is_a_sentence(name: str) -> None:
    description = subparser(cli._parser(name), name).description or ""
    assert re.match(r"[A-Z].*\.$", description, re.DOTALL)


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("  c7n-keyrot init .  # not this: c7n-keyrot x", [["c7n-keyrot", "init", "."]]),
        ("  aws x | c7n-keyrot a - > 'b c'", [["c7n-keyrot", "a", "-"]]),
        ('  m -t "$(c7n-keyrot templates)"', [["c7n-keyrot", "templates"]]),
        ("  c7n-keyrot a && c7n-keyrot b", [["c7n-keyrot", "a"], ["c7n-keyrot", "b"]]),
        ("  aws s3 sync a b", []),
    ],
)
def test_commands_are_found_in_a_line_of_shell(line: str, found: list[list[str]]) -> None:
    assert list(commands(line)) == found


def test_an_example_that_is_wrong_is_noticed() -> None:
    with pytest.raises(SystemExit):
        accept(["c7n-keyrot", "doctor", "--nothing"])
