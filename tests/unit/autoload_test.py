# Copyright The c7n-keyrot Authors.
# SPDX-License-Identifier: Apache-2.0
"""The startup file and the import hook, in real interpreters, on a c7n that is as small as can be.

How they do with the real one is in end_to_end/loading_test.py.
"""

import importlib.metadata
import os
import shutil
import subprocess
import sys
from pathlib import Path
from textwrap import dedent
from typing import NamedTuple

import pytest
import pythons

import c7n_keyrot

PACKAGE = Path(c7n_keyrot.__file__).parent
# The promised ones run all tests by `make matrix`.
OTHERS = ["3.14", "3.15"]
STARTUP_FILES = ("c7n_keyrot.pth", "c7n_keyrot.start")


class Ran(NamedTuple):
    code: int
    out: str
    err: str


class Environment(NamedTuple):
    """A virtual environment with the startup files, the hook, and a `plugin` that prints."""

    python: Path
    site: Path

    def write(self, name: str, content: str) -> None:
        path = self.site / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(dedent(content))

    def run(self, code: str, *flags: str) -> Ran:
        script = self.site.parents[2] / "script.py"
        script.write_text(dedent(code))
        env = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
        command = [str(self.python), *flags, str(script)]
        done = subprocess.run(command, capture_output=True, text=True, env=env, timeout=60)
        return Ran(done.returncode, done.stdout, done.stderr)


def environment(python: str, folder: Path) -> Environment:
    subprocess.run([python, "-m", "venv", "--without-pip", folder], check=True, timeout=60)
    made = Environment(folder / "bin" / "python", next(folder.glob("lib/python*/site-packages")))
    made.write("c7n/__init__.py", "")
    made.write("c7n/resources/__init__.py", "")
    made.write("c7n/resources/iam.py", "class User:\n    pass\n")
    made.write("c7n/resources/s3.py", "class Bucket:\n    pass\n")
    for name in ("__init__.py", "autoload.py"):
        made.write(f"c7n_keyrot/{name}", (PACKAGE / name).read_text())
    made.write(
        "c7n_keyrot/custodian/elements/plugin.py",
        """
        def register():
            from c7n.resources.iam import User
            print("registered", "again" if hasattr(User, "ours") else "")
            User.ours = True
        """,
    )
    for name in STARTUP_FILES:
        shutil.copy(startup_file(name), made.site)
    return made


def startup_file(name: str) -> Path:
    listed = importlib.metadata.files("c7n-keyrot") or []
    return Path(str(next(file.locate() for file in listed if file.name == name)))


@pytest.fixture
def env(tmp_path: Path) -> Environment:
    return environment(sys.executable, tmp_path / "venv")


def test_it_is_the_installed_package_that_is_tested() -> None:
    """Only an installed wheel has the startup files; the checkout's folder has not."""
    assert PACKAGE.parent.name in ("site-packages", "dist-packages")
    assert {startup_file(name).parent for name in STARTUP_FILES} == {PACKAGE.parent}


