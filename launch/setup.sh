#!/usr/bin/env bash
# The other scripts source this file. It installs the project into a virtual environment,
# activates it, and goes to the repository's root. What it reads from the environment:
#   VENV    the virtual environment's folder (default .venv)
#   PYTHON  the interpreter that makes it, 3.11 or newer (default python3)
#   EXTRAS  extras of setup.py to install, for example "test" (default none)
cd "$(dirname "${BASH_SOURCE[0]}")/.." || exit 1
VENV=${VENV:-.venv}
PYTHON=${PYTHON:-python3}
if ! "$PYTHON" -c 'import sys; sys.exit(sys.version_info < (3, 11))'; then
    echo "expected Python 3.11 or newer, found $("$PYTHON" --version); set PYTHON" >&2
    exit 1
fi
# The lock holds for Python 3.11 alone; on a newer one setup.py's ranges decide.
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
