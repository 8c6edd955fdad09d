# Copyright The c7n-keyrot Authors.
# SPDX-License-Identifier: Apache-2.0
"""Measure the Lambda function of examples/lambda.yml beside one of a stock policy.

    python benchmarks/functions.py [RUNS]

The archives are those that Custodian makes. Each is run in turns by a fresh isolated interpreter,
as Lambda's cold start does it: without compiled files in the archive's folder, and with boto3 from
outside. AWS is the embedded one, which answers at once, with one user and nothing to find.
"""

from __future__ import annotations

import io
import json
import statistics
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path
from typing import Any

import boto3
import yaml
from c7n.config import Config
from c7n.mu import PolicyLambda
from c7n.policy import PolicyCollection
from c7n.resources import load_resources

ROOT = Path(__file__).parents[1]
sys.path.append(str(ROOT))

from embedded_aws import HUB, REGION, EmbeddedAws, Key  # noqa: E402

BROUGHT = ("boto3", "botocore", "s3transfer", "jmespath", "dateutil", "urllib3", "six.py")
STOCK = {
    "name": "stock",
    "resource": "aws.iam-user",
    "mode": {"type": "periodic", "schedule": "rate(1 day)", "role": "role"},
    "filters": [
        {"type": "credential", "key": "access_keys.last_rotated", "value_type": "age", "value": 90}
    ],
}
RUNTIME = """
import time
begun = time.perf_counter()
import importlib, json, re, sys
sys.path[:0] = json.loads(sys.argv[1])
module, _, name = sys.argv[2].rpartition(".")
handler = getattr(importlib.import_module(module), name)
imported = time.perf_counter()
assert handler({"detail": {}}, None)
done = time.perf_counter()
# Of this program alone; getrusage would count the one that started it.
with open("/proc/self/status") as status:
    memory = int(re.search(r"VmHWM:\\s+(\\d+)", status.read())[1]) / 1024
print("\\n" + json.dumps([imported - begun, done - begun, memory]))
"""


def archive(policy: dict[str, Any]) -> tuple[bytes, str]:
    """The archive that Custodian uploads for a policy, and its handler."""
    options = Config.empty(region=REGION, account_id=HUB)
    (loaded,) = PolicyCollection.from_data({"policies": [policy]}, options)
    function = PolicyLambda(loaded)
    return function.get_archive().get_bytes(), function.handler


def start(folder: Path, runtime: Path, handler: str, env: dict[str, str]) -> list[float]:
    """Seconds until the handler is imported, and until it has answered; MB of memory."""
    paths = json.dumps([str(folder), str(runtime)])
    args = [sys.executable, "-I", "-S", "-B", "-c", RUNTIME, paths, handler]
    done = subprocess.run(args, env=env, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    figures: list[float] = json.loads(done.stdout.splitlines()[-1])
    return figures


def main(runs: int = 7) -> None:
    load_resources(("aws.iam-user",))
    example = yaml.safe_load((ROOT / "examples" / "lambda.yml").read_text("utf-8"))
    ours = example["policies"][-1]
    ours["mode"]["execution-options"] = {}  # no bucket, as stock has none
    with tempfile.TemporaryDirectory() as place, EmbeddedAws() as aws:
        aws.account(HUB).add_user("ana", Key(10), Key(10))
        aws.account(HUB).generate_report()
        runtime = Path(place, "runtime")
        runtime.mkdir()
        for name in BROUGHT:
            (runtime / name).symlink_to(Path(boto3.__file__).parents[1] / name)
        figures: dict[str, list[list[float]]] = {"stock": [], "c7n-keyrot": []}
        functions = {}
        for name, policy in (("stock", STOCK), ("c7n-keyrot", ours)):
            content, handler = archive(policy)
            with zipfile.ZipFile(io.BytesIO(content)) as unzipped:
                unzipped.extractall(Path(place, name))
                size = sum(one.file_size for one in unzipped.infolist())
            functions[name] = (len(content), size, handler)
        for _ in range(runs):
            for name, (_, _, handler) in functions.items():
                env = aws.env(HUB, place)
                figures[name].append(start(Path(place, name), runtime, handler, env))
    print("| function | archive, KB | unpacked, KB | import, s | first answer, s | memory, MB |")
    print("| --- | --- | --- | --- | --- | --- |")
    rows = []
    for name, (packed, size, _) in functions.items():
        medians = [statistics.median(column) for column in zip(*figures[name], strict=True)]
        rows.append([packed / 1000, size / 1000, *medians])
        cells = [f"{packed / 1000:.0f}", f"{size / 1000:.0f}", *(f"{m:.2f}" for m in medians[:2])]
        print(f"| {name} | {' | '.join([*cells, f'{medians[2]:.0f}'])} |")
    ratios = [f"{ours / stock:.2f}" for stock, ours in zip(*rows, strict=True)]
    print(f"| ratio | {' | '.join(ratios)} |")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:2]))