CASES = {
    "registers once, after the module": (
        """
        import c7n.resources.s3
        print("before")
        import c7n.resources.iam, c7n.resources.iam as iam
        from c7n.resources.iam import User
        print(User.ours)
        """,
        "before\nregistered \nTrue\n",
    ),
    "a module that was there first is registered at once, by whoever installs the hook": (
        """
        import sys
        sys.meta_path[:] = [f for f in sys.meta_path if type(f).__module__ != "c7n_keyrot.autoload"]
        import c7n.resources.iam
        from c7n_keyrot import autoload
        print("before")
        autoload.install()
        """,
        "before\nregistered \n",
    ),
    "installing again is harmless, after a reload of the hook, too": (
        """
        import importlib, sys
        from c7n_keyrot import autoload
        count = len(sys.meta_path)
        autoload.install()
        importlib.reload(autoload).install()
        print(len(sys.meta_path) - count)
        import c7n.resources.iam
        """,
        "0\nregistered \n",
    ),
    "find_spec finds what there is, and registers nothing": (
        """
        import importlib.util, os
        spec = importlib.util.find_spec("c7n.resources.iam")
        print(type(spec.loader).__name__, os.path.basename(spec.origin))
        print(importlib.util.find_spec("c7n.resources.nothing"))
        import c7n.resources.iam
        """,
        "SourceFileLoader iam.py\nNone\nregistered \n",
    ),
    "loaders and specs can be pickled, before the import and after": (
        """
        import importlib.util, pickle
        spec = pickle.loads(pickle.dumps(importlib.util.find_spec("c7n.resources.iam")))
        module = importlib.util.module_from_spec(spec)
        import c7n.resources.iam as iam
        spec.loader.exec_module(module)
        copy = pickle.loads(pickle.dumps(iam.__spec__))
        print(copy.loader == iam.__loader__, vars(iam.__loader__) == vars(copy.loader))
        print(type(pickle.loads(pickle.dumps(iam.User()))) is iam.User)
        """,
        "registered \nregistered again\nTrue True\nTrue\n",
    ),
    "the source can be read": (
        """
        import inspect, c7n.resources.iam as iam
        print(inspect.getsource(iam), end="")
        print(inspect.getsource(iam.User), end="")
        print(sorted(vars(iam.__loader__)))
        """,
        "registered \nclass User:\n    pass\nclass User:\n    pass\n['name', 'path']\n",
    ),
    "a reload registers on the new class": (
        """
        import importlib, c7n.resources.iam as iam
        old = iam.User
        print(importlib.reload(iam).User.ours, iam.User is old)
        """,
        "registered \nregistered \nTrue False\n",
    ),
    "a module that fails fails with its own error": (
        """
        import pathlib, c7n.resources as r
        pathlib.Path(r.__path__[0], "iam.py").write_text("1 / 0")
        for _ in range(2):
            try:
                import c7n.resources.iam
            except ZeroDivisionError as error:
                print(error)
        """,
        "division by zero\ndivision by zero\n",
    ),
    "modules out of a zip archive share one loader": (
        """
        import importlib.util, pathlib, shutil, sys, c7n
        site = pathlib.Path(c7n.__path__[0]).parent
        shutil.make_archive(str(site / "all"), "zip", site, "c7n")
        shutil.rmtree(site / "c7n")
        for name in [name for name in sys.modules if name.split(".")[0] == "c7n"]:
            del sys.modules[name]
        sys.path.insert(0, str(site / "all.zip"))
        importlib.invalidate_caches()
        importlib.util.find_spec("c7n.resources.iam")
        importlib.util.find_spec("c7n.resources.iam")
        import c7n.resources.s3
        print("before")
        import c7n.resources.iam as iam
        print(type(iam.__loader__).__name__)
        """,
        "before\nregistered \nzipimporter\n",
    ),
    "other people's hooks, in front or behind": (
        """
        import importlib.util, sys
        from importlib.machinery import PathFinder

        class Proxy:  # hands attributes on to the loader inside, as wrapt's does
            def __init__(self, inside):
                object.__setattr__(self, "inside", inside)
            def exec_module(self, module):
                print("theirs")
                self.inside.exec_module(module)
            def create_module(self, spec):
                return None
            def __setattr__(self, name, value):
                setattr(self.inside, name, value)
            @property
            def __dict__(self):
                return vars(self.inside)

        class Attribute:  # has its exec_module as an attribute, as ddtrace's
            def __init__(self, inside):
                self.inside = inside
                self.exec_module = self.run
            def run(self, module):
                print("theirs, too")
                self.inside.exec_module(module)
            def create_module(self, spec):
                return None

        class Theirs:
            busy = False
            def __init__(self, wrap):
                self.wrap = wrap
            def find_spec(self, name, path=None, target=None):
                if self.busy or name != "c7n.resources.iam":
                    return None
                self.busy = True
                spec = importlib.util.find_spec(name)
                self.busy = False
                spec.loader = self.wrap(spec.loader)
                return spec

        sys.meta_path.insert(0, Theirs(Proxy))
        sys.meta_path.insert(2, Theirs(Attribute))
        sys.meta_path.insert(3, Theirs(Proxy))
        import c7n.resources.iam as iam
        """,
        # Those behind look for the module all over again, which meets our finder a second time.
        "theirs\ntheirs, too\ntheirs\ntheirs\nregistered \nregistered again\n",
    ),
}


@pytest.mark.parametrize(("code", "expected"), CASES.values(), ids=CASES)
def test_hook(env: Environment, code: str, expected: str) -> None:
    assert env.run(code) == (0, expected, "")


@pytest.mark.parametrize("version", OTHERS)
def test_hook_in_other_pythons(version: str, tmp_path: Path) -> None:
    """All of the above at once, in each Python that the machine happens to have."""
    python = pythons.find(version)
    if python is None:
        pytest.skip(f"there is no Python {version} on this machine")
    results = {}
    for number, (code, _) in enumerate(CASES.values()):
        results[number] = environment(python, tmp_path / str(number)).run(code)
    assert results == {n: (0, expected, "") for n, (_, expected) in enumerate(CASES.values())}


def test_the_start_imports_the_hook_and_nothing_else(env: Environment) -> None:
    """What keeps the start of every Python fast; timing it here would only be flaky."""
    code = "import sys; print(*sys.modules)"
    with_hook = env.run(code).out.split()
    # Some Pythons import a codec to read any startup file at all.
    env.write("c7n_keyrot.pth", "# nothing\n")
    without = env.run(code).out.split()
    assert set(with_hook) - set(without) == {"c7n_keyrot", "c7n_keyrot.autoload"}


IMPORT = "import c7n.resources.iam as iam; print(hasattr(iam.User, 'ours'))"
LINE = "c7n-keyrot failed to load ("


