# Copyright The c7n-keyrot Authors.
# SPDX-License-Identifier: Apache-2.0
"""The real `c7n-keyrot doctor`, on an AWS where one thing after the other is wrong."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
import yaml
from cloudformation import hub
from harness import Finished, c7n_org, custodian, keyrot, run, with_own_addresses

from c7n_keyrot.cli.doctor import organization
from c7n_keyrot.evidence.accounts import load
from embedded_aws import HUB, ORGANIZATION_ID, EmbeddedAws, Key
from embedded_aws.foreign import CUT_BEHIND_SECRETS, HTML_PAGE

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples"
PACK = "policies/second-access-key.yml"
STALE = "iam-user-second-access-key-stale"
QUEUE = f"arn:aws:sqs:us-east-1:{HUB}:c7n-keyrot"
PAYMENTS, WEB, SANDBOX = MEMBERS = ("111111111111", "222222222222", "333333333333")
# As init writes them, with addresses in place of the placeholders.
FILES = ["--policies", "policies", "--accounts", "accounts.yml", "--mailer", "mailer.yml"]
Doctor = Callable[..., Finished]


@pytest.fixture(scope="module")
def aws() -> Iterator[EmbeddedAws]:
    with EmbeddedAws() as embedded:
        yield embedded
        assert embedded.errors == []


@pytest.fixture
def here(tmp_path: Path) -> Path:
    """The folder that everything is run in, with the files."""
    with_own_addresses(ROOT / PACK, tmp_path / "policies")
    for name in ("accounts.yml", "mailer.yml"):
        with_own_addresses(EXAMPLES / name, tmp_path)
    return tmp_path


@pytest.fixture
def doctor(aws: EmbeddedAws, here: Path) -> Iterator[Doctor]:
    """doctor(flags, variable=value): where nothing is wrong yet."""
    policy = hub(HUB, ORGANIZATION_ID)["QueuePolicy"]["PolicyDocument"]
    aws.create_queue("c7n-keyrot", policy=policy)
    for account_id in MEMBERS:
        aws.account(account_id).add_role()
    aws.reset_calls()

    def look(*flags: str | Path, **env: str) -> Finished:
        return run(keyrot("doctor", *flags), {**aws.env(HUB, here), **env}, here)

    yield look
    aws.heal()
    for account_id in MEMBERS:
        for name in aws.account(account_id).users():
            aws.account(account_id).delete_user(name)


def add_stale(aws: EmbeddedAws, *account_ids: str) -> None:
    """A user with a stale second key, and a credential report that has it."""
    for account_id in account_ids:
        account = aws.account(account_id)
        account.add_user("ana", Key(10), Key(200), {"OwnerContact": "ana@corp.test"})
        account.generate_report()


def failed(done: Finished) -> list[str]:
    return [line for line in done.text.splitlines() if line.startswith("FAIL")]


def test_all_is_well_and_nothing_but_reading(
    doctor: Doctor, aws: EmbeddedAws, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EXEC_ALL", "1")  # here doctor starts the very programs
    done = doctor(*FILES)
    assert (done.code, failed(done)) == (0, []), done.text
    assert done.lines("ok", "plugin", "bin/custodian")
    assert done.lines("ok", "plugin in c7n-org", "worker")
    assert done.lines("ok", "credentials", HUB)
    assert done.lines("ok", "queue c7n-keyrot", HUB)
    assert done.lines("ok", "templates", "c7n_keyrot-disabling.html")
    assert done.lines("not checked", "c7n-mailer -t", "empty")
    (line,) = done.lines("ok", "permissions", *MEMBERS)
    assert "iam:GetCredentialReport, iam:GetUser, iam:ListAccessKeys" in line
    assert done.lines("not checked", *MEMBERS, "iam:UpdateAccessKey")
    names = {action.split(".")[1] for action in aws.calls}
    assert {re.split("(?<=[a-z])(?=[A-Z])", n)[0] for n in names - {"AssumeRole"}} <= {
        *("Get", "List", "Simulate"),
    }


def test_without_any_file(doctor: Doctor) -> None:
    done = doctor()
    assert (done.code, failed(done)) == (0, []), done.text
    assert len(done.lines("not checked")) >= 4


@pytest.mark.parametrize("flag", ["--policies", "--accounts", "--mailer", "--output-dir"])
def test_missing_file_is_one_line(doctor: Doctor, flag: str) -> None:
    """Not one more for each check that would have used it."""
    done = doctor(*FILES, flag, "absent")
    (line,) = failed(done)
    assert "absent" in line
    assert "fix: " in line
    assert not done.lines("no policies are known")
    assert not done.lines("no policy with")
    assert not done.lines("no policy that")


def test_placeholders_of_the_shipped_files(doctor: Doctor) -> None:
    files = ["--policies", ROOT / "policies", "--mailer", EXAMPLES / "mailer.yml"]
    done = doctor(*FILES, *files)
    assert done.code == 1
    assert len(failed(done)) == 2, done.text
    assert done.lines("FAIL", "security@example.com is a placeholder", "second-access-key.yml, l")
    assert done.lines("FAIL", "cloud-security@example.com is a placeholder", "mailer.yml, line")


def test_denied_permissions_and_a_missing_queue(
    doctor: Doctor, aws: EmbeddedAws, here: Path
) -> None:
    text = (here / PACK).read_text("utf-8")
    (here / PACK).write_text(text.replace("# usage: 7", "usage: 7"), "utf-8")
    aws.fail("cloudtrail.LookupEvents", "AccessDeniedException", account=SANDBOX)
    aws.fail("iam.GetUser", "AccessDenied", account=PAYMENTS)
    aws.fail("iam.ListAccountAliases", "AccessDenied", account=WEB)
    aws.fail("sqs.GetQueueUrl", "AWS.SimpleQueueService.NonExistentQueue")
    done = doctor(*FILES)
    assert done.code == 1
    assert len(failed(done)) == 4, done.text
    assert done.lines("FAIL", SANDBOX, "cloudtrail:LookupEvents", "with Usage=true")
    assert done.lines("FAIL", PAYMENTS, "iam:GetUser", "fix:")
    assert done.lines("FAIL", WEB, "iam:ListAccountAliases", "fix:")
    assert done.lines("FAIL", "queue c7n-keyrot", "create queue c7n-keyrot")


@pytest.mark.parametrize(
    ("call", "answer", "words"),
    [
        ("sts.AssumeRole", HTML_PAGE, ["role c7n-keyrot can't be used", "check the proxy"]),
        ("sts.AssumeRole", CUT_BEHIND_SECRETS, ["role c7n-keyrot can't be used"]),
        ("iam.GetUser", HTML_PAGE, ["iam:GetUser", "check the proxy"]),
        ("iam.GetCredentialReport", CUT_BEHIND_SECRETS, None),
    ],
)
def test_bad_answer_about_one_account_is_one_line_and_the_rest_is_as_always(
    doctor: Doctor, aws: EmbeddedAws, call: str, answer: Any, words: list[str] | None
) -> None:
    if words is None:  # no report to cut, so it is a page in the middle of an account's answers
        call, answer, words = "iam.ListAccountAliases", HTML_PAGE, ["iam:ListAccountAliases"]
    which = {"when": lambda params: WEB in str(params)} if call.startswith("sts") else {}
    aws.answer(call, answer, **(which or {"account": WEB}))
    done = doctor(*FILES)
    (line,) = failed(done)
    assert all(word in line for word in ["account web (222222222222)", "fix:", *words]), line
    assert done.lines("ok", "permissions of 2 accounts", PAYMENTS, SANDBOX)
    assert done.lines("permissions of the hub")
    assert not [secret for secret in aws.secrets if secret in done.text]
    assert "Traceback" not in done.text
    assert "<" not in done.text


def test_a_queue_of_another_account(doctor: Doctor, here: Path) -> None:
    """That there is one of this name in the hub doesn't count; and the mailer reads that one."""
    accounts = here / "accounts.yml"
    accounts.write_text(accounts.read_text("utf-8").replace(HUB, "999999999999"), "utf-8")
    done = doctor(*FILES)
    assert done.code == 1
    assert done.lines("FAIL", "queue c7n-keyrot", "none in account 999999999999"), done.text
    assert done.lines("FAIL", "mailer.yml", "queue_url")


