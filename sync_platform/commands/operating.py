"""Commands that run an installation: `sandbox`, `gateway`, `worker`, `up`, `down`, `status`, `doctor`."""

from __future__ import annotations

import os
from typing import Annotated

import typer

from sync_platform.commands.invocation import PUBLIC_URL, Json, ProjectDir, answering, project_of, public_address

operating = typer.Typer()


@operating.command()
def sandbox(
    port: Annotated[int, typer.Option(help="Port on 127.0.0.1.")] = 8900,
    seed: Annotated[int, typer.Option(help="Feeds the sandbox's randomness.")] = 7,
    env: Annotated[bool, typer.Option("--env", help="Start nothing; print KEY=value lines.")] = False,
    json: Json = False,
) -> None:
    """Serve the simulated systems, or print the variables that point at them."""
    with answering(json) as output:
        from sync_platform.sandbox.server import env_lines, serve

        if env:
            lines = env_lines(port)
            output.show(dict(line.split("=", 1) for line in lines), lambda: print("\n".join(lines)))
        else:
            serve(port, seed=seed)


@operating.command()
def gateway(
    port: Annotated[int, typer.Option(help="Port to listen on.")] = 8787,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    public_url: Annotated[
        str | None,
        typer.Option(envvar=PUBLIC_URL, help="What vendors call, where a proxy stands before the gateway."),
    ] = None,
    max_body: Annotated[int, typer.Option(help="Largest webhook taken, in bytes.", min=1)] = 1_048_576,
    rate: Annotated[float, typer.Option(help="Webhooks a second taken of one connection.", min=1)] = 10_000,
    project: ProjectDir = None,
    json: Json = False,
) -> None:
    """Take webhooks in: verify, store, answer; also /healthz, /readyz and /metrics."""
    with answering(json):
        from sync_platform.realtime.gateway import Settings
        from sync_platform.realtime.serve import serve

        loaded = project_of(project)
        settings = Settings(public_url=public_address(public_url), max_body=max_body, rate=rate)
        serve(loaded, settings, host=host, port=port)


@operating.command()
def worker(
    concurrency: Annotated[int, typer.Option(help="Batches delivered at the same time.", min=1, max=32)] = 2,
    project: ProjectDir = None,
    json: Json = False,
) -> None:
    """Deliver events as they arrive; SIGTERM finishes what is under way first. Several workers may run."""
    with answering(json):
        # a batch is a handful of rows: handing them to a pool of threads costs more than working on them
        os.environ.setdefault("POLARS_MAX_THREADS", "1")
        from sync_platform.commands.working import work

        work(project_of(project), concurrency)


@operating.command()
def up(
    port: Annotated[int, typer.Option(help="Port of the Dagster UI.")] = 3000,
    with_sandbox: Annotated[bool, typer.Option("--sandbox", help="Start the sandbox, too.")] = False,
    sandbox_port: Annotated[int, typer.Option(help="Port of the sandbox.")] = 8900,
    gateway_port: Annotated[int, typer.Option(help="Port of the gateway that takes webhooks.")] = 8787,
    project: ProjectDir = None,
    json: Json = False,
) -> None:
    """Start state, gateway, worker, Dagster's UI and daemon (and the sandbox); print one line per service."""
    with answering(json) as output:
        from sync_platform.commands.services import Ports, show_services, start_all

        ports = Ports(ui=port, gateway=gateway_port, sandbox=sandbox_port if with_sandbox else None)
        services = start_all(project_of(project), ports)
        output.show({"services": services}, lambda: show_services(services))


@operating.command()
def down(json: Json = False) -> None:
    """Stop everything `up` started, and nothing else."""
    with answering(json) as output:
        from sync_platform.commands.services import stop_all

        stopped = stop_all()
        output.show(
            {"stopped": stopped}, lambda: print("\n".join(f"stopped {name}" for name in stopped) or "nothing runs")
        )


@operating.command()
def status(project: ProjectDir = None, json: Json = False) -> None:
    """Show the services and, per sync, its last run, next run and open dead letters."""
    with answering(json) as output:
        from sync_platform.commands.services import show_status, status_document

        document = status_document(project_of(project))
        output.show(document, lambda: show_status(document))


@operating.command()
def doctor(project: ProjectDir = None, json: Json = False) -> None:
    """Look at everything a sync needs: state, lake, connections, disk; say what is wrong and the mend."""
    with answering(json) as output:
        from sync_platform.commands.doctor import examine, show_findings

        findings = examine(project_of(project))
        output.show({"ok": all(one["ok"] for one in findings), "findings": findings}, lambda: show_findings(findings))
        raise SystemExit(0 if all(one["ok"] for one in findings) else 3)
