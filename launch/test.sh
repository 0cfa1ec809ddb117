#!/usr/bin/env bash
# Set up, check format, lint and types, then run the tests.
# Arguments go to pytest, for example: bash launch/test.sh -m slow
set -euo pipefail
# shellcheck disable=SC2034  # setup.sh reads it
EXTRAS="test"
# shellcheck source=launch/setup.sh
source "$(dirname "${BASH_SOURCE[0]}")/setup.sh"
ruff format --check .
ruff check .
mypy
python -m pytest --numprocesses=auto --dist=loadfile "$@"