def test_mistakes_in_the_files(doctor: Doctor, here: Path) -> None:
    edit(here / "accounts.yml", lambda data: data["accounts"][0].pop("regions"))
    edit(
        here / "accounts.yml",
        lambda data: data["accounts"][1].update(vars={"action": {"queue": "c7n-keyrot"}}),
    )
    policies = yaml.safe_load((here / PACK).read_text("utf-8"))
    policies["policies"][0]["actions"][0]["template"] = "c7n_keyrot-expring.html"
    (here / PACK).write_text(yaml.safe_dump(policies), "utf-8")
    policies["policies"][0]["filters"].append({"type": "stale-access-key", "days": -1})
    (here / "policies" / "wrong.yml").write_text(yaml.safe_dump(policies), "utf-8")
    edit(here / "mailer.yml", lambda data: data.update(region="eu-west-1"))
    done = doctor(*FILES)
    assert done.code == 1
    assert done.lines("FAIL", "regions of account payments", "us-east-1, us-west-2")
    assert done.lines("FAIL", "account web", "a name alone is the account's own queue")
    assert done.lines("FAIL", "template c7n_keyrot-expring.html", "empty")
    (line,) = done.lines("FAIL", "wrong.yml", "days")
    assert all(account_id in line for account_id in MEMBERS)
    assert done.lines("FAIL", "mailer.yml", "asks in eu-west-1", "is in us-east-1")
    assert len(failed(done)) == 5, done.text