@pytest.mark.parametrize(
    ("plugin", "cause"),
    [
        ("def register(", "SyntaxError: "),
        ("import c7n_gone", "ModuleNotFoundError: No module named 'c7n_gone'"),
        ("def register():\n    import c7n_gone", "ModuleNotFoundError: No module named 'c7n_gone'"),
        ("def register():\n    raise ValueError('a\\n  b')", "ValueError: a b"),
        ("", "AttributeError: module 'c7n_keyrot.custodian.elements.plugin' has no attribute "),
        (None, "ImportError: cannot import name 'plugin' from 'c7n_keyrot.custodian.elements'"),
    ],
)
def test_a_broken_plugin_costs_one_line(env: Environment, plugin: str | None, cause: str) -> None:
    if plugin is None:
        (env.site / "c7n_keyrot/custodian/elements/plugin.py").unlink()
    else:
        env.write("c7n_keyrot/custodian/elements/plugin.py", plugin)
    assert env.run("import c7n.resources.s3") == (0, "", "")
    code, out, err = env.run(IMPORT)
    assert (code, out, err.count("\n")) == (0, "False\n", 1)
    assert err.startswith(LINE + cause)
    code, out, err = env.run("import logging; logging.basicConfig(level=10)\n" + IMPORT)
    assert (code, out) == (0, "False\n")
    assert err.startswith("ERROR:custodian.keyrot:" + LINE + cause)
    assert "DEBUG:custodian.keyrot:" in err
    assert "Traceback (most recent call last):" in err


GONE = {
    "the hook": ["c7n_keyrot/autoload.py"],
    "all but a folder": ["c7n_keyrot/__init__.py", "c7n_keyrot/autoload.py"],
    "the package": ["c7n_keyrot"],
}
BROKEN = ["def install(", "import c7n_gone", "1 / 0", "\0"]


@pytest.mark.parametrize("what", [*GONE, *BROKEN])
def test_a_startup_file_without_what_it_imports_breaks_nothing(env: Environment, what: str) -> None:
    """Python's own words about the line go to stderr, and all goes on."""
    if what in GONE:
        for name in GONE[what]:
            path = env.site / name
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    else:
        env.write("c7n_keyrot/autoload.py", what)
    code, out, err = env.run(IMPORT)
    assert (code, out) == (0, "False\n")
    said = [line for line in err.splitlines() if line.startswith("Error processing line 1 of ")]
    assert said  # twice in a venv, where `site` reads the file twice
    assert all(line.endswith("c7n_keyrot.pth:") for line in said)


# What PEP 829 has Python 3.15 do, since there is none to be had everywhere: each line of the .start
# is resolved and called, and the import lines of the .pth of its name are passed over. A file that
# is met twice is obeyed twice.
PEP_829 = """
import pkgutil, sys
sys.path.append({site!r})
for _ in range({times}):
    for line in open({site!r} + "/c7n_keyrot.start", encoding="utf-8").read().splitlines():
        try:
            pkgutil.resolve_name(line)()
        except Exception as error:
            print("Error in", line, file=sys.stderr)
print(sum(type(finder).__module__ == "c7n_keyrot.autoload" for finder in sys.meta_path))
import c7n.resources.iam
"""


@pytest.mark.parametrize("times", [1, 2])
def test_start_file(env: Environment, times: int) -> None:
    code = PEP_829.format(site=str(env.site), times=times)
    assert env.run(code, "-S") == (0, "1\nregistered \n", "")


def test_start_file_without_the_package(env: Environment) -> None:
    (env.site / "c7n_keyrot" / "autoload.py").unlink()
    code = PEP_829.format(site=str(env.site), times=1)
    assert env.run(code, "-S") == (0, "0\n", "Error in c7n_keyrot.autoload:install\n")


def test_a_loader_that_takes_no_attributes_costs_one_line(env: Environment) -> None:
    code = """
    import importlib.util, sys
    class Loader:
        __slots__ = ()
        def create_module(self, spec):
            return None
        def exec_module(self, module):
            module.User = object
    class Theirs:
        def find_spec(self, name, path=None, target=None):
            if name == "c7n.resources.iam":
                return importlib.util.spec_from_loader(name, Loader())
    sys.meta_path.insert(1, Theirs())
    import c7n.resources.iam
    """
    code_, out, err = env.run(code)
    assert (code_, out, err.count("\n")) == (0, "", 1)
    assert err.startswith(LINE)


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_worker_processes_register(env: Environment, method: str) -> None:
    code = f"""
    import multiprocessing
    def work(_):
        from c7n.resources.iam import User
        return User.ours
    if __name__ == "__main__":
        with multiprocessing.get_context("{method}").Pool(1) as pool:
            print(pool.map(work, [0]))
    """
    code_, out, err = env.run(code)
    assert (code_, out.splitlines()[-1:], err) == (0, ["[True]"], "")


@pytest.mark.parametrize("flag", ["-S", "-I", "-E"])
def test_flags(env: Environment, flag: str) -> None:
    """`-S` leaves out site-packages altogether; the others don't matter to a startup file."""
    code = f"import sys; sys.path.append({str(env.site)!r}); {IMPORT}"
    expected = "False\n" if flag == "-S" else "registered \nTrue\n"
    assert env.run(code, flag) == (0, expected, "")
