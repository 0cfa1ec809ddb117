"""The address of a cluster of Ray in; a connection to it out."""

from __future__ import annotations

import contextlib
import logging
import os
import socket
from collections.abc import Iterator
from typing import Any

from insgenel_jax.text.formats.rejects import InputError

WAIT = 10.0  # seconds that a cluster may take to answer


@contextlib.contextmanager
def connect(address: str) -> Iterator[Any]:
    """The module `ray`, connected to a cluster until the end.

    address: of a cluster that runs ("auto" finds the one of this machine), or "local"
    for one that is started for this. A connection that there is already is used, and
    left. Raises InputError where Ray is missing or no cluster answers.
    """
    try:
        import ray
    except ImportError as error:
        raise InputError(
            '--cluster needs Ray; pip install "insgenel_jax[cluster]"'
        ) from error
    began = not ray.is_initialized()
    if began:
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # nothing is reported
        try:
            _reach(address)
            options: dict[str, Any] = {"logging_level": logging.WARNING}
            if address == "local":
                options["include_dashboard"] = False
            ray.init(address, log_to_driver=False, **options)
        except (OSError, ValueError, RuntimeError) as error:
            raise InputError(
                f"--cluster {address}: expected the address of a cluster of Ray that "
                f'runs, found none ({error}); "ray start --head" starts one'
            ) from error
    try:
        yield ray
    finally:
        if began:
            ray.shutdown()


def _reach(address: str) -> None:
    """Raise OSError where nothing listens at HOST:PORT; Ray tries for many minutes."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if host:
        socket.create_connection((host, int(port)), WAIT).close()
