"""One slot of a web app: its settings, what is deployed to it, its two addresses, and the process that responds."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from azureml_emulator.app_service.site_content import SiteContent
from azureml_emulator.app_service.site_front import site_front
from azureml_emulator.app_service.site_process import SiteLaunch, SiteProcess
from azureml_emulator.certificates import Certificates
from azureml_emulator.https_server import HttpsServer
from azureml_emulator.rest.rest_calls import Json

PRODUCTION = "production"
_REFERENCE = "@Microsoft.KeyVault(SecretUri="
_SWAPPED = ("linuxFxVersion", "appCommandLine", "healthCheckPath")


@dataclass(frozen=True)
class SiteImage:
    """An image in a registry.

    Attributes:
        command: Command that is run instead of the image.
        private: Whether it can only be pulled with the identity of the web app.
    """

    command: tuple[str, ...]
    private: bool = True


@dataclass(frozen=True)
class Surroundings:
    """What all slots share.

    Attributes:
        folder: Where they may write.
        certificates: Certificates of their addresses.
        images: Images that can be pulled, by name.
        secret: Returns the value of a secret of the key vault by its address; None if there is none.
        variables: Variables of every process, unless the settings override them.
        start_seconds: How long a start may take.
        hosts: Host names of a site and of its publishing site, by the names of site and slot; None if it only has ports.
    """

    folder: Path
    certificates: Certificates
    images: Mapping[str, SiteImage]
    secret: Callable[[str], str | None]
    variables: Mapping[str, str]
    start_seconds: Callable[[], float]
    hosts: Callable[[str, str], tuple[str, str] | None] = lambda site, slot: None


@dataclass
class Release:
    """The part of a slot that moves when slots are swapped."""

    content: SiteContent | None = None
    process: SiteProcess | None = None
    config: Json = field(default_factory=dict)
    settings: dict[str, str] = field(default_factory=dict)


class SiteSlot:
    """A slot that really runs what is deployed to it.

    Args:
        site: Name of the web app.
        name: Name of the slot; ``production`` for the web app itself.
        around: What it shares with others.
        publishing: Creates the application of its publishing site.
        folder: Its own folder, if it already has one.
    """

    def __init__(
        self,
        site: str,
        name: str,
        around: Surroundings,
        publishing: Callable[[SiteSlot], object],
        folder: Path | None = None,
    ) -> None:
        self.site = site
        self.name = name
        self.principal = str(uuid.uuid4())
        self.body: Json = {}
        self.policies: dict[str, bool] = {"scm": True, "ftp": True}
        self.config: Json = {"alwaysOn": False, "minTlsVersion": "1.2", "ftpsState": "FtpsOnly", "appCommandLine": ""}
        self.settings: dict[str, str] = {}
        self.content: SiteContent | None = None
        self.running = True
        self._around = around
        self._lock = threading.RLock()
        self._process: SiteProcess | None = None
        self._next: SiteProcess | None = None
        self.folder = folder or around.folder / f"site-{uuid.uuid4().hex[:8]}"
        self.folder.mkdir(parents=True, exist_ok=True)
        self.log_file = self.folder / "docker.log"
        self.log_file.touch()
        self._front = HttpsServer(around.certificates).start(site_front(self.port))
        self._publishing = HttpsServer(around.certificates).start(publishing(self))
        own = (self._front.url.removeprefix("https://"), self._publishing.url.removeprefix("https://"))
        self.host, self.publishing_host = around.hosts(site, name) or own
        self.ports = {self.host: self._front.port, self.publishing_host: self._publishing.port}

    def to_kept(self) -> Json:
        """Return its state as JSON; what is deployed to it is in its folder."""
        content = self.content
        return {
            "site": self.site,
            "name": self.name,
            "folder": str(self.folder),
            "principal": self.principal,
            "body": self.body,
            "policies": self.policies,
            "config": self.config,
            "settings": self.settings,
            "running": self.running,
            "content": [str(content.folder), str(content.environment)] if content else None,
        }

    def take(self, kept: Json) -> None:
        """Restore what :meth:`to_kept` returned, and run it."""
        for name in ("principal", "body", "policies", "config", "settings", "running"):
            setattr(self, name, kept[name])
        if kept["content"]:
            self.content = SiteContent(*map(Path, kept["content"]))
        self.restart()

    @property
    def image(self) -> str:
        """Return the image that it runs; empty if it runs a zip."""
        kind, _, image = str(self.config.get("linuxFxVersion") or "").partition("|")
        return image if kind.upper() == "DOCKER" else ""

    def port(self) -> int | None:
        """Return the port of its process; 0 if it does not respond, None if there is none."""
        with self._lock:
            if self._process is None:
                if self.running and self._next is None:
                    return None
                return 0
            return self._process.port if self._process.state == "running" and self.running else 0

    @property
    def is_settled(self) -> bool:
        """Return whether no start is in progress."""
        with self._lock:
            return self._next is None

    @property
    def answers(self) -> bool:
        """Return whether something responds at its address, even if nothing was deployed."""
        return self.port() != 0

    def log(self) -> str:
        """Return everything that its processes have written, and what the service reports about them."""
        return self.log_file.read_text(encoding="utf-8", errors="replace")

    def restart(self) -> None:
        """Start what is deployed, with the current settings; the running process responds until the new one does."""
        with self._lock:
            if self._next is not None:
                self._next.stop()
                self._next = None
            launch = self._launch() if self.running else None
            if launch is None:
                if self._process is not None:
                    self._process.stop()
                self._process = None
                return
            self._next = SiteProcess(launch, self.log_file, self._around.start_seconds(), self._settled)

    def stop(self) -> None:
        """End its processes; its addresses stay."""
        for process in (self._next, self._process):
            if process is not None:
                process.stop()
        with self._lock:
            self._next = self._process = None

    def close(self) -> None:
        """End everything."""
        self.stop()
        self._front.stop()
        self._publishing.stop()

    def take_release(self, other: SiteSlot, sticky: set[str]) -> None:
        """Exchange with another slot what is deployed and what runs; sticky settings stay where they are."""
        with self._lock, other._lock:
            ours, theirs = self._release(sticky), other._release(sticky)
            self._put_release(theirs, sticky)
            other._put_release(ours, sticky)

    def _release(self, sticky: set[str]) -> Release:
        moving = {name: value for name, value in self.settings.items() if name not in sticky}
        config = {name: self.config.get(name) for name in _SWAPPED}
        return Release(self.content, self._process, config, moving)

    def _put_release(self, release: Release, sticky: set[str]) -> None:
        staying = {name: value for name, value in self.settings.items() if name in sticky}
        self.content, self._process = release.content, release.process
        self.config.update(release.config)
        self.settings = {**release.settings, **staying}

    def _settled(self, process: SiteProcess) -> None:
        with self._lock:
            if process is not self._next:
                return
            former, self._process, self._next = self._process, process, None
        if former is not None:
            former.stop()

    def _launch(self) -> SiteLaunch | None:
        """Return what to start; None if there is nothing, or if it may not be pulled."""
        health = str(self.config.get("healthCheckPath") or "")
        if self.image:
            image = self._around.images.get(self.image)
            if image is None:
                return self._no_pull(f"manifest for {self.image} not found: manifest unknown")
            if image.private and not (self.config.get("acrUseManagedIdentityCreds") and self.body.get("identity")):
                return self._no_pull(f"{self.image}: unauthorized: authentication required")
            return SiteLaunch(image.command, self._variables(None), self.folder, health)
        if self.content is None:
            return None
        command = str(self.config.get("appCommandLine") or "") or "gunicorn --bind=0.0.0.0:$PORT app:app"
        return SiteLaunch(("/bin/sh", "-c", command), self._variables(self.content), self.content.folder, health)

    def _no_pull(self, reason: str) -> SiteLaunch:
        """Return a launch that reports, at each attempt, why the image cannot be started."""
        return SiteLaunch(("/bin/sh", "-c", 'echo "$0"; exit 1', f"Image pull failed: {reason}"), {}, self.folder)

    def _variables(self, content: SiteContent | None) -> dict[str, str]:
        path = "/usr/local/bin:/usr/bin:/bin"
        given = {name: self._resolved(name, value) for name, value in self.settings.items()}
        own = {
            "PATH": f"{content.environment / 'bin'}:{path}" if content else path,
            "HOME": str(self.folder),
            "LANG": "C.UTF-8",
            "WEBSITE_SITE_NAME": self.site,
            "WEBSITE_SLOT_NAME": self.name,
            "WEBSITE_HOSTNAME": self.host,
            "WEBSITE_INSTANCE_ID": self.principal,
            **self._around.variables,
        }
        return {**own, **given}

    def _resolved(self, name: str, value: str) -> str:
        """Return the value of a setting; a reference to an unreadable secret stays as it is, as in the service."""
        if not value.startswith(_REFERENCE):
            return value
        found = self._around.secret(value.removeprefix(_REFERENCE).rstrip(")"))
        if found is None:
            self._note(f"Key Vault reference of {name} was not resolved")
        return value if found is None else found

    def _note(self, text: str) -> None:
        with self.log_file.open("a", encoding="utf-8") as log:
            log.write(f"{text}\n")
