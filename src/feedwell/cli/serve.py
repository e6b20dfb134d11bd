"""Serve feeds over HTTP: worker processes and the one projector, until interrupted."""

from __future__ import annotations

import logging
from typing import Annotated

import typer

from feedwell.cli._shared import HERE, EnvironmentOption, JsonOption, ProjectOption, show
from feedwell.core.errors import UsageError
from feedwell.serving.supervisor import Supervisor

_LOOPBACK = ("127.0.0.1", "::1", "localhost")


def command(
    host: Annotated[str | None, typer.Option(help="Default: [serving] host, the loopback.")] = None,
    port: Annotated[
        int | None, typer.Option(min=0, max=65535, help="Default: [serving] port; 0 takes a free one.")
    ] = None,
    workers: Annotated[int | None, typer.Option(min=1, max=256, help="Default: [serving] workers.")] = None,
    open_to_network: Annotated[
        bool,
        typer.Option("--open-to-network", help="Allow an address beyond the loopback: there is no authentication."),
    ] = False,
    project: ProjectOption = HERE,
    environment: EnvironmentOption = None,
    json: JsonOption = False,
) -> None:
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s %(message)s")
    supervisor = Supervisor(project, environment=environment, host=host, port=port, workers=workers)
    if supervisor.host not in _LOOPBACK and not open_to_network:
        raise UsageError(
            f"serving on {supervisor.host} would answer the network, and nothing authenticates callers; "
            "put a proxy in front of 127.0.0.1, or pass --open-to-network"
        )
    try:
        url = url_of(*supervisor.start())
        text = f"serving on {url}: GET {url}/v1/recommend/USER, pages at {url}/docs; Ctrl-C stops"
        told = {"url": url, "workers": supervisor.n_workers}
        supervisor.run(lambda: show(told, lambda out: out.print(text, markup=False), as_json=json))
    finally:
        supervisor.close()


def url_of(host: str, port: int) -> str:
    """The address to call; an IPv6 one in brackets.

    >>> url_of("::1", 8000)
    'http://[::1]:8000'
    """
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
