"""The environment that services, builds and the keeper are given: what they need of the caller's, and no secret.

It is an allow-list: a variable that is not named here never reaches code that an agent may have written.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from sandbox.service import Service, fill

OWNER_VARIABLE: Final = "SPURLINE_OWNER"
"""Marks everything that one driver started, so that it can be found again when the driver was killed."""

_NAMES: Final = frozenset(
    {
        *("PATH", "HOME", "USER", "LOGNAME", "SHELL", "LANG", "LANGUAGE", "TZ", "TMPDIR", "XDG_CACHE_HOME"),
        *("SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "NODE_EXTRA_CA_CERTS"),
        *("VIRTUAL_ENV", "CONDA_PREFIX", "PYENV_ROOT", "RBENV_ROOT", "GEM_HOME", "NVM_DIR", "JAVA_HOME"),
        *("GOROOT", "GOPATH", "GOCACHE", "GOMODCACHE", "CARGO_HOME", "RUSTUP_HOME", "DOTNET_ROOT"),
        *("LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH"),
    }
)


def scrubbed(environ: Mapping[str, str]) -> dict[str, str]:
    """What of `environ` may be handed on."""
    return {name: value for name, value in environ.items() if name in _NAMES or name.startswith("LC_")}


def of_service(
    service: Service,
    caller: Mapping[str, str],
    *,
    address: Callable[[str], tuple[str, int]],
    port: int,
    owner: str,
) -> dict[str, str]:
    """The whole environment of one process of `service`; what the service sets itself wins, but for PORT.

    PYTHONUNBUFFERED is set because output goes to a file: a crash must not take the last lines along.
    """
    own = {name: fill(value, address, port) for name, value in service.env.items()}
    return {
        "PYTHONUNBUFFERED": "1",
        **scrubbed(caller),
        **own,
        "PORT": str(port),
        OWNER_VARIABLE: owner,
    }
