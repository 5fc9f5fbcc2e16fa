"""One running copy of a service, from its source to ready: checkout, build, start, wait. Baseline and forks alike.

A start that fails or is cancelled leaves nothing: no process, port, checkout or log.
"""

from __future__ import annotations

import os
import shlex
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from sandbox.confinement import Cage, confinement
from sandbox.driver import Source
from sandbox.local import environment, readiness
from sandbox.local.backlinks import leads_back
from sandbox.local.cages import Cages
from sandbox.local.checkouts import Checkout, Checkouts
from sandbox.local.guard import Guard
from sandbox.local.logfile import LogFile
from sandbox.local.ports import PortPool, is_listened_on
from sandbox.local.process import Process
from sandbox.local.together import unsplit
from sandbox.service import Service, fill
from tasks.errors import CheckoutError, SandboxError
from tasks.text import one_line

HOST: Final = "127.0.0.1"
TAIL_LINES: Final = 40
STOP_GRACE_S: Final = 5.0
BUILD_LIMIT_S: Final = 900.0
Address = Callable[[str], tuple[str, int]]
"""Host and port of a neighbour, through the router."""


class NotStarted(Exception):
    """The service did not get ready; becomes a BaselineError or a ForkError with the same facts."""

    def __init__(
        self, message: str, *, service: str, stage: Literal["build", "start"], log: tuple[str, ...], hint: str
    ) -> None:
        super().__init__(message)
        self.message, self.service, self.stage, self.log, self.hint = message, service, stage, log, hint


@dataclass(frozen=True, slots=True, eq=False)
class Workload:
    """A service that runs and was ready."""

    service: Service
    source: Source
    port: int
    process: Process
    checkout: Checkout | None
    ready_s: float
    build_s: float

    @property
    def address(self) -> str:
        return f"{HOST}:{self.port}"

    async def is_healthy(self) -> bool:
        """Whether the process lives and its probe succeeds now; a service that is ready by its log need only live."""
        if not self.process.alive:
            return False
        if self.service.ready.kind == "log":
            return True
        return await readiness.is_ready(self.service.ready, HOST, self.port, log=None) and self.process.alive


@dataclass(frozen=True, slots=True)
class _Setting:
    """Where and how one start happens."""

    service: Service
    root: Path
    """What is run: a checkout, or a folder."""
    env: Mapping[str, str]
    port: int
    address: Address
    log: LogFile
    cage: Cage | None
    build_cage: Cage | None

    @property
    def folder(self) -> Path:
        """The service's own."""
        return self.root / self.service.cwd

    @property
    def leads_out(self) -> bool:
        """Whether a symlink on the way to the service's folder leads to what is not part of what is run."""
        return not Path(os.path.realpath(self.folder)).is_relative_to(os.path.realpath(self.root))


