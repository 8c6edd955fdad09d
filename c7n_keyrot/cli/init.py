# Copyright The c7n-keyrot Authors.
# SPDX-License-Identifier: Apache-2.0
"""``c7n-keyrot init [DIR]``: write the pack's policies, examples and deploy files."""

import argparse
import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

import c7n_keyrot
from c7n_keyrot.core.errors import CommandError
from c7n_keyrot.core.text import counted, listed

FOLDERS = ("policies", "examples", "deploy")
# What Custodian takes for a file of policies.
POLICY_FILES = (".yml", ".yaml", ".json")
POLICIES = re.compile(rb"""^(\{\s*)?["']?policies["']?\s*:""", re.MULTILINE)


def add_parser(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    parser = subparsers.add_parser(
        "init",
        description="Writes the pack into DIR. A file that exists is never overwritten. Where\n"
        "policies/ has policies of yours, the pack's, which disable keys, are left out: a run of\n"
        "that folder would take them along.",
        epilog="examples:\n"
        "  c7n-keyrot init .          # policies/, examples/ and deploy/ in this folder\n"
        "  c7n-keyrot init keyrot     # in another one, which is made if need be\n"
        "  c7n-keyrot init --acting . # the pack's policies beside your own",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "dir",
        metavar="DIR",
        nargs="?",
        default=".",
        type=Path,
        help="where to write; created if it doesn't exist (default: the current folder)",
    )
    parser.add_argument(
        "--acting",
        action="store_true",
        help="write the policies that disable keys also where policies/ has others",
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    target: Path = args.dir
    source = pack()
    kept = 0
    pack_files = list(files(source))
    others = [] if args.acting else _other_policies(target, pack_files)
    for file in pack_files:
        if others and file.parts[0] == FOLDERS[0] and not os.path.lexists(target / file):
            print(f"left out  {target / file}: it disables keys, and {_among(target, others)}")
            continue
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
    if others:
        print("Try examples/notify-only.yml first. init --acting writes what is left out.")
    if beside := _policies_in(target):
        print(
            f"Careful: {listed([path.name for path in beside], 3)} and the pack are in one folder. "
            f"A run of {target} as a whole takes examples/ along, and stops at deploy/, which has "
            "CloudFormation's files. Run files by their names, or write the pack into another DIR."
        )
    look = target / "examples" / "notify-only.yml"  # unlike the pack, it never stops at a limit
    print(f"Next: custodian run --dryrun -s look {look}")
    return 0


def _other_policies(target: Path, pack_files: Sequence[Path]) -> list[Path]:
    """Return the files of policies that Custodian would run together with the pack's."""
    found = sorted((target / FOLDERS[0]).rglob("*"))
    own = {target / file for file in pack_files}
    inside = [path for path in found if path.suffix in POLICY_FILES and path not in own]
    return inside + _policies_in(target)


def _policies_in(folder: Path) -> list[Path]:
    """Return the folder's own files of policies; others, such as accounts.yml, are none."""
    found = sorted(path for path in folder.glob("*") if path.suffix in POLICY_FILES)
    return [path for path in found if path.is_file() and POLICIES.search(path.read_bytes())]


def _among(target: Path, others: Sequence[Path]) -> str:
    names = listed([path.relative_to(target).as_posix() for path in others], 3)
    return f"{counted(len(others), 'other file')} of policies would be run with it ({names})"


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