def edit(file: Path, change: Callable[[Any], object]) -> None:
    data = yaml.safe_load(file.read_text("utf-8"))
    change(data)
    file.write_text(yaml.safe_dump(data), "utf-8")


# -- ways to run c7n-org that work, so that doctor must say ok


def _queue_in_the_policies(here: Path) -> None:
    edit(here / "accounts.yml", lambda data: data.pop("vars"))
    text = (here / PACK).read_text("utf-8")
    (here / PACK).write_text(text.replace("&queue c7n-keyrot", f"&queue {QUEUE}"), "utf-8")


def _queue_as_a_url(here: Path) -> None:
    url = f"https://sqs.us-east-1.amazonaws.com/{HUB}/c7n-keyrot"
    edit(here / "accounts.yml", lambda data: data["vars"]["action"].update(queue=url))


def _each(here: Path, **values: Any) -> None:
    def change(data: Any) -> None:
        for account in data["accounts"]:
            for key, value in values.items():
                account.pop(key, None)
                if value is not None:
                    account[key] = value

    edit(here / "accounts.yml", change)


def _conditions(here: Path) -> None:
    _each(here, regions=None)

    def change(data: Any) -> None:
        for policy in data["policies"]:
            policy["conditions"] = [{"region": "us-east-1"}]

    edit(here / PACK, change)


def _nested_name(here: Path) -> None:
    edit(here / "accounts.yml", lambda data: data["accounts"][1].update(name="Data/Analytics"))


def _chain(here: Path) -> None:
    def change(data: Any) -> None:
        for account in data["accounts"]:
            account["role"] = [account["role"]]

    edit(here / "accounts.yml", change)


def _short_role(here: Path) -> None:
    _each(here, role="c7n-keyrot")


def _profile(here: Path) -> None:
    def change(data: Any) -> None:
        account = data["accounts"][1]
        del account["role"]
        account["profile"] = "member"

    edit(here / "accounts.yml", change)


WAYS: dict[str, tuple[Callable[[Path], object], list[str], tuple[str, ...]]] = {
    "queue's ARN in the policies": (_queue_in_the_policies, [], MEMBERS),
    "queue's URL": (_queue_as_a_url, [], MEMBERS),
    "several regions and -r": (
        lambda here: _each(here, regions=["us-east-1", "eu-west-1"]),
        ["-r", "us-east-1"],
        MEMBERS,
    ),
    "conditions in place of regions": (_conditions, [], MEMBERS),
    "nested name": (_nested_name, [], MEMBERS),
    "chain of roles": (_chain, [], MEMBERS),
    "short role": (_short_role, [], MEMBERS),
    "profile": (_profile, [], MEMBERS),
    "-t": (lambda here: None, ["-t", "env:prod"], (PAYMENTS, WEB)),
    "-a": (lambda here: None, ["-a", "web,333333333333"], (WEB, SANDBOX)),
    "-p": (lambda here: None, ["-p", STALE], MEMBERS),
    "--not-accounts": (lambda here: None, ["--not-accounts", "web"], (PAYMENTS, SANDBOX)),
}