class Launcher:
    """Starts and stops workloads with one driver's ports, checkouts, guard and cages. `environ` is the driver's."""

    def __init__(
        self,
        *,
        checkouts: Checkouts,
        ports: PortPool,
        guard: Guard,
        environ: Mapping[str, str],
        cages: Cages,
    ) -> None:
        self.checkouts = checkouts
        self._ports, self._guard, self._environ, self._cages = ports, guard, environ, cages
        self._live: set[Workload] = set()

    def port(self) -> int:
        """A port for a workload that is started later."""
        return self._ports.take()

    def give_back(self, port: int) -> None:
        self._ports.give_back(port)

    async def start(
        self,
        service: Service,
        source: Source,
        *,
        address: Address,
        log: LogFile,
        port: int | None = None,
        baseline: bool = False,
        on_run: Callable[[], None] = lambda: None,
    ) -> Workload:
        """Start and wait. Raises NotStarted, CheckoutError, SandboxError. A `port` of the caller's is given back too
        when the workload stops or fails. `baseline`: it is the baseline's, which shares no checkout with forks and runs
        as the team starts it; a fork is built and run in a cage, where one can be made. `on_run` is told when the
        process runs."""
        port = self._ports.take() if port is None else port
        checkout: Checkout | None = None
        process: Process | None = None
        try:
            checkout = await self._checkout(service, source, baseline=baseline)
            folder = checkout.root if checkout else source.folder
            assert folder is not None
            env = environment.of_service(service, self._environ, address=address, port=port, owner=self._guard.owner)
            confined = service.confine and not baseline
            cage, build_cage = self._caged(service, checkout, folder) if confined else (None, None)
            if not baseline and (cage is None or confinement() == "none"):
                self._must_lead_nowhere(checkout)
            setting = _Setting(service, folder, env, port, address, log, cage, build_cage)
            # A build may listen there itself, as the service will.
            self._ports.let_go(port)
            build_s = await self._build(setting)
            process = self._spawn(setting)
            on_run()
            ready_s = await self._wait(setting, process)
            workload = Workload(service, source, port, process, checkout, ready_s, build_s)
            self._live.add(workload)
            return workload
        except BaseException:
            await unsplit(self._undo(port, process, checkout, log))
            raise

    async def stop(self, workload: Workload, *, grace_s: float = STOP_GRACE_S) -> None:
        """End the group and give everything back but the log; once, however often it is called."""
        if workload not in self._live:
            return
        self._live.discard(workload)
        await workload.process.stop(grace_s=grace_s)
        self._ports.give_back(workload.port)
        if workload.checkout is not None:
            await self.checkouts.give_back(workload.checkout)

    async def _checkout(self, service: Service, source: Source, *, baseline: bool) -> Checkout | None:
        if source.commit is None:
            return None
        return await self.checkouts.take(
            source.commit,
            links=service.link,
            private=service.build is not None,
            baseline=baseline,
            service=service.name,
        )

    def _must_lead_nowhere(self, checkout: Checkout | None) -> None:
        """CheckoutError where a linked folder leads back to the work tree, which a cage would hide: the fork would run
        the code that lies there instead of the commit's."""
        worktree = self._cages.git.worktree
        for link in checkout.links if checkout is not None else ():
            if worktree is not None and (place := leads_back(link, worktree)) is not None:
                raise CheckoutError(
                    f"it would run code of the work tree, to which {str(place)!r} leads",
                    hint="install without --editable or workspaces; or, where bubblewrap works, let it be confined",
                )

    def _caged(self, service: Service, checkout: Checkout | None, folder: Path) -> tuple[Cage, Cage]:
        """The cages of a workload and of its build."""
        if checkout is None:
            cage = self._cages.of_folder(folder)
            return cage, cage
        return self._cages.of_checkout(service, checkout), self._cages.of_build(checkout)

    async def _undo(self, port: int, process: Process | None, checkout: Checkout | None, log: LogFile) -> None:
        if process is not None:
            await process.stop(grace_s=0)
        self._ports.give_back(port)
        log.remove()
        if checkout is not None:
            await self.checkouts.give_back(checkout)

    async def _build(self, setting: _Setting) -> float:
        """Run the build command; the seconds it took."""
        service = setting.service
        if service.build is None:
            return 0.0
        began = time.monotonic()
        log = LogFile(setting.log.path.with_suffix(".build"))
        try:
            process = self._execute(["/bin/sh", "-c", service.build], setting, log, setting.build_cage, stage="build")
            try:
                code = await process.wait_at_most(BUILD_LIMIT_S)
            finally:
                await unsplit(process.stop(grace_s=0))
            if code != 0:
                why = process.ended() if code is not None else f"took longer than {BUILD_LIMIT_S:.0f} s"
                raise NotStarted(
                    f"the build of {service.name!r} ({one_line(service.build)}) {why}",
                    service=service.name,
                    stage="build",
                    log=log.tail(TAIL_LINES),
                    hint="the last lines that it wrote say why",
                )
        finally:
            log.remove()
        if is_listened_on(setting.port):
            # A build takes minutes, and whoever came meanwhile would answer for the service.
            raise SandboxError(
                f"somebody listens on port {setting.port}, which {service.name!r} was to have when it was built",
                hint="let its build end what it starts; another program may also have taken the port: try again",
            )
        return time.monotonic() - began

    def _spawn(self, setting: _Setting) -> Process:
        argv = [fill(part, setting.address, setting.port) for part in setting.service.command]
        return self._execute(argv, setting, setting.log, setting.cage, stage="start")

    def _execute(
        self,
        argv: list[str],
        setting: _Setting,
        log: LogFile,
        cage: Cage | None,
        *,
        stage: Literal["build", "start"],
    ) -> Process:
        name, cwd = setting.service.name, setting.service.cwd

        def not_started(message: str, hint: str) -> NotStarted:
            return NotStarted(message, service=name, stage=stage, log=(), hint=hint)

        if not setting.folder.is_dir():
            raise not_started(
                f"the folder {cwd!r} of {name!r} does not exist in what it is to run",
                f"see `cwd` of {name!r} in spurline.yaml",
            )
        if setting.leads_out:
            raise not_started(
                f"the folder {cwd!r} of {name!r} leads out of what it is to run",
                "it is a symlink, or lies in one: make it a folder",
            )
        try:
            return Process.start(argv, cwd=setting.folder, env=setting.env, log=log, guard=self._guard, cage=cage)
        except FileNotFoundError:
            raise not_started(
                f"the command {argv[0]!r} of {name!r} was not found",
                f"it is looked up in PATH={setting.env.get('PATH', '')}, or with a slash in it from {cwd!r}",
            ) from None
        except PermissionError as error:
            if error.filename == str(log.path):
                raise SandboxError(
                    f"the log {str(log.path)!r} cannot be written: {error.strerror}",
                    hint="the state folder must be writable",
                ) from error
            raise not_started(
                f"the command {argv[0]!r} of {name!r} cannot be executed: {error.strerror}", "make it executable"
            ) from None
        except OSError as error:
            raise SandboxError(
                f"{name!r} cannot be started ({shlex.join(argv)}): {error.strerror}",
                hint="the machine is short of disk, memory, processes or open files",
            ) from error

    async def _wait(self, setting: _Setting, process: Process) -> float:
        """The seconds from the start of the process to ready."""
        service, port = setting.service, setting.port
        if await readiness.wait_ready(service.ready, HOST, port, process=process, log=setting.log):
            return time.monotonic() - process.started
        if process.alive:
            message = (
                f"{service.name!r} was not ready within {service.ready.timeout_s:g} s: "
                f"no answer to its probe, {readiness.shown(service.ready, port)}"
            )
            hint = f"it must listen on 127.0.0.1 at the port in $PORT (here {port}); or raise `ready.timeout`"
        else:
            message = f"{service.name!r} {process.ended()} before it was ready"
            hint = "the last lines that it wrote say why"
        raise NotStarted(message, service=service.name, stage="start", log=setting.log.tail(TAIL_LINES), hint=hint)
