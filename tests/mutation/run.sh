#!/bin/bash
# Copyright The c7n-keyrot Authors.
# SPDX-License-Identifier: Apache-2.0
# Which changes of the code that decides on keys would no unit test notice? Prints those that
# survive; TESTING.md explains them. Needs .venv as `make test` leaves it, and time.
#
#   tests/mutation/run.sh [FOLDER]      (default: build/mutation; it is emptied)
set -euo pipefail
cd "$(dirname "$0")/../.."
packages=$("${PYTHON:-.venv/bin/python}" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
python=$(cd "$(dirname "${PYTHON:-.venv/bin/python}")" && pwd)/python
work=${1:-build/mutation}

rm -rf "$work"
mkdir -p "$work/tests"
cp -r c7n_keyrot embedded_aws "$work"
cp -r tests/unit tests/conftest.py "$work/tests"
cp tests/mutation/mutmut.toml "$work/pyproject.toml"
cd "$work"

# The installed wheel's startup file would load the package itself, before mutmut's copy of it. An
# environment that only looks into the other one's folder doesn't read that file.
"$python" -m venv venv
echo "$packages" >"$(venv/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/other.pth"
venv/bin/python -m pip --disable-pip-version-check install --quiet 'mutmut>=3.8,<4'

venv/bin/python -m mutmut run --max-children "${WORKERS:-2}" >log
tail -n 3 log | tr '\r' '\n' | tail -n 2
venv/bin/python -m mutmut results