# Those whose lines doctor words in another way; the others are left to a release.
USUAL = ("queue's URL", "several regions and -r", "profile", "-a", "-p")
EACH_WAY = [pytest.param(way, marks=() if way in USUAL else pytest.mark.release) for way in WAYS]
# With these an account sends its notices itself, which the queue of deploy/hub.yml refuses.
MEMBERS_SEND = ("chain of roles", "profile")


@pytest.mark.parametrize("way", EACH_WAY)
def test_what_works_is_no_failure(doctor: Doctor, aws: EmbeddedAws, here: Path, way: str) -> None:
    """The real c7n-org does its work in each account once, and doctor says so."""
    change, flags, covered = WAYS[way]
    change(here)
    if way in MEMBERS_SEND:
        aws.create_queue("c7n-keyrot", organization=True)
    names = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN")
    member = aws.env(WEB, here, role="c7n-keyrot")
    profile = [f"{name.lower()} = {member[name]}" for name in names]
    (here / "config").write_text("\n".join(["[profile member]", *profile]), "utf-8")
    env = {"AWS_CONFIG_FILE": str(here / "config")}
    add_stale(aws, *MEMBERS)
    known = len(aws.messages("c7n-keyrot"))
    args = c7n_org("run", "-c", "accounts.yml", "-s", "out", "-u", PACK, *flags)
    ran = run(args, {**aws.env(HUB, here), **env}, here)
    assert ran.code == 0, ran.text
    off = [i for i in MEMBERS if aws.account(i).status("ana", 2) == "Inactive"]
    assert off == list(covered), ran.text
    assert len(aws.messages("c7n-keyrot")) - known == len(covered)
    done = doctor(*FILES, "--output-dir", "out", *flags, **env)
    assert failed(done) == [], done.text
    (line,) = done.lines("ok", "coverage of ", STALE)
    assert all((account_id in line) == (account_id in covered) for account_id in MEMBERS)
    assert bool(done.lines("not checked", "the account sends by itself")) is (way in MEMBERS_SEND)


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["-a", "wb"], "-a wb: accounts.yml has no such account"),
        (["-a", "w*"], "-a w*: accounts.yml has no such account"),
        (["-t", "env:none"], "leave none of accounts.yml"),
        (["-p", "stale"], "-p stale: no policy of this name"),
    ],
)
def test_choice_that_leaves_nothing(doctor: Doctor, flags: list[str], words: str) -> None:
    done = doctor(*FILES, *flags)
    assert failed(done)
    assert done.lines("FAIL", words), done.text
    assert not done.lines("FAIL", "coverage")


def test_name_that_leaves_the_folder_is_the_cause(
    doctor: Doctor, aws: EmbeddedAws, here: Path
) -> None:
    """c7n-org writes outside of -s then, and nothing finds the outcomes."""
    edit(here / "accounts.yml", lambda data: data["accounts"][1].update(name="../web"))
    add_stale(aws, WEB)
    (here / "runs").mkdir()
    args = c7n_org("run", "-c", "accounts.yml", "-s", "runs/out", "-u", PACK)
    assert run(args, aws.env(HUB, here), here).code == 0
    assert list((here / "runs" / "web").glob("*/*/keyrot-outcomes.jsonl"))
    done = doctor(*FILES, "--output-dir", "runs/out")
    assert done.lines("FAIL", WEB, "the name '../web' leaves the folder of -s", "fix: give"), (
        done.text
    )


