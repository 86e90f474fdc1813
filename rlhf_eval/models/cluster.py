"""A Ray cluster: joined where there is one, started on this machine where there is none.

Source: docs.ray.io, "ray.init".
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from rlhf_eval.errors import UserError

_OBJECTS = 200 * 2**20
"""Bytes of shared memory for a cluster of this machine: texts and numbers travel, no weights."""
_SETTINGS = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_BACKEND_LOG_LEVEL": "fatal",
    "RAY_worker_niceness": "0",  # the workers are the work, nothing to be nice to
    "RAY_ENABLE_AUTO_CONNECT": "0",  # a call after the end would start another cluster
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
}


class Lease:
    """A use of the cluster; the last one that ends stops a cluster that was started here."""

    _own = 0

    def __init__(self, ray: Any, *, own: bool) -> None:
        self._ray, self._mine = ray, own
        Lease._own += own

    def end(self) -> None:
        """The cluster is not needed any more."""
        mine, self._mine = self._mine, False
        Lease._own -= mine
        if mine and not Lease._own:
            self._ray.shutdown()

    @classmethod
    def others(cls) -> bool:
        """Whether a cluster that was started here is in use."""
        return cls._own > 0


def library(asker: str, module: str = "ray") -> Any:
    """Import Ray, or a part of it; raises UserError with the command that installs it, which ``asker`` needs."""
    from importlib import import_module

    for name, value in _SETTINGS.items():  # Ray reads them as it is imported
        os.environ.setdefault(name, value)
    try:
        import_module(module)
        return import_module("ray")
    except ImportError as error:
        raise UserError(f"{asker} needs Ray: pip install 'rlhf-eval[ray]'") from error


def join(ray: Any, address: str, workers: int | None = None) -> Lease:
    """Connect to the cluster at ``address``, or start one of ``workers`` CPUs here, unless it had been done.

    Raises UserError where there is no cluster.
    """
    if ray.is_initialized():
        return Lease(ray, own=Lease.others())
    settings: dict[str, Any] = {"log_to_driver": False, "logging_level": "ERROR"}
    if address:
        settings["address"] = address
    else:
        local = {"num_cpus": workers, "object_store_memory": _OBJECTS, "include_dashboard": False}
        settings |= {key: value for key, value in local.items() if value is not None}
    try:
        with _unheard():
            ray.init(**settings)
    except (ConnectionError, RuntimeError, ValueError) as error:
        where = address or "this machine"
        raise UserError(f"no Ray cluster at {where}: {str(error).splitlines()[0]}") from error
    except BaseException:  # Ctrl-C while it starts: half a cluster is none
        ray.shutdown()
        raise
    return Lease(ray, own=True)


@contextmanager
def _unheard() -> Iterator[None]:
    """Keep standard error from Ray's native code, which says there what log level it was given; failures are raised."""
    kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)
