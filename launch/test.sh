#!/usr/bin/env bash
# Set up, then run the tests. Arguments go to pytest: launch/test.sh -m slow
set -euo pipefail
EXTRAS=test
source "$(dirname "${BASH_SOURCE[0]}")/setup.sh"
ruff format --check .
ruff check .
python -m pytest --numprocesses=auto --dist=loadfile "$@"