def test_walk_through_makes_names_that_stay_in_the_folder(aws: EmbeddedAws, here: Path) -> None:
    """Its command that makes accounts.yml, on an organization with names such as people give."""
    page = (ROOT / "docs" / "organization.md").read_text("utf-8")
    command = re.search(r"(?ms)^ +(c7n-org aws-accounts .*?> accounts\.yml)$", page)
    assert command
    management = "444444444444"
    client = boto3.client(
        "organizations", region_name="us-east-1", endpoint_url=aws.url, **keys_of(aws, management)
    )
    client.create_organization()
    names = ["..", "../evil", "/etc", "Data/Analytics", "Team #1?", "{account_id}", "a: 'b' - c"]
    for name in names:
        client.create_account(AccountName=name, Email="a@corp.test")
    env = {"EXTERNAL_ID": "c7n-keyrot-2f6c1d", "MANAGEMENT": management}
    made = run(["/bin/sh", "-euc", command[1]], {**aws.env(management, here), **env}, here)
    assert made.code == 0, made.text
    accounts = load(here / "accounts.yml")
    assert len(accounts) == len(names)
    assert list(organization.entries(accounts, "aws")) == []
    assert all("/" not in account.name for account in accounts)
    assert {account.external_id for account in accounts} == {"c7n-keyrot-2f6c1d"}
    assert all(account.name.endswith(f"-{account.id}") for account in accounts)


def keys_of(aws: EmbeddedAws, account_id: str) -> dict[str, str]:
    given = aws.credentials(account_id)
    names = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")
    return {name.lower(): given[name] for name in names}


def test_error_that_is_not_in_the_log(doctor: Doctor, aws: EmbeddedAws, here: Path) -> None:
    """c7n-org logs what an action raises on its own output only, and doctor says so."""
    add_stale(aws, *MEMBERS)
    aws.fail("sqs.SendMessage", "AccessDenied", times=1)
    args = c7n_org("run", "-c", "accounts.yml", "-s", "out", "-u", PACK)
    ran = run(args, aws.env(HUB, here), here)
    assert ran.code == 1
    done = doctor(*FILES, "--output-dir", "out")
    (line,) = failed(done)
    assert f"{STALE} ended with an error that isn't in its log" in line
    assert f"c7n-org's output has it, the line with policy:{STALE}" in line
    assert ran.lines(f"policy:{STALE}", "AccessDenied") or ran.lines(f"policy:{STALE}", "denied")


def test_denied_call_names_the_parameter_that_allows_it(
    doctor: Doctor, aws: EmbeddedAws, here: Path
) -> None:
    add_stale(aws, WEB)
    aws.fail("iam.UpdateAccessKey", "AccessDenied")
    args = c7n_org("run", "-c", "accounts.yml", "-s", "out", "-u", PACK)
    assert run(args, aws.env(HUB, here), here).code == 1
    done = doctor(*FILES, "--output-dir", "out")
    (line,) = failed(done)
    assert "account web" in line
    assert "iam:UpdateAccessKey is denied" in line
    assert "fix: update the role's stack (deploy/member-role.yml) with Mode=enforcing" in line


def test_org_run_that_did_nothing_in_an_account_ends_with_1(
    aws: EmbeddedAws, doctor: Doctor, here: Path
) -> None:
    """c7n-org ends with 0; one account gives the policy a number of days that is none."""
    edit(here / "accounts.yml", lambda data: data["accounts"][1].update(vars={"many": "x"}))
    edit(here / "accounts.yml", lambda data: data["vars"].update(many=90))
    policy = {"name": "a", "resource": "aws.iam-user", "source": "credential-report"}
    policy["filters"] = [{"type": "value", "key": "a", "op": "regex", "value": "({many}"}]  # type: ignore[assignment]
    (here / "a.yml").write_text(yaml.safe_dump({"policies": [policy]}), "utf-8")
    args = ["run", "-c", "accounts.yml", "-s", "out", "-u", "a.yml"]
    theirs = run(c7n_org(*args), aws.env(HUB, here), here)
    ours = run(keyrot("org", *args), aws.env(HUB, here), here)
    assert (theirs.code, ours.code) == (0, 1), theirs.text + ours.text
    assert ours.lines("c7n-keyrot org: not done in", "web (222222222222) in us-east-1")


