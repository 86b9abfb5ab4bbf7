"""An emulator with a state folder: storage, services, proxy, and the keeper that ends them all if the emulator is killed."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

from azureml_emulator.certificates import Certificates
from azureml_emulator.client_variables import client_variables, default_variables, way_variables
from azureml_emulator.identity.sign_in_routes import as_compute
from azureml_emulator.leftovers import end_leftovers
from azureml_emulator.process_commands import MARK, ProcessCommands
from azureml_emulator.rest.faults import Fault
from azureml_emulator.state_folder import EmulatorError, StateFolder
from azureml_emulator.storage.azurite import ACCOUNT, Azurite

if TYPE_CHECKING:
    from azureml_emulator.emulated_cloud import EmulatedCloud

_KEEP_SECONDS = 0.25
_ALONE_SECONDS = 1.0


@contextmanager
def running_emulator(
    state: StateFolder, port: int, faults: Sequence[Fault], workspaces: Sequence[str] = ()
) -> Iterator[int]:
    """Run an emulator; yield the port of the proxy.

    Args:
        state: Its state folder.
        port: Port of the proxy; 0 for any free one.
        faults: Faults that affect its first calls.
        workspaces: Names of workspaces to create besides the first one, unless they exist in the state.

    Raises:
        EmulatorError: the folder is in use or cannot be written, or the port is taken.
        AzuriteError: storage does not start.
    """
    with ExitStack() as stack:
        crashed = state.take()
        stack.callback(state.give_back)
        os.environ[MARK] = str(state.path)  # children inherit it
        if crashed:
            end_leftovers(state.path)
        stack.enter_context(_keeper(state))
        certificates = Certificates.make(state.tls)
        azurite = Azurite(folder=state.blobs, certificate=(certificates.key, certificates.chain)).launch()
        stack.callback(azurite.stop)
        # Importing the services takes as long as storage takes to start.
        cloud = _services(state, azurite, certificates)
        stack.callback(cloud.close)
        for fault in faults:
            cloud.faults.add(fault)
        azurite.wait()

        def restore(found: int) -> None:
            """Runs before anything responds, but after the address is known: processes that start again need it."""
            cloud.sites.network = way_variables(state, found)
            cloud.pages = f"http://127.0.0.1:{found}"
            cloud.jobs.identity = ProcessCommands().step_variables(
                {**default_variables(), **client_variables(state, found), **as_compute()}
            )
            if not cloud.restore():
                cloud.set_up()
                cloud.vision.set_up()
            for name in workspaces:
                if cloud.store.find(cloud.path(name)) is None:
                    cloud.add_workspace(name)
            cloud.keep()

        with _listening(cloud, certificates, port, restore) as found:
            stack.enter_context(_kept(cloud))
            state.announce(found)
            yield found


def _services(state: StateFolder, azurite: Azurite, certificates: Certificates) -> EmulatedCloud:
    from azureml_emulator.emulated_cloud import EmulatedCloud
    from azureml_emulator.rest.cloud_addresses import CloudAddresses

    if not state.database.exists():  # then containers will be created
        import azure.storage.blob  # noqa: F401
    cloud = EmulatedCloud(azurite, state.work, certificates, addresses=CloudAddresses.azure(), database=state.database)
    cloud.operations.alone = _ALONE_SECONDS
    return cloud


@contextmanager
def _listening(
    cloud: EmulatedCloud, certificates: Certificates, port: int, restore: Callable[[int], None]
) -> Iterator[int]:
    """Start the services, the page for browsers and the proxy, each on a port; yield that of the proxy.

    ``restore`` is called with that port while it is taken and nothing responds yet.
    """
    from starlette.applications import Starlette

    from azureml_emulator.https_server import HttpsServer, guarded
    from azureml_emulator.proxy.connect_proxy import ConnectProxy
    from azureml_emulator.proxy.host_directory import HostDirectory

    with ExitStack() as stack:
        services, page, registries = HttpsServer(certificates), HttpsServer(None), HttpsServer(certificates)
        hosts = HostDirectory(
            services.port,
            ACCOUNT,
            cloud.front.port_for_clients,
            cloud.port_of,
            registries.port,
            cloud.vision.answers_at,
        )
        try:
            proxy = ConnectProxy(hosts.port_of, page.port, port)
        except OSError as error:
            raise EmulatorError(
                f"the port {port} cannot be used: {error.strerror}\n  -> give another --port, or 0 for any free one"
            ) from error
        restore(proxy.port)
        stack.callback(services.start(guarded(cloud.routes(), cloud.rules)).stop)
        stack.callback(registries.start(cloud.registry_sign_in()).stop)
        stack.callback(page.start(Starlette(routes=cloud.page_routes())).stop)
        stack.callback(proxy.start().stop)
        yield proxy.port


@contextmanager
def _kept(cloud: EmulatedCloud) -> Iterator[None]:
    """Regularly save what changes without a call: jobs that end, servers that start."""
    ending = threading.Event()

    def keep() -> None:
        while not ending.wait(_KEEP_SECONDS):
            cloud.keep()

    thread = threading.Thread(target=keep, daemon=True, name="keeping")
    thread.start()
    try:
        yield
    finally:
        ending.set()
        thread.join()


@contextmanager
def _keeper(state: StateFolder) -> Iterator[None]:
    """Start a process that ends what this one has started, as soon as this one is gone."""
    environment = {name: value for name, value in os.environ.items() if name != MARK}
    keeper = subprocess.Popen(
        [sys.executable, "-m", "azureml_emulator.leftovers", str(state.path)],
        stdin=subprocess.PIPE,
        env=environment,
        start_new_session=True,
    )
    try:
        yield
    finally:
        assert keeper.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            keeper.stdin.close()
        keeper.wait(30)
