# Copyright The c7n-keyrot Authors.
# SPDX-License-Identifier: Apache-2.0
"""The steps of deploy/runner.yml: which are run, in which order, and what a failure of each does.

The commands are the template's own, in bash; the programs are stand-ins that fail when told to.
tests/end_to_end/runner_test.py runs them with the real programs.
"""

from __future__ import annotations

import gzip
import json
import os
import re
import subprocess
from pathlib import Path

import pytest
import yaml
from cloudformation import runner
from codebuild import Build, build, executable

from c7n_keyrot.core import outcomes
from embedded_aws import HUB

BUCKET = f"c7n-keyrot-runner-{HUB}-us-east-1"
# Each notes its command line, and fails if a line of the file `faults` is in it: "code words".
STAND_IN = """
echo "${0##*/} $*" >> "$STAND_INS/log"
while read -r code words; do
  case "$*" in *"$words"*) echo "it fails"; exit "$code";; esac
done < "$STAND_INS/faults"
"""
PROGRAMS = {
    "aws": """
case "$*" in
  *"/config/ config") mkdir config && touch config/c7n_keyrot-1-py3-none-any.whl;;
  *"/run/ out/run") mkdir -p out/run && cp -R "$STAND_INS/run/." out/run;;
  "codebuild start-build"*) echo c7n-keyrot-runner-mailer:4a5b;;
  "codebuild batch-get-builds"*)
    head -n 1 "$STAND_INS/statuses"; sed -i 1d "$STAND_INS/statuses";;
  *"/mailer/"*) cp "$STAND_INS/mailer-log" out/mailer.txt;;
  "sns publish"*) cp out/summary.txt "$STAND_INS/message"; echo "$6" > "$STAND_INS/subject";;
  *" out s3://"*) cp -R out "$STAND_INS/uploaded";;
esac
""",
    "sleep": "",
    "python3": """
case "$*" in "-m venv"*) mkdir -p venv/bin && cp "$0" venv/bin/python;; esac
""",
    "c7n-keyrot": """
case "$*" in mailer*) cat "$STAND_INS/mailer-log";; esac
""",
}
# What is noted, by what it is called here.
STEPS = {
    "fetch": r"aws s3 cp .* config$",
    "venv": r"python3 -m venv venv",
    "pins": r"python -m pip .*--require-hashes --only-binary :all: -r config/requirements\.txt",
    "wheel": r"python -m pip .*--no-index --no-deps config/c7n_keyrot-1-py3-none-any\.whl",
    "look": r"c7n-keyrot org run --dryrun ",
    "plan": r"c7n-keyrot plan out/look --policies config/.*--max-keys (0|50) --max-percent 10\b",
    "run": rf"c7n-keyrot org run -c config/accounts\.yml -s s3://{BUCKET}/runs/.*/run\?region=",
    "mail": r"aws codebuild start-build --project-name c7n-keyrot-runner-mailer ",
    "wait": r"sleep 10$",
    "ask": r"aws codebuild batch-get-builds --ids c7n-keyrot-runner-mailer:4a5b ",
    "log": rf"aws s3 cp --quiet s3://{BUCKET}/mailer/(4a5b)?\.txt out/mailer\.txt$",
    "outputs": rf"aws s3 cp .*s3://{BUCKET}/runs/.*/run/ out/run$",
    "html": r"c7n-keyrot report .*--format html -o out/report\.html",
    "json": r"c7n-keyrot report .*--format json -o out/report\.json",
    "doctor": r"c7n-keyrot doctor .*--output-dir out/(look|run)$",
    "upload": rf"aws s3 cp .*--exclude run/\* out s3://{BUCKET}/runs/.*/$",
    "latest": rf"aws s3 cp .* out s3://{BUCKET}/latest/$",
    "message": rf"aws sns publish --topic-arn arn:aws:sns:us-east-1:{HUB}:c7n-keyrot-runner ",
}
INSTALL = ["fetch", "venv", "pins", "wheel"]
LOOK = [*INSTALL, "look", "plan"]
END = ["html", "json", "doctor", "upload", "latest"]
MAIL = ["mail", "wait", "ask", "log"]
ACT = [*LOOK, "run", *MAIL, "outputs", *END]


