# Copyright The c7n-keyrot Authors.
# SPDX-License-Identifier: Apache-2.0
"""Where a run's outputs are kept: ``runs/DATE/`` and ``latest/``, in a bucket or a folder."""

from __future__ import annotations

import fcntl
import itertools
import os
import shutil
import tempfile
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import TypeVar

import boto3

from c7n_keyrot.aws import settings as aws_settings
from c7n_keyrot.aws.credentials import FALLBACK_REGION
from c7n_keyrot.aws.errors import CallError
from c7n_keyrot.aws.objects import Bucket
from c7n_keyrot.aws.permit import Permit
from c7n_keyrot.core.errors import CommandError
from c7n_keyrot.core.text import counted, one_line

FORM = "%Y-%m-%dT%H-%M-%SZ"
LATEST = "latest"
Item = TypeVar("Item")


class Folder:
    """A folder, for one run at a time.

    :ivar work: where the run's files are made.
    :ivar run: the ``-s`` of the run itself.
    :ivar shown: the place, for people.
    :raises CommandError: it can't be made, or another run is going on.
    """

    def __init__(self, out: str, begun: datetime) -> None:
        self.base = Path(out)
        try:
            self.base.mkdir(parents=True, exist_ok=True)
            # Kept open, so locked, until this process ends.
            self._lock = (self.base / ".lock").open("w")
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self.work = _made(self.base / "runs" / begun.strftime(FORM))
        except BlockingIOError:
            what = f"another run into {out} is going on; both would notify and disable"
            raise CommandError(what) from None
        except OSError as error:
            raise CommandError(f"--out {out} can't be used: {error.strerror}") from None
        self.run = str(self.work / "run")
        self.shown = f"{self.work}/"

    def fetch(self) -> list[str]:
        """Have the run's outputs below ``work``; return what is missing, in words."""
        return []

    def keep(self, files: Mapping[str, bytes]) -> list[str]:
        """Keep these files beside the outputs; return what failed, in words."""
        return _all(files, lambda name: _write(self.work / name, files[name]))

    def keep_rest(self) -> list[str]:
        """Keep the dry run's outputs; return what failed, in words."""
        return []

    def replace_latest(self, files: Mapping[str, bytes]) -> list[str]:
        """Have these files in ``latest/``, and no other; return what failed, in words."""
        new, old = self.base / f".{LATEST}.new", self.base / f".{LATEST}.old"
        latest = self.base / LATEST
        try:
            for one in (new, old):
                shutil.rmtree(one, ignore_errors=True)
            new.mkdir()
            for name, content in files.items():
                _write(new / name, content)
            with suppress(FileNotFoundError):
                latest.rename(old)
            new.rename(latest)
        except OSError as error:
            # What an earlier run left there mustn't pass for this one's.
            shutil.rmtree(latest, ignore_errors=True)
            return [f"{latest}: {error.strerror}"]
        shutil.rmtree(old, ignore_errors=True)
        return []

    def close(self) -> None:
        """End the use of the place."""
        self._lock.close()


class InBucket:
    """A bucket, which the run itself writes to; see ``Folder``. Nothing in it is deleted."""

    def __init__(self, name: str, begun: datetime) -> None:
        self.name, self.prefix = name, f"runs/{begun.strftime(FORM)}"
        self.shown = f"s3://{name}/{self.prefix}/"
        region = boto3.Session().region_name or FALLBACK_REGION
        self.run = f"s3://{name}/{self.prefix}/run?region={region}"
        try:
            # With a folder's name it tries no others by writing to them: the disk may be full.
            where = os.environ.get("TMPDIR") or "/tmp"  # noqa: S108
            self.work = Path(tempfile.mkdtemp(prefix="c7n-keyrot-", dir=where))
            self.bucket = Bucket(name)
        except (OSError, CallError) as error:
            raise CommandError(f"--out s3://{name} can't be used: {one_line(error)}") from None

    def fetch(self) -> list[str]:
        prefix = f"{self.prefix}/run/"
        try:
            keys = list(self.bucket.keys(prefix))
        except CallError as error:
            return [str(error)]
        (self.work / "run").mkdir(exist_ok=True)

        def get(key: str) -> None:
            parts = Path(key[len(prefix) :]).parts
            if ".." in parts or not parts or parts[0] == "/":
                raise OSError(0, "its name leaves the folder")
            _write(self.work.joinpath("run", *parts), self.bucket.get(key))

        return _all(keys, get)

    def keep(self, files: Mapping[str, bytes]) -> list[str]:
        def put(name: str) -> None:
            self.bucket.put(f"{self.prefix}/{name}", files[name], Permit())

        return _all(files, put)

    def keep_rest(self) -> list[str]:
        def put(path: Path) -> None:
            name = path.relative_to(self.work).as_posix()
            self.bucket.put(f"{self.prefix}/{name}", path.read_bytes(), Permit())

        look = self.work / "look"
        return _all(sorted(path for path in look.rglob("*") if path.is_file()), put)

    def replace_latest(self, files: Mapping[str, bytes]) -> list[str]:
        def put(name: str) -> None:
            self.bucket.put(f"{LATEST}/{name}", files[name], Permit())

        return _all(files, put)

    def close(self) -> None:
        shutil.rmtree(self.work, ignore_errors=True)


Place = Folder | InBucket


def _made(path: Path) -> Path:
    """Make a folder that wasn't there, by this name or by one with a number after it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    for number in itertools.count(2):
        try:
            path.mkdir()
        except FileExistsError:  # another run in the same second
            path = path.with_name(f"{path.name.partition('Z')[0]}Z-{number}")
        else:
            break
    return path


def _write(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


def _all(items: Iterable[Item], work: Callable[[Item], None]) -> list[str]:
    """Do the work on all items side by side; return what failed: the first error, and how many."""
    items = list(items)

    def safely(item: Item) -> str:
        try:
            work(item)
        except OSError as error:
            return f"{item}: {error.strerror or type(error).__name__}"
        except CallError as error:
            return f"{item}: {error}"
        return ""

    with ThreadPoolExecutor(aws_settings.WORKERS) as pool:
        wrong = [line for line in pool.map(safely, items) if line]
    if not wrong:
        return []
    more = f" ({counted(len(wrong), 'file')} of {len(items)})" if len(items) > 1 else ""
    return [one_line(wrong[0] + more, 500)]


def make(out: str, bucket: str, begun: datetime) -> Place:
    """Return the place, ready for a run.

    :param bucket: its name; "" for a folder.
    :raises CommandError: it can't be used.
    """
    return InBucket(bucket, begun) if bucket else Folder(out, begun)


def read(path: Path) -> bytes | None:
    """Return a file's content; None if there is no such file that can be read."""
    with suppress(OSError):
        return path.read_bytes() if os.path.getsize(path) else None
    return None
