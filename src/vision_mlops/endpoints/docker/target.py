"""Containers on this machine: one per endpoint, on a port of the loopback interface. The way on a compute instance.

A port cannot be shared, so a new version takes over in three steps: a trial on another port shows that it gets ready, the
old container finishes what it has accepted and ends, and the new one starts. Whatever fails, the old one keeps serving.
"""

from __future__ import annotations

import contextlib
import http.client
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from functools import cached_property

from vision_mlops.containers.container_engine import Container, Engine, open_engine
from vision_mlops.core.errors import DeploymentError
from vision_mlops.endpoints.contract import Access, Deployment, DeploymentRequest, Endpoint, EndpointStatus, Say, Target
from vision_mlops.endpoints.docker.container_launch import Launch, fact, own_labels
from vision_mlops.endpoints.docker.endpoint_folder import EndpointFolder
from vision_mlops.endpoints.docker.readiness import free_port, state_of, wait_until_ready
from vision_mlops.endpoints.inferencing_image import bake, identity, push_command, served_image
from vision_mlops.endpoints.polling import polls

_READY_SECONDS = 120.0
_KEY_SECONDS = 5.0


class DockerTarget(Target):
    """Containers, through the command line of a container engine."""

    name = "docker"
    options = frozenset({"port", "workers", "image", "bake", "cpu", "memory_gb", "environment", "timeout_s"})

    @cached_property
    def engine(self) -> Engine:
        """The engine of this machine."""
        return open_engine()

    def deploy(self, request: DeploymentRequest, say: Say) -> Endpoint:
        """See the base class. While a version replaces another one, there are some seconds without responses."""
        self._container(request.endpoint)
        folder = EndpointFolder(request.endpoint)
        fresh = not folder.path.exists()
        try:
            with folder.locked():
                self._deploy(request, folder, say)
        except BaseException:
            with contextlib.suppress(DeploymentError):  # what went wrong first is reported
                current = self._container(request.endpoint)
                if current is not None:
                    folder.keep_bundle(fact(current, "copy"))
                elif fresh:
                    folder.remove()
            raise
        return self.endpoint(request.endpoint)

    def endpoints(self) -> list[Endpoint]:
        """See the base class."""
        found = {fact(item, "endpoint"): item for item in self._containers() if not _is_passing(item)}
        return [_endpoint(name, item) for name, item in sorted(found.items())]

    def endpoint(self, name: str) -> Endpoint:
        """See the base class."""
        return _endpoint(name, self._existing(name))

    def access(self, name: str) -> Access:
        """See the base class."""
        container = self._existing(name)
        return Access(_url(container), {"X-Api-Key": EndpointFolder(name).keys()["primary"]})

    def logs(self, name: str, deployment: str, lines: int) -> str:
        """See the base class."""
        self.endpoint(name).deployment(deployment)
        return self.engine.logs(_container_name(name), lines)

    def set_tags(self, name: str, tags: Mapping[str, str]) -> None:
        """See the base class."""
        self._existing(name)
        EndpointFolder(name).set_tags(tags)

    def keys(self, name: str) -> Mapping[str, str]:
        """See the base class."""
        self._existing(name)
        return EndpointFolder(name).keys()

    def rotate_key(self, name: str, which: str) -> None:
        """See the base class. The server reads its keys once a second; this returns when it has them."""
        container = self._existing(name)
        key = EndpointFolder(name).rotate(which)
        for _ in polls(_KEY_SECONDS, 0.1, 0.1):
            if not container.running or _takes(int(fact(container, "port")), key):
                return
        raise DeploymentError(
            f"the key was changed, but the server does not accept it within {_KEY_SECONDS:.0f} s",
            f"see `mlops endpoint logs {name} --on docker`, or deploy again",
        )

    def delete(self, name: str) -> None:
        """See the base class. Requests under way are finished."""
        folder = EndpointFolder(name)
        if self._container(name) is None and not folder.path.exists():
            self._existing(name)
        with folder.locked():
            for container in self.engine.containers(own_labels(name)):
                if container.active:
                    self.engine.stop(container.id)
                self.engine.remove(container.id)
            folder.remove()

    # Deploying

    def _deploy(self, request: DeploymentRequest, folder: EndpointFolder, say: Say) -> None:
        self._recover(request.endpoint)
        folder.make_keys()
        launch = self._launch(request, folder, say)
        current = self._container(request.endpoint)
        timeout = request.options.timeout_s or _READY_SECONDS
        own = int(fact(current, "port")) if current is not None else 0
        wanted = request.options.port or own
        if current is None or wanted != own:
            self._move(current, launch, free_port(wanted), timeout, say)
        elif fact(current, "fingerprint") == launch.fingerprint and state_of(current)[0] is EndpointStatus.READY:
            say(f"{request.deployment} is deployed already, and ready")
            return
        else:
            port = own if current.active else free_port(own, f"which endpoint {request.endpoint!r} has")
            self._replace(current, launch, port, timeout, say)
        folder.keep_bundle(launch.bundle.name if launch.bundle is not None else "")
        if request.options.bake:
            say(f"{launch.image} holds the model; to use it elsewhere: {push_command(self.engine, launch.image)}")

    def _launch(self, request: DeploymentRequest, folder: EndpointFolder, say: Say) -> Launch:
        options, bundle = request.options, request.bundle()
        image = bake(self.engine, request, say) if options.bake else served_image(self.engine, options.image, say)
        mounted = None if options.bake else folder.copy_bundle(bundle)
        image_id = identity(self.engine, image)
        return Launch(request, image, image_id, folder.keys_path, mounted, self.engine.run_options)

    def _replace(self, current: Container, launch: Launch, port: int, timeout: float, say: Say) -> None:
        """Let a new container take over the port of the current one, if it becomes ready there, too."""
        following = _next_name(launch.request.endpoint)
        with self._undone(launch.request.endpoint):
            self._start_next(launch, free_port(None), timeout, trial=True)
            self.engine.remove(following)
            former = fact(current, "deployment")
            say(f"{launch.request.deployment} is ready to take over; {former} finishes its requests, and stops")

        def back() -> None:
            if current.active:
                self.engine.start(current.id)
                say(f"{fact(current, 'deployment')} serves again")

        with self._undone(launch.request.endpoint, back):
            self._create_next(launch, port, trial=False)
            if current.active:
                self.engine.stop(current.id)
            self.engine.start(following)
            wait_until_ready(self.engine, following, port, launch, timeout)
        self._take_place(launch.request.endpoint, current)

    def _move(self, current: Container | None, launch: Launch, port: int, timeout: float, say: Say) -> None:
        """Start a container on a free port, and end the one that there may be on another port."""
        with self._undone(launch.request.endpoint):
            self._start_next(launch, port, timeout, trial=False)
            say(f"{launch.request.deployment} is ready on port {port}")
        if current is not None and current.active:
            self.engine.stop(current.id)
        self._take_place(launch.request.endpoint, current)

    @contextlib.contextmanager
    def _undone(self, endpoint: str, back: Callable[[], None] = lambda: None) -> Iterator[None]:
        """Remove the next container if the block fails, also by Ctrl-C, and then go back."""
        try:
            yield
        except BaseException as error:
            with contextlib.suppress(DeploymentError):  # the next deployment will try again
                self.engine.remove(_next_name(endpoint))
            try:
                back()
            except DeploymentError as other:
                raise DeploymentError(f"{error}\nand the old container cannot be started again: {other}") from error
            raise

    def _create_next(self, launch: Launch, port: int, *, trial: bool) -> None:
        options = launch.options(port, trial=trial, host_network=self.engine.host_network)
        self.engine.create(_next_name(launch.request.endpoint), launch.image, options, launch.command())

    def _start_next(self, launch: Launch, port: int, timeout: float, *, trial: bool) -> None:
        self._create_next(launch, port, trial=trial)
        self.engine.start(_next_name(launch.request.endpoint))
        wait_until_ready(self.engine, _next_name(launch.request.endpoint), port, launch, timeout)

    def _take_place(self, endpoint: str, current: Container | None) -> None:
        """Make the next container the current one."""
        if current is not None:
            self.engine.remove(current.id)
        self.engine.rename(_next_name(endpoint), _container_name(endpoint))

    def _recover(self, endpoint: str) -> None:
        """Undo what a killed deployment has left behind, or complete it if it was almost done."""
        following = self.engine.find(_next_name(endpoint))
        current = self._container(endpoint)
        if following is None:
            return
        if fact(following, "trial") == "no" and following.running and (current is None or not current.active):
            self._take_place(endpoint, current)
            return
        self.engine.remove(following.id)
        if current is not None and not current.active and fact(following, "port") == fact(current, "port"):
            self.engine.start(current.id)

    # Containers

    def _containers(self) -> list[Container]:
        return self.engine.containers(own_labels())

    def _container(self, endpoint: str) -> Container | None:
        """Return the container of an endpoint. Raises DeploymentError if something else uses the name."""
        container = self.engine.find(_container_name(endpoint))
        if container is not None and any(
            container.labels.get(name) != value for name, value in own_labels(endpoint).items()
        ):
            home = container.labels.get("vision-mlops.home")
            whose = f"belongs to the endpoint of another folder, {home}" if home else "was not made by mlops"
            raise DeploymentError(
                f"the container {container.name} {whose}",
                "give another --endpoint" + (f", or use MLOPS_HOME={home}" if home else ""),
            )
        return container

    def _existing(self, endpoint: str) -> Container:
        container = self._container(endpoint)
        if container is None:
            known = ", ".join(item.name for item in self.endpoints()) or "none"
            raise DeploymentError(f"no endpoint {endpoint!r} exists on docker", f"known: {known}")
        return container


def open_target() -> DockerTarget:
    """Return the target; the engine is looked up when it is needed."""
    return DockerTarget()


def _container_name(endpoint: str) -> str:
    return f"mlops-{endpoint}"


def _next_name(endpoint: str) -> str:
    return f"mlops-{endpoint}.next"  # no endpoint can have this name


def _is_passing(container: Container) -> bool:
    return container.name.endswith(".next")


def _url(container: Container) -> str:
    return f"http://127.0.0.1:{fact(container, 'port')}/score"


def _endpoint(name: str, container: Container) -> Endpoint:
    state, problem = state_of(container)
    deployment = Deployment(
        fact(container, "deployment"), fact(container, "model"), fact(container, "version"), state, 100, problem=problem
    )
    return Endpoint(
        name, DockerTarget.name, state, _url(container), "key", (deployment,), problem, EndpointFolder(name).tags()
    )


def _takes(port: int, key: str) -> bool:
    try:
        with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=5)) as connection:
            connection.request("POST", "/score", b"", {"X-Api-Key": key})
            return connection.getresponse().status not in (401, 403)
    except (OSError, http.client.HTTPException):
        return False