class Runner:
    """A project whose programs are stand-ins."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        for name, more in PROGRAMS.items():
            executable(folder / "bin" / name, STAND_IN + more)
        (folder / "run").mkdir()
        for name in ("faults", "log", "mailer-log"):
            (folder / name).touch()
        self.mailer_s_build()

    def build(
        self, mode: str, *faults: str, changed: dict[str, str] | None = None, **parameters: str
    ) -> Build:
        """Run a build; `changed` has what it was started with in place of the project's values."""
        (self.folder / "faults").write_text("".join(f"{fault}\n" for fault in faults), "utf-8")
        env = {
            "STAND_INS": str(self.folder),
            "PATH": f"{self.folder / 'bin'}{os.pathsep}/usr/bin{os.pathsep}/bin",
            "AWS_DEFAULT_REGION": "us-east-1",
        }
        project = runner(HUB, Mode=mode, **parameters)["Project"]
        return build(project, self.folder / "build", env | (changed or {}))

    def mailer_s_build(self, *statuses: str) -> None:
        """What CodeBuild says of it, each time that it is asked."""
        text = "".join(f"{status}\n" for status in statuses or ["SUCCEEDED"])
        (self.folder / "statuses").write_text(text, "utf-8")

    @property
    def log(self) -> list[str]:
        return (self.folder / "log").read_text("utf-8").splitlines()

    @property
    def steps(self) -> list[str]:
        found = []
        for line in self.log:
            (step,) = [name for name, how in STEPS.items() if re.match(how, line)]
            found.append(step)
        return found

    def read(self, name: str) -> str:
        path = self.folder / name
        return path.read_text("utf-8") if path.exists() else ""


@pytest.fixture
def project(tmp_path: Path) -> Runner:
    return Runner(tmp_path)


@pytest.mark.parametrize(
    ("mode", "steps", "file", "results"),
    [
        ("look", [*LOOK, *END], "policies/second-access-key.yml", "out/look"),
        ("tell", ACT, "examples/notify-only.yml", "out/run"),
        ("act", ACT, "policies/second-access-key.yml", "out/run"),
    ],
)
def test_a_run_without_a_failure(
    project: Runner, mode: str, steps: list[str], file: str, results: str
) -> None:
    done = project.build(mode)
    assert done.green, done.text
    assert project.steps == steps
    for line in project.log:
        if " org run " in line:
            assert line.endswith(f" -u config/{file}")
        if " doctor " in line:
            assert f" --policies config/{file} " in line
            assert line.endswith(f" --output-dir {results}")
        if " report " in line:
            assert f" report {results} --accounts config/accounts.yml " in line
    assert project.read("message") == ""
    assert f"c7n-keyrot, {mode}: keys disabled: 0, steps failed: 0." in done.text


def test_the_limit_is_the_stack_s(project: Runner) -> None:
    project.build("look", MaxKeys="7", MaxPercent="3")
    (plan,) = [line for line in project.log if " plan " in line]
    assert plan.endswith(
        "plan out/look --policies config/policies/second-access-key.yml "
        "--accounts config/accounts.yml --max-keys 7 --max-percent 3"
    )


@pytest.mark.parametrize("step", ["config", "-m venv", "--require-hashes", "--no-index"])
def test_what_cannot_be_installed_is_not_run(project: Runner, step: str) -> None:
    """Neither is anything reported: the rule on the build's end does that."""
    done = project.build("act", f"1 {step}")
    assert list(done.failed) == ["install"]
    assert set(project.steps) <= set(INSTALL)
    assert step in project.log[-1]


