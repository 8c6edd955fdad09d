# Copyright The c7n-keyrot Authors.
# SPDX-License-Identifier: Apache-2.0
"""`make evidence-check`: other people's programs read what `report` writes.

    python tests/evidence_check/run.py ENVIRONMENTS

ENVIRONMENTS has an environment for each program, as far as it could be installed. They need other
versions of what Custodian pins, so they run in processes of their own.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "unit"))

from output_tree import NOW, A, B, C, Run, accounts_yml

from c7n_keyrot.core.records import Why
from c7n_keyrot.core.rotation import DAY, Verdict

HOSTILE = '=cmd|"/c calc"!A1 <script>\u202e\x1b[31m'
# By format: the program, and what reads the file in argv[1] by it.
READERS = {
    "ocsf": (
        "py-ocsf-models",
        "import sys\n"
        "from py_ocsf_models.events.findings.compliance_finding import ComplianceFinding\n"
        "lines = open(sys.argv[1], encoding='utf-8').readlines()\n"
        "for line in lines: ComplianceFinding.model_validate_json(line)\n"
        "print(len(lines), 'findings')\n",
    ),
    "oscal": (
        "compliance-trestle",
        "import pathlib, sys\n"
        "from trestle.oscal.assessment_results import AssessmentResults\n"
        "(result,) = AssessmentResults.oscal_read(pathlib.Path(sys.argv[1])).results\n"
        "print(len(result.findings), 'findings,', len(result.observations), 'observations')\n",
    ),
}


def write_tree(folder: Path) -> list[str]:
    """Leave what runs leave, with a key in every state; return the arguments of `report`."""
    out = folder / "out"
    Run(time=NOW - DAY).match("ana", 99).match("eve", 119).write(out, "payments")
    run = Run(counts={"fresh": 12, "stale": 5, "unknown": 1})
    run.match("ana", 100, {"OwnerContact": "ana@example.com"}).outcome("ana", reason=HOSTILE)
    run.match("eve", 120, {"OwnerContact": HOSTILE}, description=HOSTILE).outcome("eve", "denied")
    run.leave("sam", last_rotated=(NOW - 200 * DAY).isoformat()).leave("twins", why=Why.UNCLEAR)
    run.leave("odd", Verdict.UNKNOWN, Why.UNKNOWN).leave(HOSTILE, why=Why.GONE)
    run.outcome("old", time=(NOW - 30 * DAY).isoformat()).write(out, "payments")
    soon = Run(kind="expiring", account_id=B, counts={"fresh": 10, "expiring": 2})
    soon.match("bob", 83).write(out, "web")
    accounts = accounts_yml(folder, {"payments": A, HOSTILE: B, "sandbox": C})
    return [str(out), "--accounts", str(accounts)]


def main(environments: Path) -> int:
    refused = 0
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        args = write_tree(folder)
        for form, (program, reader) in READERS.items():
            python = environments / program / "bin" / "python"
            if not (environments / program / "installed").exists():
                print(f"{form}: not checked: {program} can't be installed here")
                continue
            file = folder / f"{form}.json"
            report = [sys.executable, "-m", "c7n_keyrot", "report", *args]
            subprocess.run([*report, "--format", form, "-o", str(file)], check=True)
            done = subprocess.run(
                [python, "-c", reader, file], capture_output=True, text=True, timeout=300
            )
            refused += done.returncode != 0
            words = done.stdout.strip() if not done.returncode else done.stderr.strip()[-2000:]
            print(f"{form}: {'refused' if done.returncode else 'read'} by {program}: {words}")
    return 1 if refused else 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
