# Copyright The c7n-keyrot Authors.
# SPDX-License-Identifier: Apache-2.0
"""Adds the pack to Cloud Custodian when Custodian imports its IAM resources, and not before.

Custodian loads no plugins from outside, so this module installs its import hook when it is
imported: by the startup file ``c7n_keyrot.pth`` at every start of Python up to 3.14 (newer ones
call ``install()``, as ``c7n_keyrot.start`` says), by the command ``c7n-keyrot``, and in Lambda.
That is why nothing but ``sys`` is imported here at module level, and why annotations are strings:
``typing`` alone would cost more than all of this.
"""

import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from importlib.machinery import ModuleSpec
    from types import ModuleType
    from typing import Any

TARGET = "c7n.resources.iam"


class Finder:
    """Finds ``TARGET`` by means of the finders after it, and has it followed by ``register()``."""

    def find_spec(
        self,
        fullname: str,
        path: "Sequence[str] | None" = None,
        target: "ModuleType | None" = None,
    ) -> "ModuleSpec | None":
        """The spec that Python would have found without this finder; None for other modules."""
        if fullname != TARGET:
            return None
        # Those in front have been asked already; to ask them again could go round in circles.
        finders = sys.meta_path
        later = finders[finders.index(self) + 1 :] if self in finders else finders
        for finder in later:
            find_spec = getattr(finder, "find_spec", None)
            spec: ModuleSpec | None = find_spec and find_spec(fullname, path, target)
            if spec is not None:
                try:
                    ExecThenRegister(spec.loader)
                # Such as a loader that takes no attributes.
                except Exception as error:  # noqa: BLE001 - c7n must go on, whatever it is
                    log_failure(error)
                return spec
        return None


class ExecThenRegister:
    """Stands in for one loader's ``exec_module``; a class, not a closure: loaders get pickled.

    The loader itself stays, so what else it does (``get_source``, ``get_data``) goes on, and
    whoever checks its type finds what they expect.
    """

    def __init__(self, loader: "Any") -> None:
        self.loader = loader
        before = vars(loader).get("exec_module")
        # Already there if the same loader was found before and hasn't been used yet.
        self.before: Any = before.before if isinstance(before, ExecThenRegister) else before
        loader.exec_module = self

    def __call__(self, module: "ModuleType") -> None:
        # Removed first. So the loader is as it was for whoever inspects it afterwards, and one
        # that hands attributes on to a loader inside it (wrapt's) doesn't end up here for ever.
        if self.before is None:
            vars(self.loader).pop("exec_module", None)
        else:
            self.loader.exec_module = self.before
        self.loader.exec_module(module)
        # A loader may serve more modules: zipimport has one for all modules of a folder.
        if module.__name__ == TARGET:
            register()


def register() -> None:
    """Add the pack to Custodian. A failure is logged, never raised: c7n goes on without it."""
    try:
        from c7n_keyrot.custodian.elements import plugin

        plugin.register()
    except Exception as error:  # noqa: BLE001 - c7n must go on, whatever it is
        log_failure(error)


def log_failure(error: Exception) -> None:
    """Log in one line that the pack failed to load; the traceback at debug level."""
    import logging

    log = logging.getLogger("custodian.keyrot")
    log.error(
        "c7n-keyrot failed to load (%s: %s): stale-access-key and its other filters and actions "
        "are unavailable; install a version that is compatible with this c7n",
        type(error).__name__,
        " ".join(str(error).split()),
    )
    log.debug("c7n-keyrot could not be loaded", exc_info=error)


def install() -> None:
    """Install the hook. Again is harmless: ``site`` reads a ``.pth`` file twice in some venvs."""
    # By the module's name, so that not even a reload of this module adds a second one.
    if any(type(finder).__module__ == __name__ for finder in sys.meta_path):
        return
    # In front: after Python's own finder it would never be asked.
    sys.meta_path.insert(0, Finder())
    if TARGET in sys.modules:
        register()


# What the startup file does must be one import, without any other code.
install()
