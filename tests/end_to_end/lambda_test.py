# Copyright The c7n-keyrot Authors.
# SPDX-License-Identifier: Apache-2.0
"""The archive that Custodian uploads to Lambda, run as Lambda would: nothing else on the path."""

from __future__ import annotations

import io
import json
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import boto3
import pytest
from c7n.config import Config
from c7n.mu import PolicyLambda
from c7n.policy import PolicyCollection
from c7n.resources import load_resources
from harness import Finished

from embedded_aws import Account, EmbeddedAws, Key

MODE = {
    "type": "periodic",
    "schedule": "rate(1 day)",
    "role": "arn:aws:iam::123456789012:role/lambda",
    "packages": ["c7n_keyrot"],
    "handler": "c7n_keyrot.handler.run",
}
POLICY = {
    "name": "stale-in-lambda",
    "resource": "aws.iam-user",
    "source": "credential-report",
    "mode": MODE,
    "filters": ["stale-access-key", {"not": ["rotation-exempt"]}],
    "actions": ["disable-access-key"],
}


@pytest.fixture
def function(tmp_path: Path) -> Path:
    """The archive, unzipped, and beside it what the runtime brings: boto3 and its needs."""
    load_resources(("aws.iam-user",))
    options = Config.empty(region="us-east-1", account_id="123456789012")
    policies = PolicyCollection.from_data({"policies": [POLICY]}, options)
    archive = PolicyLambda(next(iter(policies))).get_archive()
    folder = tmp_path / "function"
    with zipfile.ZipFile(io.BytesIO(archive.get_bytes())) as unzipped:
        unzipped.extractall(folder)
    runtime = tmp_path / "runtime"
    runtime.mkdir()
    packages = Path(boto3.__file__).parents[1]
    for name in ("boto3", "botocore", "s3transfer", "jmespath", "dateutil", "urllib3", "six.py"):
        (runtime / name).symlink_to(packages / name)
    return folder


def test_archive_finds_and_disables_in_an_isolated_interpreter(
    aws: EmbeddedAws, account: Account, home: Path, tmp_path: Path, function: Path
) -> None:
    account.add_user("ana", Key(5), Key(200))
    account.add_user("rosa", Key(200), Key(5))
    account.generate_report()
    before = account.snapshot()
    code = (
        f"import sys; sys.path[:0] = {[str(function), str(tmp_path / 'runtime')]!r}\n"
        "from c7n_keyrot.handler import run\n"
        "import c7n_keyrot; assert c7n_keyrot.__file__.startswith(sys.path[0]), c7n_keyrot\n"
        "print('answer', run({'detail': {}}, None))\n"
    )
    # -I -S: no site-packages, so no .pth file and no PYTHONPATH, as in Lambda.
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", code],
        env=aws.env(account.id, home),
        cwd=function,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    assert "answer True" in done.stdout
    assert account.changes(before) == {account.key_id("ana", 2): ("Active", "Inactive")}


@pytest.mark.parametrize("missing", ["packages", "handler"])
@pytest.mark.parametrize(
    "elements",
    [
        {"filters": ["stale-access-key"]},
        {"filters": ["expiring-access-key"]},
        {"filters": [{"not": ["rotation-exempt"]}]},
        {"source": "credential-report"},
    ],
)
def test_serverless_policy_that_would_die_in_lambda_is_refused(
    tmp_path: Path, run_in: Callable[..., Finished], missing: str, elements: dict[str, Any]
) -> None:
    mode = {key: value for key, value in MODE.items() if key != missing}
    policy = {"name": "p", "resource": "aws.iam-user", "mode": mode, **elements}
    path = tmp_path / "p.json"
    path.write_text(json.dumps({"policies": [policy]}))
    done = run_in([Path(sys.executable).parent / "custodian", "validate", path])
    assert done.code != 0
    assert done.lines("policy p", "packages: [c7n_keyrot]", "handler: c7n_keyrot.handler.run")