def test_run_of_custodian_and_owners_that_cannot_be_told(
    doctor: Doctor, aws: EmbeddedAws, here: Path
) -> None:
    account = aws.account(HUB)
    account.add_user("ana", Key(10), Key(200), {"OwnerContact": "ana@corp.test"})
    account.add_user("ben", Key(10), Key(200), {"OwnerContact": "Ben"})
    account.add_user("cho", Key(10), Key(200), {"OwnerContact": "ch\u00f6@corp.test"})
    account.generate_report()
    try:
        ran = run(custodian("run", "-s", "out", "policies"), aws.env(HUB, here), here)
        assert ran.code == 0, ran.text
        done = doctor("--mailer", "mailer.yml", "--output-dir", "out")
    finally:
        for name in ("ana", "ben", "cho"):
            account.delete_user(name)
    assert done.lines("ok", "coverage", STALE), done.text
    assert len(failed(done)) == 2, done.text
    assert done.lines("FAIL", "user ben", "OwnerContact 'Ben' isn't an address", "fix:")
    assert done.lines("FAIL", "user cho", "the mails after it in the message are lost", "fix:")


def test_many_accounts_are_few_lines_and_the_one_that_differs_is_named(
    doctor: Doctor, aws: EmbeddedAws, here: Path
) -> None:
    ids = [f"{700000000000 + number}" for number in range(40)]
    for account_id in ids:
        aws.account(account_id).add_role()
    entry = {"regions": ["us-east-1"], "external_id": "c7n-keyrot-2f6c1d"}
    role = "arn:aws:iam::{}:role/c7n-keyrot"
    edit(
        here / "accounts.yml",
        lambda data: data.update(
            accounts=[
                {"name": f"a{i}", "account_id": i, "role": role.format(i), **entry} for i in ids
            ]
        ),
    )
    well = doctor(*FILES)
    assert (well.code, failed(well)) == (0, []), well.text
    assert len(well.text.splitlines()) <= 30
    assert well.lines("ok", "role c7n-keyrot of all 40 accounts: can be used")
    aws.fail("iam.GetUser", "AccessDenied", account=ids[7])
    ill = doctor(*FILES)
    assert ill.lines("FAIL", f"permissions of account a{ids[7]}", "iam:GetUser is denied")
    assert ill.lines("ok", "permissions of 39 accounts", "iam:GetUser")
    assert len(failed(ill)) == 1


NO_KEYS = {"AWS_ACCESS_KEY_ID": "", "AWS_SECRET_ACCESS_KEY": ""}
# {fault: how it is made, variables of the process}
CREDENTIALS: dict[str, tuple[Callable[[EmbeddedAws], object], dict[str, str]]] = {
    "none": (lambda aws: None, NO_KEYS),
    "expired": (lambda aws: aws.fail("sts.*", "ExpiredToken"), {}),
    "stall": (lambda aws: aws.fail("*", "stall"), {}),
}


# An MFA code that nobody can type, and a program that doesn't exist.
PROFILES = {
    "mfa": (
        "role_arn = arn:aws:iam::123456789012:role/a\nsource_profile = keys\n"
        "mfa_serial = arn:aws:iam::123456789012:mfa/a\n"
        "[profile keys]\naws_access_key_id = AKIA0000000000000001\naws_secret_access_key = x",
        "there is no terminal",
        "start it in a terminal",
    ),
    "process": ("credential_process = /absent/program", "doesn't exist", "credential_process"),
    "no JSON": ("credential_process = echo SECRET9", "isn't JSON", "credential_process"),
}


@pytest.mark.parametrize("profile", PROFILES)
def test_a_profile_that_gives_no_credentials_is_not_the_proxy(
    doctor: Doctor, here: Path, profile: str
) -> None:
    text, words, fix = PROFILES[profile]
    (here / "config").write_text(f"[profile mine]\n{text}\n", "utf-8")
    env = {"AWS_CONFIG_FILE": str(here / "config"), "AWS_PROFILE": "mine", "HTTPS_PROXY": ""}
    done = doctor("--policies", "policies", **env, **NO_KEYS, AWS_SESSION_TOKEN="")
    # The prompt for the code is on the same line, if both go to one place.
    (line,) = (line for line in done.text.splitlines() if "FAIL   " in line)
    assert "credentials: " in line
    assert words in line
    assert fix in line.partition("; fix: ")[2]
    assert "proxy" not in line
    assert "SECRET9" not in done.text
    assert "/absent" not in done.text


