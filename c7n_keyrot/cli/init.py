# Copyright The c7n-keyrot Authors.
# SPDX-License-Identifier: Apache-2.0
"""``c7n-keyrot init [DIR]``: write the pack's policies, examples and deploy files."""

import argparse
import os
from collections.abc import Iterator
from pathlib import Path

import c7n_keyrot
from c7n_keyrot.core.errors import CommandError

FOLDERS = ("policies", "examples", "deploy")


def add_parser(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    parser = subparsers.add_parser(
        "init",
        description="Writes the pack into DIR. A file that is there already is never overwritten.",
        epilog="examples:\n"
        "  c7n-keyrot init .          # policies/, examples/ and deploy/ in this folder\n"
        "  c7n-keyrot init keyrot     # in another one, which is made if need be",
    )
    parser.add_argument(
        "dir",
        metavar="DIR",
        nargs="?",
        default=".",
        type=Path,
        help="where to write; created if it doesn't exist (default: the current folder)",
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    target: Path = args.dir
    source = pack()
    kept = 0
    for file in files(source):
        try:
            word = write(source / file, target / file)
        except (FileExistsError, NotADirectoryError):
            blocker = next(p for p in (target / file).parents if p.exists())
            raise CommandError(
                f"{blocker} is a file where a folder is needed; name another DIR"
            ) from None
        except OSError as error:
            raise CommandError(
                f"can't write {target / file}: {error.strerror}; name a DIR that you can write to"
            ) from None
        print(f"{word:9} {target / file}")
        kept += word == "kept"
    if kept:
        print(f"Kept: {kept} of your own. To see the pack's, run this with an empty DIR.")
    look = target / "examples" / "notify-only.yml"  # unlike the pack, it never stops at a limit
    print(f"Next: custodian run --dryrun -s look {look}")
    return 0


def pack() -> Path:
    """Return the folder of the pack's files: in the wheel, or an editable install's checkout."""
    package = Path(c7n_keyrot.__file__).parent
    for folder in (package / "pack", package.parent):
        if (folder / FOLDERS[0]).is_dir():
            return folder
    raise CommandError(f"the pack's files are missing in {package / 'pack'}; reinstall c7n-keyrot")


def files(source: Path) -> Iterator[Path]:
    """Return the pack's files, relative to ``source``, always in the same order."""
    for folder in FOLDERS:
        for path in sorted((source / folder).rglob("*")):
            relative = path.relative_to(source)
            hidden = any(part.startswith((".", "__pycache__")) for part in relative.parts)
            if path.is_file() and not hidden:
                yield relative


def write(source: Path, target: Path) -> str:
    """Write one file unless there is one; return ``wrote``, ``unchanged`` or ``kept``."""
    content = source.read_bytes()
    target.parent.mkdir(parents=True, exist_ok=True)
    if os.path.lexists(target):  # also true for a dangling link: it is the user's
        same = target.is_file() and target.read_bytes() == content
        return "unchanged" if same else "kept"
    # Under another name first: a file that is cut short must not look like the user's own.
    part = target.with_name(f".{target.name}.part")
    part.write_bytes(content)
    part.replace(target)
    return "wrote"