# What fails, with its exit code; what the message says of it.
FAULTS = {
    "1 org run --dryrun": "the dry run, in some account (exit code 1)",
    "2 org run -c": "the run, in some account (exit code 2)",
    "1 /mailer/": "no log of c7n-mailer, so whether notices were sent isn't known (exit code 1)",
    "1 /run/ out/run": "fetching the outputs of the run (exit code 1)",
    "1 --format html": "the report as html (exit code 1)",
    "1 --format json": "the report as json (exit code 1)",
    "1 doctor": "doctor; see doctor.txt (exit code 1)",
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_step_that_fails_stops_no_other_and_makes_the_build_red(
    project: Runner, fault: str
) -> None:
    done = project.build("act", fault)
    assert list(done.failed) == ["post_build"]
    assert project.steps == [*ACT, "message"]
    assert f"FAILED: {FAULTS[fault]}\n" in project.read("message")
    assert FAULTS[fault] in project.read("uploaded/failed.txt")
    assert project.read("subject").endswith(": keys disabled: 0, steps failed: 1\n")


# Of plan: failed, wrong arguments, not known, above a limit, more than notices; and killed.
CODES = [1, 2, 3, 4, 6, 137]


@pytest.mark.parametrize("code", CODES)
def test_a_plan_that_is_not_kept_stops_an_acting_run_before_it_begins(
    project: Runner, code: int
) -> None:
    done = project.build("act", f"{code} plan")
    assert list(done.failed) == ["build", "post_build"]
    assert project.steps == [*LOOK, *END, "message"]
    assert f"FAILED: the plan; see plan.txt (exit code {code})" in project.read("message")
    assert project.read("uploaded/plan.txt") == "it fails\n"


@pytest.mark.parametrize(("mode", "steps"), [("look", [*LOOK, *END]), ("tell", ACT)])
def test_the_other_modes_disable_nothing_and_go_on(
    project: Runner, mode: str, steps: list[str]
) -> None:
    done = project.build(mode, "3 plan")
    assert not done.green
    assert project.steps == [*steps, "message"]


@pytest.mark.parametrize("code", [code for code in CODES if code != 3])
def test_telling_is_not_begun_unless_it_is_known_to_be_notices_only(
    project: Runner, code: int
) -> None:
    """Such as TellPolicies=policies/second-access-key.yml, and whatever happens to the plan."""
    assert not project.build("tell", f"{code} plan").green
    assert project.steps == [*LOOK, *END, "message"]
    (plan,) = [line for line in project.log if " plan " in line]
    assert " --policies config/examples/notify-only.yml " in plan
    assert plan.endswith(" --max-keys 0 --max-percent 10 --only-notices")
    assert f"FAILED: the plan; see plan.txt (exit code {code})" in project.read("message")


@pytest.mark.parametrize("mode", ["tell", "act"])
def test_a_full_disk_opens_no_gate(project: Runner, mode: str) -> None:
    """Neither what plan says nor that it failed can be written down."""
    executable(project.folder / "bin" / "tee", "cat > /dev/null; exit 1")
    assert not project.build(mode, "1 plan").green
    assert "run" not in project.steps


@pytest.mark.parametrize(
    "changed",
    [
        *(
            {"MODE": mode}
            for mode in ("", "Look", "ACT", " look", "act ", "act\n", "look|act", "*")
        ),
        *({"MODE": "tell", "MAX_PERCENT": text} for text in ("", " ", "ten", "-1", "1e3", "5%")),
        *({"MODE": "act", "MAX_KEYS": text} for text in ("", "-1", "50 ", "1.5", "all", "5\n5")),
    ],
)
def test_a_build_that_is_started_with_something_odd_makes_no_call(
    project: Runner, changed: dict[str, str]
) -> None:
    done = project.build("act", changed=changed)
    assert list(done.failed) == ["install"]
    assert project.log == []
    assert "MODE must be look, tell or act" in done.text


def test_a_build_without_a_mode_makes_no_call(project: Runner) -> None:
    first = runner(HUB)["Project"]["Source"]["BuildSpec"].split("- '[[")[1].split("'\n")[0]
    env = {"MAX_KEYS": "1", "MAX_PERCENT": "1"}
    ended = subprocess.run(["/bin/bash", "-c", f"[[{first}"], env=env, check=False)
    assert ended.returncode == 1


def test_several_failures_are_all_told(project: Runner) -> None:
    done = project.build("act", "1 org run --dryrun", "1 /mailer/", "1 doctor")
    assert not done.green
    assert project.read("message").count("FAILED: ") == 3


@pytest.mark.parametrize("fault", ["1 /latest/", "1 sns publish"])
def test_what_fails_behind_the_summary_makes_the_build_red_as_well(
    project: Runner, fault: str
) -> None:
    assert not project.build("act", fault, "1 /mailer/").green


MAILER = "2026-11-26 06:00:01,123 - c7n_mailer - %s - "


@pytest.mark.parametrize(
    ("log", "green"),
    [
        (MAILER % "INFO" + "Sending account:a policy:error email to ['ana@corp.test']\n", True),
        (MAILER % "WARNING" + "Unknown sqs_message or sns format\n", True),
        (MAILER % "ERROR" + "policy:p account:a sending to:[('ana@corp.test',)] \n", False),
        (MAILER % "ERROR" + "policy:p account:a sent to nobody for 1 of 2 users (bo): no\n", False),
        (MAILER % "ERROR" + "Invalid template reference c7n_keyrot-none.j2\n", False),
    ],
)
def test_a_mail_that_was_not_sent_though_the_mailer_says_nothing(
    project: Runner, log: str, green: bool
) -> None:
    """c7n-mailer only logs it."""
    (project.folder / "mailer-log").write_text(log, "utf-8")
    done = project.build("tell")
    assert done.green is green
    assert ("FAILED: a notice wasn't sent; see mailer.txt" in project.read("message")) is not green
    assert project.read("uploaded/mailer.txt") == log


@pytest.mark.parametrize(
    ("statuses", "said"),
    [
        (["IN_PROGRESS", "IN_PROGRESS", "SUCCEEDED"], ""),
        (["IN_PROGRESS", "FAILED"], "FAILED"),
        (["STOPPED"], "STOPPED"),
        (["TIMED_OUT"], "TIMED_OUT"),
        (["None"], "None"),
    ],
)
def test_the_mailer_s_build_is_waited_for(project: Runner, statuses: list[str], said: str) -> None:
    project.mailer_s_build(*statuses)
    done = project.build("act")
    assert done.green is not said
    assert project.steps.count("ask") == len(statuses)
    expected = f"c7n-mailer; see mailer.txt (its build c7n-keyrot-runner-mailer:4a5b: {said})"
    assert (f"FAILED: {expected}\n" in project.read("message")) is bool(said)


@pytest.mark.parametrize(
    ("fault", "status", "steps"),
    [
        ("254 start-build", "not started", ["mail", "log"]),
        ("254 batch-get-builds", "not known", MAIL),
    ],
)
def test_a_mailer_s_build_that_cannot_be_started_or_asked_for(
    project: Runner, fault: str, status: str, steps: list[str]
) -> None:
    done = project.build("act", fault, "1 /mailer/.txt")
    assert list(done.failed) == ["post_build"]
    assert [step for step in project.steps if step in MAIL] == steps
    assert re.search(rf"FAILED: c7n-mailer; .*: {status}\)\n", project.read("message"))


def mailer_s(project: Runner, *faults: str) -> Build:
    """Run the mailer's own project."""
    (project.folder / "faults").write_text("".join(f"{fault}\n" for fault in faults), "utf-8")
    env = {
        "STAND_INS": str(project.folder),
        "PATH": f"{project.folder / 'bin'}{os.pathsep}/usr/bin{os.pathsep}/bin",
        "CODEBUILD_BUILD_ID": "c7n-keyrot-runner-mailer:4a5b",
    }
    return build(runner(HUB)["MailerProject"], project.folder / "mailer-build", env)


@pytest.mark.parametrize("code", [0, 1])
def test_the_mailer_s_own_build(project: Runner, code: int) -> None:
    """It installs by the same commands; its log is uploaded though it failed."""
    secret = " mailer.yml: {'smtp_password': 'hunter2'}\n"
    (project.folder / "mailer-log").write_text(f"{MAILER % 'ERROR'}no\n{secret}", "utf-8")
    done = mailer_s(project, *([f"{code} mailer --run"] if code else []))
    assert done.green is not code
    fetch, *install, mail, upload = project.log
    assert fetch.startswith("aws s3 cp --quiet --recursive --exclude * --include mailer.yml ")
    both = [
        yaml.safe_load(runner(HUB)[name]["Source"]["BuildSpec"])["phases"]["install"]["commands"]
        for name in ("Project", "MailerProject")
    ]
    assert both[0][-3:] == both[1][-3:]
    assert len(install) == 3
    assert mail == "c7n-keyrot mailer --run -c config/mailer.yml"
    assert upload == f"aws s3 cp --quiet mailer.txt s3://{BUCKET}/mailer/4a5b.txt"
    kept = (project.folder / "mailer-build" / "mailer.txt").read_text("utf-8") + done.text
    assert ("it fails" if code else MAILER % "ERROR") in kept
    assert "hunter2" not in kept


@pytest.fixture
def acted(project: Runner) -> Runner:
    """The run's outputs in the bucket: of a plain and of a compressed file."""

    def line(user: str, outcome: str, account_id: str) -> str:
        made = {
            "time": "2026-05-01T10:00:00+00:00",
            "account_id": account_id,
            "policy": "p",
            "run": "r",
            "action": "disable-access-key",
            "user": user,
            "slot": 2,
            "access_key_id": f"AKIA{user.upper()}",
            "outcome": outcome,
            "reason": 'says "outcome": "disabled" itself' if outcome != "disabled" else "",
        }
        assert list(outcomes.Outcome.__dataclass_fields__)[:10] == list(made)
        return json.dumps(made) + "\n"

    folder = project.folder / "run" / "web" / "us-east-1" / "p" / "2026"
    folder.mkdir(parents=True)
    text = line("ana", "disabled", "222222222222") + line("bo", "denied", "222222222222")
    (folder / "keyrot-outcomes-1.jsonl.gz").write_bytes(gzip.compress(text.encode()))
    (folder / "keyrot-outcomes.jsonl").write_text(line("cy", "disabled", "111111111111"))
    (folder / "keyrot-intents.jsonl").write_text(line("dan", "intended", "111111111111"))
    return project


def test_the_keys_that_were_disabled_are_told(acted: Runner) -> None:
    done = acted.build("act")
    assert done.green, done.text
    assert acted.steps == [*ACT, "message"]
    first, second, *keys = acted.read("message").splitlines()
    assert first == "c7n-keyrot, act: keys disabled: 2, steps failed: 0."
    assert re.fullmatch(rf"Outputs: s3://{BUCKET}/runs/\d{{4}}-\d\d-\d\dT\d\d-\d\d-\d\dZ/", second)
    assert keys == [
        "denied 222222222222 bo AKIABO",
        "disabled 111111111111 cy AKIACY",
        "disabled 222222222222 ana AKIAANA",
    ]
    assert acted.read("subject") == "c7n-keyrot act: keys disabled: 2, steps failed: 0\n"


def test_the_runs_own_outputs_are_not_uploaded_again(project: Runner) -> None:
    project.build("act")
    (upload,) = [line for line in project.log if re.match(STEPS["upload"], line)]
    assert " --exclude run/* " in upload
