# Copyright The c7n-keyrot Authors.
# SPDX-License-Identifier: Apache-2.0
"""Metadata is in pyproject.toml; here is what it can't say: what goes into the wheel, and how."""

import gzip
import os
import shutil
import tarfile
import time
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py
from setuptools.command.sdist import sdist

HERE = Path(__file__).parent
PACK = ("policies", "examples", "deploy")
# Python up to 3.14 reads the first; newer ones the second instead of it (PEP 829).
STARTUP_FILES = ("c7n_keyrot.pth", "c7n_keyrot.start")
# Set, and not to 0: the build has neither, and the pack is used by `c7n-keyrot custodian` only.
WITHOUT = os.environ.get("C7N_KEYROT_NO_STARTUP_FILES", "0") not in ("", "0")


class BuildPy(build_py):
    """Adds the startup files at the wheel's root, and the pack's folders inside the package."""

    def run(self) -> None:
        super().run()
        if self.editable_mode:
            # Here nothing is taken out of build_lib; `init` finds the folders in the checkout.
            self._copy_startup_files(self.get_finalized_command("install").install_lib)
            return
        self._copy_startup_files(self.build_lib)
        target = Path(self.build_lib, "c7n_keyrot", "pack")
        shutil.rmtree(target, ignore_errors=True)  # an earlier build's, with files since removed
        for folder in PACK:
            if Path(HERE, folder).is_dir():
                ignore = shutil.ignore_patterns(".*", "__pycache__", "*.pyc", "*~")
                shutil.copytree(Path(HERE, folder), target / folder, ignore=ignore)

    def _copy_startup_files(self, folder: str) -> None:
        # data_files and package_data would lose them in an editable install.
        Path(folder).mkdir(parents=True, exist_ok=True)
        for name in STARTUP_FILES:
            target = Path(folder, name)
            target.unlink(missing_ok=True)  # an earlier build's
            if not WITHOUT:
                self.copy_file(str(HERE / name), str(target))


class Sdist(sdist):
    """Makes the same archive of the same commit: whoever makes it, wherever and whenever.

    The wheel is so by itself, by SOURCE_DATE_EPOCH (seconds since 1970, UTC).
    """

    def make_archive(
        self,
        base_name: str,
        format: str,
        root_dir: str | None = None,
        base_dir: str | None = None,
        owner: str | None = None,
        group: str | None = None,
    ) -> str:
        if format != "gztar":
            return super().make_archive(base_name, format, root_dir, base_dir, owner, group)
        epoch = int(os.environ.get("SOURCE_DATE_EPOCH", time.time()))

        def anonymous(info: tarfile.TarInfo) -> tarfile.TarInfo:
            info.uid, info.gid, info.uname, info.gname, info.mtime = 0, 0, "", "", epoch
            info.mode = 0o755 if info.isdir() else 0o644
            return info

        path = base_name + ".tar.gz"
        with (
            open(path, "wb") as file,
            gzip.GzipFile("", "wb", fileobj=file, mtime=epoch) as zipped,
            tarfile.open(fileobj=zipped, mode="w") as archive,
        ):
            for member in sorted(Path(base_dir).rglob("*")):
                archive.add(member, recursive=False, filter=anonymous)
        return path


setup(cmdclass={"build_py": BuildPy, "sdist": Sdist})
