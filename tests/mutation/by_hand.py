# Copyright The c7n-keyrot Authors.
# SPDX-License-Identifier: Apache-2.0
"""Do the nearest unit tests notice if a guard in a dangerous place is gone? (``make mutants``)

Each mutant is one change of the text of one module, made in a copy of the package that stands in
front of the installed one. Prints which were killed, and ends with 1 if one survived.

    .venv/bin/python tests/mutation/by_hand.py [WORD]      (only those whose name has the word)
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
KILLED, SURVIVED = 1, 0  # as pytest ends


@dataclass(frozen=True)
class Mutant:
    """A change that must not go unnoticed.

    :ivar file: the module, within the package.
    :ivar old: a text that is there exactly once.
    :ivar tests: of ``tests/unit``, as pytest names them.
    """

    name: str
    file: str
    old: str
    new: str
    tests: tuple[str, ...]


CACHE = "run_test.py::test_the_cache_neither_keeps_nor_gives_users"
LOCKED = "run_test.py::test_a_cache_that_is_locked_ends_no_run"
DRY = "dry_run_test.py::test_dry_run_changes_and_sends_nothing"
LOCKS = "dry_run_test.py::test_each_lock_holds_by_itself"
CALLS = "dry_run_test.py::test_only_calls_that_read_are_made_without_a_permit"
DELETED = "actions_test.py::test_a_key_that_is_not_inactive_when_it_would_be_deleted_is_left"
LAST = "intents_test.py::test_an_outcome_that_has_no_file_stands_with_the_intents"
BUCKET = "intents_test.py::test_a_bucket_gets_no_intents_where_no_key_is_touched"
LIVE = "run_test.py::test_live_keys_come_out_of_no_cache"
AGAIN = "intents_test.py::test_a_second_run_of_the_same_policy_keeps_its_own_intents"
UPLOAD = "run_test.py::test_an_upload_that_fails_is_told_once"

PATCHES, LIFECYCLE = "custodian/patches.py", "custodian/lifecycle.py"
PERMIT, RUN, ACTIONS = "aws/permit.py", "custodian/run.py", "custodian/elements/actions.py"

MUTANTS = (
    Mutant(
        "the cache gives users",
        PATCHES,
        "return None if self._is_of_users(key) else self._cache.get(key)",
        "return self._cache.get(key)",
        (CACHE,),
    ),
    Mutant(
        "the cache keeps users", PATCHES, "if not self._is_of_users(key):", "if True:", (CACHE,)
    ),
    Mutant(
        "only a key with a source is one of users",
        PATCHES,
        'key.get("source", self._source)',
        'key.get("source")',
        (CACHE,),
    ),
    Mutant(
        "a locked cache ends the run", PATCHES, "self._cache = NullCache(None)", "raise", (LOCKED,)
    ),
    Mutant(
        "a dry run gets a permit",
        PERMIT,
        'if getattr(options, "dryrun", False):',
        "if False:",
        (LOCKS,),
    ),
    Mutant(
        "anything is a permit",
        PERMIT,
        "if not isinstance(permit, Permit):",
        "if False:",
        (CALLS,),
    ),
    Mutant(
        "no call needs a permit",
        PERMIT,
        "if not READS.match(name) and name not in HARMLESS:",
        "if False:",
        (CALLS,),
    ),
    Mutant(
        "a run asks for a permit in a dry run",
        RUN,
        "return None if options.dryrun else Permit(options)",
        "return Permit(options)",
        (LOCKS,),
    ),
    Mutant("actions begin in a dry run", LIFECYCLE, "if permit is None:", "if False:", (LOCKS,)),
    Mutant(
        "a dry run ends as a real one",
        LIFECYCLE,
        "if is_dry or not selected:",
        "if not selected:",
        ("run_test.py::test_who_cannot_be_read_stays_without_a_key_and_fails_the_run",),
    ),
    Mutant(
        "a key action acts without a permit",
        ACTIONS,
        "return [] if permit is None else self._act_on(resources, permit)",
        "return self._act_on(resources, permit)",
        (LOCKS,),
    ),
    Mutant(
        "what isn't active is deleted",
        ACTIONS,
        "if now != self.status:",
        'if now == "Active":',
        (DELETED,),
    ),
    Mutant(
        "whatever is there is deleted", ACTIONS, "if now != self.status:", "if False:", (DELETED,)
    ),
    Mutant(
        "an outcome without a file is lost",
        "custodian/journal.py",
        "outcomes.append(output.path_of(self._manager.ctx, outcomes.INTENTS_FILE), line)",
        "pass",
        (LAST,),
    ),
    Mutant(
        "an empty file of intents is copied to the bucket",
        "custodian/intents.py",
        "run.journal.prepare(lines) and lines and output",
        "run.journal.prepare(lines) and output",
        (BUCKET,),
    ),
    Mutant(
        "live keys are taken out of the cache",
        LIFECYCLE,
        "ours = {RECORDS, MATCHED_KEYS, LIVE_KEYS}",
        "ours = {RECORDS, MATCHED_KEYS}",
        (LIVE,),
    ),
    Mutant(
        "a second run begins with what the first one knew",
        LIFECYCLE,
        "if run.manager.ctx.execution_id != run.execution_id:",
        "if False:",
        (AGAIN,),
    ),
    Mutant(
        "the upload is wrapped twice",
        PATCHES,
        'if "upload" in vars(output):',
        "if False:",
        (UPLOAD,),
    ),
)


def tested(package: Path, tests: set[str]) -> int:
    """Run tests of the package in a folder; return how pytest ended, and stop if it didn't test."""
    environment = {
        **os.environ,
        "PYTHONPATH": str(package.parent),
        "PYTHONDONTWRITEBYTECODE": "1",  # two changes of one second and size would be one
    }
    command = [str(Path(sys.executable).with_name("pytest")), "-q", "-x", "-p", "no:cacheprovider"]
    ended = subprocess.run(
        [*command, *(f"tests/unit/{test}" for test in sorted(tests))],
        env=environment,
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    if ended.returncode not in (KILLED, SURVIVED):
        print(ended.stdout, ended.stderr, sep="\n", file=sys.stderr)
        sys.exit(f"pytest couldn't run {sorted(tests)}: see above, and correct MUTANTS")
    return ended.returncode


def check_place(package: Path) -> None:
    """Stop if the copy isn't what a test would import."""
    shown = subprocess.run(
        [sys.executable, "-c", "import c7n_keyrot; print(c7n_keyrot.__file__)"],
        env={**os.environ, "PYTHONPATH": str(package.parent)},
        cwd=ROOT / "tests",
        capture_output=True,
        text=True,
        check=True,
    )
    if Path(shown.stdout.strip()).parent != package:
        sys.exit(
            f"the tests would import {shown.stdout.strip()}, not the copy: run this with the "
            "Python of `make test`, .venv/bin/python"
        )


def mutated(text: str, mutant: Mutant) -> str:
    """Return the module's text with the change; stop if there is no one place for it."""
    if text.count(mutant.old) != 1:
        sys.exit(
            f"mutant {mutant.name!r}: {mutant.old!r} stands {text.count(mutant.old)} times in "
            f"c7n_keyrot/{mutant.file}, not once: the code has changed, so look for the guard in "
            "it, and correct the mutant in tests/mutation/by_hand.py"
        )
    return text.replace(mutant.old, mutant.new)


def main(word: str = "") -> int:
    chosen = [one for one in MUTANTS if word in one.name]
    changed = [mutated((ROOT / "c7n_keyrot" / one.file).read_text(), one) for one in chosen]
    survivors = 0
    with tempfile.TemporaryDirectory() as folder:
        package = Path(folder).resolve() / "c7n_keyrot"
        shutil.copytree(ROOT / "c7n_keyrot", package, ignore=shutil.ignore_patterns("__pycache__"))
        check_place(package)
        if tested(package, {test for one in chosen for test in one.tests}) != SURVIVED:
            sys.exit("the tests fail without a mutant: run them with `make unit`, and correct that")
        for one, text in zip(chosen, changed, strict=True):
            module = package / one.file
            original = module.read_text()
            module.write_text(text)
            ended = tested(package, {*one.tests})
            module.write_text(original)
            survivors += ended == SURVIVED
            print("survived" if ended == SURVIVED else "killed  ", one.name, flush=True)
    print(f"{len(chosen)} mutants, {survivors} survived")
    return int(bool(survivors or not chosen))


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