def test_credentials_that_iam_refuses_fail(doctor: Doctor, aws: EmbeddedAws) -> None:
    """A session of GetSessionToken without MFA: STS answers, and every call to IAM ends so."""
    aws.fail("iam.*", "InvalidClientTokenId")
    done = doctor("--policies", "policies")
    (line,) = failed(done)
    assert (done.code, "(InvalidClientTokenId)" in line) == (1, True)
    assert "without MFA" in line.partition("; fix: ")[2]


def test_cause_of_a_failed_run_of_custodian_is_not_custodians_own_line(
    doctor: Doctor, aws: EmbeddedAws, here: Path
) -> None:
    """It comes some lines before; here it is a service control policy, so the advice is another."""
    said = "explicit deny in a service control policy"
    whole = f"User: hidden is not authorized to perform: iam:UpdateAccessKey with an {said}: hidden"
    add_stale(aws, HUB)
    aws.fail("iam.UpdateAccessKey", "AccessDenied", message=whole)
    ran = run(custodian("run", "-s", "out", "policies"), aws.env(HUB, here), here)
    assert ran.code == 2, ran.text
    aws.account(HUB).delete_user("ana")
    (line,) = failed(doctor("--policies", "policies", "--output-dir", "out"))
    assert "user 'ana': key" in line
    assert f"iam:UpdateAccessKey is denied (AccessDenied: {said})" in line
    assert "organization's administrators let iam:UpdateAccessKey" in line
    told = run(keyrot("report", "out", "--format", "json"), aws.env(HUB, here), here)
    assert f"AccessDenied: {said}" in told.text
    assert "Error while executing policy" not in line + told.text
    assert "hidden" not in line + told.text


def test_security_hub_that_is_not_enabled_is_named(
    doctor: Doctor, aws: EmbeddedAws, here: Path
) -> None:
    args = ["--policies", EXAMPLES / "security-hub.yml"]
    assert failed(doctor(*args)) == []
    body = b'{"Message": "Account hidden is not subscribed to AWS Security Hub"}'
    code = {"x-amzn-errortype": "InvalidAccessException", "Content-Type": "application/json"}
    aws.answer("securityhub.POST /findings", body, 401, code)
    (line,) = failed(doctor(*args))
    assert "Security Hub isn't enabled in us-east-1, so no finding can be posted" in line
    assert "fix: enable Security Hub" in line
    assert "hidden" not in line


def test_region_that_does_not_exist_is_the_cause(doctor: Doctor) -> None:
    done = doctor("--policies", "policies", AWS_DEFAULT_REGION="us-esat-1")
    (line,) = failed(done)
    assert "us-esat-1 isn't a region of AWS; is it us-east-1?" in line


@pytest.mark.parametrize("fault", CREDENTIALS)
def test_credentials(doctor: Doctor, aws: EmbeddedAws, fault: str) -> None:
    make, env = CREDENTIALS[fault]
    make(aws)
    done = doctor("--policies", "policies", **env)  # in two minutes, or it is an error
    assert done.code == 1
    (line,) = failed(done)
    assert line.startswith("FAIL         credentials")
    assert "fix:" in line
    assert done.lines("not checked", "permissions: no credentials")
    assert "Traceback" not in done.text


def test_a_plugin_that_is_not_loaded(doctor: Doctor, tmp_path: Path) -> None:
    """As after an install that lost the startup file: a sitecustomize that takes the hook away."""
    (tmp_path / "sitecustomize.py").write_text(
        "import sys\n"
        "sys.meta_path[:] = [f for f in sys.meta_path if 'c7n_keyrot' not in type(f).__module__]\n",
        "utf-8",
    )
    done = doctor("--policies", "policies", PYTHONPATH=str(tmp_path))
    assert done.code == 1
    assert len(failed(done)) == 2, done.text
    words = ("plugin: not loaded in", "fix: ", "dist/c7n_keyrot-", "or use c7n-keyrot custodian")
    assert done.lines("FAIL", *words)
    assert done.lines("FAIL", "plugin in c7n-org: not loaded in")
