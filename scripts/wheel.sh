#!/usr/bin/env bash
# Makes target/wheels/rankbench-VERSION-py3-none-PLATFORM.whl of the built program.
set -euo pipefail
cd "$(dirname "$0")/.."
rm -rf target/wheels
.venv/bin/python -m pip --disable-pip-version-check wheel --quiet --no-deps --wheel-dir target/wheels ./python
ls target/wheels/*.whl
