#!/usr/bin/env bash
# Sourced by the other scripts: one virtual environment with the project in it.
# VENV says where (default .venv), PYTHON which interpreter (3.11 or newer).
cd "$(dirname "${BASH_SOURCE[0]}")/.."
VENV=${VENV:-.venv}
PYTHON=${PYTHON:-python3}
if ! "$PYTHON" -c 'import sys; sys.exit(sys.version_info < (3, 11))'; then
    echo "expected Python 3.11 or newer, found $("$PYTHON" --version); set PYTHON" >&2
    exit 1
fi
# the lock is of the oldest Python we run on; elsewhere setup.py's ranges decide
lock=()
if "$PYTHON" -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))'; then
    lock=(--constraint requirements.lock)
fi
[ -x "$VENV/bin/python" ] || "$PYTHON" -m venv "$VENV"
# shellcheck disable=SC1091
source "$VENV/bin/activate"
stamp="$VENV/.installed-${EXTRAS:-base}"
if [ ! -e "$stamp" ] || [ setup.py -nt "$stamp" ] || [ requirements.lock -nt "$stamp" ]; then
    echo "installing insgenel_jax into $VENV ..."
    python -m pip install --quiet --disable-pip-version-check "${lock[@]}" \
        --editable ".${EXTRAS:+[$EXTRAS]}"
    touch "$stamp"
fi
export JAX_COMPILATION_CACHE_DIR=${JAX_COMPILATION_CACHE_DIR:-$VIRTUAL_ENV/jax_cache}
export JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS=0.1
