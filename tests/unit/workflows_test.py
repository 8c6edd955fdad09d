# Copyright The c7n-keyrot Authors.
# SPDX-License-Identifier: Apache-2.0
"""The workflows on GitHub say what this repository says, and may do no more than they need."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import pythons
import yaml

pytestmark = pytest.mark.repository

ROOT = Path(__file__).parents[2]
GITHUB = ROOT / ".github"
FILES = sorted((GITHUB / "workflows").glob("*.yml"))
TEXTS = {path.name: path.read_text("utf-8") for path in FILES}
WORKFLOWS = {name: yaml.safe_load(text) for name, text in TEXTS.items()}
MAKEFILE = (ROOT / "Makefile").read_text("utf-8")
READ = {"contents": "read"}
# The one job that may do more than read.
PUBLISH = ("release.yml", "publish")


class Job(NamedTuple):
    file: str
    name: str
    data: dict[str, Any]

    @property
    def steps(self) -> list[dict[str, Any]]:
        return self.data.get("steps", [])


JOBS = [
    Job(file, name, data)
    for file, workflow in WORKFLOWS.items()
    for name, data in workflow["jobs"].items()
]
each_workflow = pytest.mark.parametrize("name", WORKFLOWS)
each_job = pytest.mark.parametrize("job", JOBS, ids=lambda job: f"{job.file}-{job.name}")


def triggers(workflow: dict[Any, Any]) -> dict[str, Any]:
    return workflow[True]  # YAML 1.1 reads the word `on` as true


def used(text: str) -> Iterator[str]:
    """What follows `uses:` on each line, with its comment."""
    yield from re.findall(r"^\s*(?:- )?uses: (.+)$", text, re.MULTILINE)


@each_workflow
def test_each_action_is_named_by_its_commit_with_the_version_beside_it(name: str) -> None:
    for action in used(TEXTS[name]):
        if action.startswith("./"):
            assert (ROOT / action.split()[0]).is_file()
        else:
            assert re.fullmatch(r"[\w-]+/[\w-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+", action)


def test_an_action_has_one_version_in_all_workflows() -> None:
    versions: dict[str, set[str]] = {}
    for text in TEXTS.values():
        for action in used(text):
            versions.setdefault(action.split("@")[0], set()).add(action)
    assert {action: len(found) for action, found in versions.items() if len(found) > 1} == {}


@each_workflow
def test_a_workflow_has_no_permission_and_runs_once_for_a_ref(name: str) -> None:
    assert WORKFLOWS[name]["permissions"] == {}
    assert WORKFLOWS[name]["concurrency"]["group"]
    assert "pull_request_target" not in triggers(WORKFLOWS[name])


@each_job
def test_a_job_may_only_read_except_for_the_one_that_publishes(job: Job) -> None:
    if (job.file, job.name) == PUBLISH:
        assert job.data["permissions"] == {"attestations": "write", "id-token": "write"}
    else:
        assert job.data["permissions"] == READ


def test_the_job_that_publishes_runs_no_code_of_this_repository() -> None:
    (job,) = (job for job in JOBS if (job.file, job.name) == PUBLISH)
    assert not [step for step in job.steps if "run" in step]
    assert not [step for step in job.steps if step["uses"].startswith(("actions/checkout", "./"))]
    assert job.data["environment"]["name"] == "pypi"
    assert "test" in job.data["needs"]


@each_job
def test_a_job_ends_in_time(job: Job) -> None:
    assert "uses" in job.data or 0 < job.data["timeout-minutes"] <= 60


@each_job
def test_a_checkout_leaves_no_credentials_behind(job: Job) -> None:
    for step in job.steps:
        if step.get("uses", "").startswith("actions/checkout"):
            assert step["with"]["persist-credentials"] is False


@each_job
def test_no_expression_becomes_part_of_a_command(job: Job) -> None:
    """Text from outside, such as the name of a branch, would be run."""
    assert not [step["run"] for step in job.steps if "${{" in step.get("run", "")]


@each_job
def test_make_has_what_is_made(job: Job) -> None:
    targets = set(re.findall(r"^([\w-]+):", MAKEFILE, re.MULTILINE))
    variables = set(re.findall(r"^(\w+) \?=", MAKEFILE, re.MULTILINE))
    for step in job.steps:
        command = step.get("run")
        if command is None:
            continue
        program, *words = command.split()
        assert program == "make"
        words = [word for word in words if word not in ("-o", "dist/built")]
        assert {word.split("=")[0] for word in words if "=" in word} <= variables
        assert {word for word in words if "=" not in word} <= targets


def test_each_promised_python_is_tested() -> None:
    job = WORKFLOWS["ci.yml"]["jobs"]["test"]
    (*tested, coming) = job["strategy"]["matrix"]["python"]
    assert tested == pythons.promised()
    # One that isn't promised yet may fail, and no other may.
    assert coming.endswith("-dev")
    assert job["continue-on-error"] == "${{ endsWith(matrix.python, '-dev') }}"


def test_the_tools_run_on_one_promised_python() -> None:
    found = [
        step["with"]["python-version"]
        for job in JOBS
        for step in job.steps
        if step.get("uses", "").startswith("actions/setup-python")
    ]
    (version,) = set(found) - {"${{ matrix.python }}"}
    assert version in pythons.promised()


def test_only_what_is_not_promised_may_fail() -> None:
    may = [job.name for job in JOBS if "continue-on-error" in job.data]
    assert may == ["test", "custodian-main"]
    assert not [job for job in JOBS for step in job.steps if "continue-on-error" in step]


def test_the_next_custodian_is_tried_weekly_as_a_warning() -> None:
    job = WORKFLOWS["ci.yml"]["jobs"]["custodian-main"]
    assert job["continue-on-error"] is True
    assert "'schedule'" in job["if"]
    # A release doesn't wait for it: the event of a tag is a push.
    assert "push" not in job["if"]
    done = subprocess.run(
        ["make", "-n", "-o", "dist/built", "custodian-main"],
        cwd=ROOT,
        env={"PATH": os.environ["PATH"]},  # without MAKEFLAGS
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    for name in ("c7n", "c7n-org", "c7n-mailer"):
        assert (
            f'"{name} @ git+https://github.com/cloud-custodian/cloud-custodian@main' in done.stdout
        )


def test_coverage_counts_branches_and_has_a_floor() -> None:
    project = (ROOT / "pyproject.toml").read_text("utf-8")
    assert "[tool.coverage.run]\nbranch = true\n" in project
    (floor,) = re.findall(r"^fail_under = (\d+)$", project, re.M)
    assert int(floor) >= 92


def test_each_tool_of_lint_has_an_exact_version() -> None:
    """A new ruff must not turn a commit red that was green."""
    lines = (ROOT / ".ci" / "tools.txt").read_text("utf-8").splitlines()
    pins = [line for line in lines if not line.startswith("#")]
    assert [pin for pin in pins if not re.fullmatch(r"[\w-]+==\d[\d.]*", pin)] == []
    extra = re.search(r"^dev = \[(.+)\]$", (ROOT / "pyproject.toml").read_text("utf-8"), re.M)
    tools = set(re.findall(r'"(.+?)"', extra[1]))
    assert {"ruff", "mypy", "zizmor"} <= tools
    assert tools <= {pin.split("==")[0] for pin in pins}


def test_what_is_tested_is_what_was_built_and_is_published() -> None:
    jobs = {(job.file, job.name): job for job in JOBS}
    sent = [
        (job.name, step["with"]["name"])
        for job in JOBS
        for step in job.steps
        if step.get("uses", "").startswith("actions/upload-artifact")
    ]
    assert sent == [("build", "dist")]
    tested = [("ci.yml", name) for name in ("test", "coverage", "audit")]
    for key in (*tested, PUBLISH):
        names = [
            step["with"]["name"]
            for step in jobs[key].steps
            if step.get("uses", "").startswith("actions/download-artifact")
        ]
        assert names == ["dist"]
    for key in tested:
        assert jobs[key].data["needs"] == "build"
        (command,) = (step["run"] for step in jobs[key].steps if "run" in step)
        assert command.startswith("make -o dist/built ")
        assert ("ALL=1" in command) is (key[1] == "test"), "each way to install, too"
    assert jobs["release.yml", "test"].data["uses"] == "./.github/workflows/ci.yml"


def test_the_wheel_that_is_there_is_tested_and_no_other_one(tmp_path: Path) -> None:
    """`make -o dist/built`, where there is nothing but a checkout and the wheel."""
    for name in ("Makefile", "setup.cfg", "pyproject.toml", ".ci/tools.txt", "dist/a.whl"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("" if "/" in name else (ROOT / name).read_text("utf-8"))
    done = subprocess.run(
        ["make", "-n", "-o", "dist/built", "test"],
        cwd=tmp_path,
        env={"PATH": os.environ["PATH"]},  # without MAKEFLAGS
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    assert "pip wheel" not in done.stdout
    assert " -c .ci/tools.txt " in done.stdout
    order = [done.stdout.index(part) for part in ("-m venv .venv", "dist/*.whl)[", "/pytest ")]
    assert order == sorted(order)


def test_it_runs_weekly_too_since_c7n_and_boto3_move() -> None:
    (schedule,) = triggers(WORKFLOWS["ci.yml"])["schedule"]
    minute, hour, day, month, weekday = schedule["cron"].split()
    assert (day, month) == ("*", "*")
    assert weekday.isdigit()
    assert minute.isdigit()
    assert hour.isdigit()


def test_a_release_is_a_tag() -> None:
    assert triggers(WORKFLOWS["release.yml"]) == {"push": {"tags": ["v*"]}}


def test_newer_versions_of_the_actions_are_proposed() -> None:
    updates = yaml.safe_load((GITHUB / "dependabot.yml").read_text("utf-8"))["updates"]
    assert {(update["package-ecosystem"], update["directory"]) for update in updates} == {
        ("github-actions", "/"),
        ("pip", "/.ci"),
    }
