# Copyright The c7n-keyrot Authors.
# SPDX-License-Identifier: Apache-2.0
import errno
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from pytest_mock import MockerFixture

from c7n_keyrot import cli
from c7n_keyrot.cli import init
from c7n_keyrot.core import outcomes
from c7n_keyrot.core.outcomes import Action, Result

Done = subprocess.CompletedProcess[str]

FILES = {"policies/a.yml": "a", "examples/sub/b.yml": "b", "deploy/c.yml": "c"}


@pytest.fixture
def pack(tmp_path: Path, mocker: MockerFixture) -> Path:
    """A pack of three files, and some beside them that must stay where they are."""
    folder = tmp_path / "pack"
    litter = ("setup.py", "policies/.a.yml.swp", "examples/__pycache__/x.pyc")
    for name in (*FILES, *litter):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(FILES.get(name, "litter"))
    mocker.patch.object(init, "pack", return_value=folder)
    return folder


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return tmp_path / "new" / "folder"


def content(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): path.read_text()
        for path in folder.rglob("*")
        if path.is_file()
    }


@pytest.mark.usefixtures("pack")
class TestInit:
    def test_writes_the_pack_and_nothing_else(
        self, target: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert cli.main(["init", str(target)]) == 0
        assert content(target) == FILES
        assert capsys.readouterr().out.splitlines() == [
            f"wrote     {target}/policies/a.yml",
            f"wrote     {target}/examples/sub/b.yml",
            f"wrote     {target}/deploy/c.yml",
            f"Next: custodian run --dryrun -s look {target}/examples/notify-only.yml",
        ]

    def test_without_dir_it_is_the_current_folder(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (tmp_path / "here").mkdir()
        monkeypatch.chdir(tmp_path / "here")
        assert cli.main(["init"]) == 0
        assert content(tmp_path / "here") == FILES

    def test_again_changes_nothing(self, target: Path, capsys: pytest.CaptureFixture[str]) -> None:
        cli.main(["init", str(target)])
        before = {path: path.stat().st_mtime_ns for path in target.rglob("*")}
        capsys.readouterr()
        assert cli.main(["init", str(target)]) == 0
        assert {path: path.stat().st_mtime_ns for path in target.rglob("*")} == before
        assert capsys.readouterr().out.count("unchanged ") == len(FILES)

    def test_keeps_what_the_user_changed(
        self, target: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        cli.main(["init", str(target)])
        (target / "policies/a.yml").write_text("mine")
        (target / "examples/sub/b.yml").unlink()
        capsys.readouterr()
        assert cli.main(["init", str(target)]) == 0
        assert content(target) == {**FILES, "policies/a.yml": "mine"}
        out = capsys.readouterr().out
        assert f"kept      {target}/policies/a.yml\n" in out
        assert f"wrote     {target}/examples/sub/b.yml\n" in out
        assert f"unchanged {target}/deploy/c.yml\n" in out
        assert "Kept: 1 of your own." in out

    def test_beside_other_policies_it_writes_none_that_acts(
        self, target: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        """A run of that folder, such as tomorrow's, would disable keys."""
        (target / "policies" / "sub").mkdir(parents=True)
        (target / "policies/sub/tags.yaml").write_text("mine")
        assert cli.main(["init", str(target)]) == 0
        others = {name: text for name, text in FILES.items() if not name.startswith("policies")}
        assert content(target) == {**others, "policies/sub/tags.yaml": "mine"}
        out = capsys.readouterr().out
        assert (
            f"left out  {target}/policies/a.yml: it disables keys, and 1 other file of policies "
            "would be run with it (policies/sub/tags.yaml)\n"
        ) in out
        assert "init --acting" in out
        assert cli.main(["init", "--acting", str(target)]) == 0
        assert content(target) == {**FILES, "policies/sub/tags.yaml": "mine"}
        capsys.readouterr()
        assert cli.main(["init", str(target)]) == 0
        assert f"unchanged {target}/policies/a.yml\n" in capsys.readouterr().out

    def test_in_a_folder_of_policies_it_warns(
        self, target: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        target.mkdir(parents=True)
        (target / "mine.json").write_text('{"policies": []}')
        (target / "accounts.yml").write_text("accounts:\n  - {policies: 1}\n")
        assert cli.main(["init", str(target)]) == 0
        assert "policies/a.yml" not in content(target)
        assert "\nCareful: mine.json and the pack are in one folder." in capsys.readouterr().out
        assert cli.main(["init", "--acting", str(target)]) == 0
        assert "policies/a.yml" in content(target)
        assert "\nCareful: mine.json and the pack" in capsys.readouterr().out

    @pytest.mark.parametrize("kind", ["folder", "dangling link"])
    def test_keeps_what_is_no_file(self, target: Path, kind: str) -> None:
        path = target / "policies/a.yml"
        path.parent.mkdir(parents=True)
        path.mkdir() if kind == "folder" else path.symlink_to("nothing")
        assert cli.main(["init", str(target)]) == 0
        assert path.is_dir() or path.is_symlink()
        assert not (target / "policies/nothing").exists()

    @pytest.mark.parametrize("file", ["", "policies", "examples/sub"])
    def test_a_file_where_a_folder_is_needed(
        self, target: Path, file: str, capsys: pytest.CaptureFixture[str]
    ) -> None:
        path = target / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("mine")
        assert cli.main(["init", str(target)]) == 1
        assert capsys.readouterr().err == (
            f"c7n-keyrot init: {path} is a file where a folder is needed; name another DIR\n"
        )
        assert path.read_text() == "mine"

    @pytest.mark.parametrize("code", [errno.EACCES, errno.EROFS, errno.ENOSPC])
    def test_a_folder_that_cannot_be_written_to(
        self,
        target: Path,
        code: int,
        capsys: pytest.CaptureFixture[str],
        mocker: MockerFixture,
    ) -> None:
        mocker.patch.object(Path, "write_bytes", side_effect=OSError(code, os.strerror(code)))
        assert cli.main(["init", str(target)]) == 1
        assert capsys.readouterr().err == (
            f"c7n-keyrot init: can't write {target}/policies/a.yml: {os.strerror(code)};"
            " name a DIR that you can write to\n"
        )

    def test_stopped_half_way_it_goes_on_the_next_time(
        self, target: Path, mocker: MockerFixture
    ) -> None:
        """Half a file must not be there as if the user had changed it."""
        mocker.patch.object(Path, "replace", side_effect=KeyboardInterrupt)
        assert cli.main(["init", str(target)]) == 130
        assert "policies/a.yml" not in content(target)


class TestPack:
    """Where the files come from."""

    @pytest.fixture
    def package(self, tmp_path: Path, mocker: MockerFixture) -> Path:
        package = tmp_path / "c7n_keyrot"
        package.mkdir()
        mocker.patch("c7n_keyrot.__file__", str(package / "__init__.py"))
        return package

    def test_wheel(self, package: Path) -> None:
        (package / "pack/policies").mkdir(parents=True)
        (package.parent / "policies").mkdir()
        assert init.pack() == package / "pack"

    def test_editable_install(self, package: Path) -> None:
        (package.parent / "policies").mkdir()
        assert init.pack() == package.parent

    def test_missing(self, package: Path, capsys: pytest.CaptureFixture[str]) -> None:
        assert cli.main(["init", str(package)]) == 1
        assert capsys.readouterr().err == (
            f"c7n-keyrot init: the pack's files are missing in {package}/pack;"
            " reinstall c7n-keyrot\n"
        )


class TestMain:
    def test_without_a_command_it_prints_its_help(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert cli.main([]) == 2
        words = capsys.readouterr().out.split()
        assert [name for name in cli.COMMANDS if name not in words] == []

    @pytest.mark.parametrize("argv", [["nonsense"], ["init", "a", "b"], ["--nonsense"]])
    def test_wrong_arguments(self, argv: list[str], capsys: pytest.CaptureFixture[str]) -> None:
        with pytest.raises(SystemExit, match="2"):
            cli.main(argv)
        assert capsys.readouterr().err.splitlines()[-1].startswith("c7n-keyrot")

    def test_a_reader_that_has_seen_enough(self, tmp_path: Path) -> None:
        reader, writer = os.pipe()
        os.close(reader)
        code = "import sys; from c7n_keyrot.cli import main; sys.exit(main())"
        command = [sys.executable, "-c", code, "init", str(tmp_path)]
        done = subprocess.run(command, stdout=writer, stderr=subprocess.PIPE, cwd=tmp_path)
        os.close(writer)
        assert (done.returncode, done.stderr) == (1, b"")

    def test_interrupted(self, mocker: MockerFixture) -> None:
        mocker.patch.object(init, "pack", side_effect=KeyboardInterrupt)
        assert cli.main(["init"]) == 130

    @pytest.mark.parametrize("command", cli.COMMANDS)
    def test_help(self, command: str, capsys: pytest.CaptureFixture[str]) -> None:
        with pytest.raises(SystemExit, match="0"):
            cli.main([command, "--help"])
        usage = capsys.readouterr().out.lower()  # with a capital by click
        assert usage.startswith(f"usage: c7n-keyrot {command} ")

    def test_the_list_of_commands(self, capsys: pytest.CaptureFixture[str]) -> None:
        with pytest.raises(SystemExit, match="0"):
            cli.main(["--help"])
        text = " ".join(capsys.readouterr().out.split())
        assert [name for name, what in cli.COMMANDS.items() if f"{name} {what}" not in text] == []


DISABLED = outcomes.Outcome(
    time="2026-05-01T10:00:00+00:00",
    account_id="123456789012",
    policy="p",
    run="r",
    action=Action.DISABLE,
    user="ana",
    slot=2,
    access_key_id="AKIA1",
    outcome=Result.DISABLED,
    reason="",
)


class TestAwsConfigurationThatCannotBeRead:
    """In processes, since Custodian makes a session when it is imported."""

    @pytest.fixture(params=["no such profile", "no such syntax"])
    def cli_of(self, request: pytest.FixtureRequest, tmp_path: Path) -> Callable[..., Done]:
        config = tmp_path / "config"
        config.write_text("[default]\n" if "profile" in request.param else "[default\n", "utf-8")
        env = {**os.environ, "AWS_CONFIG_FILE": str(config)}
        env |= {"AWS_PROFILE": "nobody"} if "profile" in request.param else {}

        def run(*args: str | Path) -> Done:
            code = "import sys; from c7n_keyrot.cli import main; sys.exit(main())"
            command = [sys.executable, "-c", code, *args]
            return subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env=env)

        return run

    @pytest.mark.parametrize("args", [["--version"], ["--help"], ["templates"], ["init", "new"]])
    def test_is_nothing_to_those_that_need_no_aws(
        self, cli_of: Callable[..., Done], args: list[str]
    ) -> None:
        done = cli_of(*args)
        assert (done.returncode, done.stderr) == (0, "")

    @pytest.mark.parametrize("args", [["doctor"], ["reactivate", "."]])
    def test_is_one_line_of_the_others(
        self, cli_of: Callable[..., Done], args: list[str], tmp_path: Path
    ) -> None:
        outcomes.append(tmp_path / outcomes.FILE, DISABLED)  # for reactivate
        done = cli_of(*args)
        assert (done.returncode, done.stdout) == (2, "")
        (line,) = done.stderr.splitlines()
        assert line.startswith(f"c7n-keyrot {args[0]}: ")
        assert "(nobody)" in line or "config file" in line
        assert "; correct AWS_PROFILE" in line
