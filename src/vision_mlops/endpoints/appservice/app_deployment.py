"""Deploys a release of the web frontend: into a slot, tested there, swapped in, tested again, and swapped back if it fails.

Every step first looks at the current state, so that the same command continues where it stopped, and changes nothing if
there is nothing to change.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, NoReturn

from vision_mlops.config.azure_settings import AzureSettings
from vision_mlops.core.errors import AzureError, DeploymentError, MlopsError
from vision_mlops.endpoints.appservice.role_commands import role_commands
from vision_mlops.endpoints.appservice.site_definition import (
    RELEASE,
    SECRETS,
    SKU,
    TAG,
    WantedApp,
    check,
    fixed_settings,
    has_slots,
    plan_definition,
    release_settings,
    site_definition,
)
from vision_mlops.endpoints.appservice.site_health import problem_of
from vision_mlops.endpoints.appservice.web_apps import PRODUCTION, SlotAddress, WebApps, address
from vision_mlops.endpoints.appservice.zip_publishing import Publishing
from vision_mlops.endpoints.contract import Say
from vision_mlops.endpoints.polling import polls

if TYPE_CHECKING:
    from azure.mgmt.web.models import AppServicePlan

_LOG_LINES = 20
_SWAPPED_SECONDS = 60.0
_AGAIN_SECONDS = 60.0


@dataclass(frozen=True)
class DeployedApp:
    """The result of a deployment.

    Attributes:
        name: Of the web app.
        url: Address of the release: of the web app, or of the slot if it was not swapped in.
        release: The release at that address.
        changed: Whether it was deployed now.
        slot: Slot with the former release; empty without slots.
        roles: Commands that assign the roles that its identities need.
    """

    name: str
    url: str
    release: str
    changed: bool
    slot: str
    roles: tuple[str, ...]


class AppDeployment:
    """Deploys one web app.

    Args:
        wanted: Its wanted state.
        settings: Where in Azure.
        say: Gets progress messages.
        seconds: How long a zip may take to build, and an app to become healthy.
        swap: Whether to swap the release in once it is healthy in the slot.

    Raises:
        DeploymentError: a name, size or setting is not valid.
    """

    def __init__(
        self, wanted: WantedApp, settings: AzureSettings, say: Say, seconds: float, *, swap: bool = True
    ) -> None:
        self._wanted = check(wanted)
        self._settings = settings
        self._say = say
        self._seconds = seconds
        self._swaps = swap
        self._apps = WebApps(settings)

    def run(self) -> DeployedApp:
        """Deploy the release.

        Raises:
            DeploymentError: it is not healthy, or the existing web app is not ours; the message says what is live now.
            AzureError: Azure refuses, or cannot be reached.
        """
        name, release = self._wanted.name, self._wanted.release
        with self._going_on():
            self._check_owner()
            plan = self._ensure_plan()
            production = self._ensure(plan, PRODUCTION)
            slot = self._wanted.slot if self._slots(plan) else PRODUCTION
            if not slot and not self._swaps:
                raise DeploymentError(
                    f"plan {self._wanted.plan!r} has no slots, so a release cannot be tried beside production",
                    "choose --sku S1 or P0v3, or remove --no-swap",
                )
            live = self._apps.settings(name, PRODUCTION)
            if live.get(RELEASE) == release and self._is_live(production, slot):
                self._say(f"{name} already runs release {release}: nothing to do")
                return self._deployed(production, slot, changed=False)
            target = self._ensure(plan, slot) if slot else production
            self._release(plan, slot, target, live)
            if not self._swaps:
                return replace(self._deployed(production, slot, changed=True), url=target.url)
            if slot:
                self._swap(slot, production, live.get(RELEASE, ""))
            return self._deployed(production, slot, changed=True)

    @contextmanager
    def _going_on(self) -> Iterator[None]:
        """Add to what ends a deployment early that it can be continued."""
        try:
            yield
        except AzureError as error:
            if error.status:
                raise
            hint = f"{error.hint}; then run the same command again, which continues where it stopped"
            raise AzureError(error.message, hint.lstrip("; ")) from error
        except KeyboardInterrupt:
            self._say(f"{self._wanted.name}: stopped; the same command again continues where it stopped")
            raise

    def _check_owner(self) -> None:
        """Raise DeploymentError if a web app of this name is not ours, or the name is taken."""
        name = self._wanted.name
        found = self._apps.site(name)
        if found is None:
            self._apps.check_name(name)
        elif TAG not in (found.tags or {}):
            raise DeploymentError(
                f"the web app {name!r} exists and was not created by mlops",
                "choose another name",
            )

    def _ensure_plan(self) -> AppServicePlan:
        name, sku = self._wanted.plan, self._wanted.sku
        found = self._apps.plan(name)
        if found is None:
            self._say(f"creating plan {name} ({sku or SKU}, {self._wanted.location})")
            return self._apps.put_plan(name, plan_definition(self._wanted))
        there = str(found.sku.name) if found.sku else ""
        if sku and there != sku:
            raise DeploymentError(
                f"plan {name!r} has size {there}, not {sku}",
                f"remove --sku, or change it for all its web apps: az appservice plan update --name {name} --sku {sku}",
            )
        if not (found.properties and found.properties.reserved):
            raise DeploymentError(f"plan {name!r} is not for Linux", "choose another --plan")
        return found

    def _slots(self, plan: AppServicePlan) -> bool:
        """Return whether the plan has slots, and say so if it has none."""
        sku = str(plan.sku.name) if plan.sku else SKU
        if has_slots(sku):
            return True
        self._say(
            f"plan {self._wanted.plan} has size {sku}, which has no slots: the release replaces the former one in place,"
            " with an interruption, and cannot be rolled back"
        )
        return False

    def _ensure(self, plan: AppServicePlan, slot: str) -> SlotAddress:
        """Create a web app or slot if it does not exist; if it exists, its protection is set again."""
        name = self._wanted.name
        found = self._apps.site(name, slot)
        if found is None:
            self._say(f"creating {f'slot {slot} of ' if slot else ''}web app {name}")
            made = site_definition(self._wanted, plan, {}, fixed_settings(self._wanted))
        else:
            made = site_definition(self._wanted, plan, found.tags or {})
        self._apps.put_site(name, slot, made)
        self._apps.refuse_passwords(name, slot)
        site = self._apps.site(name, slot)
        if site is None:
            raise DeploymentError(f"web app {name!r} no longer exists", "run the same command again to create it")
        return address(site)

    def _is_live(self, production: SlotAddress, slot: str) -> bool:
        """Return whether the release in production is healthy. If it is not and the slot has another release, swap back.

        This happens if a deployment was stopped after its swap, or if a release has broken since.

        Raises:
            DeploymentError: it was swapped back.
        """
        name, release = self._wanted.name, self._wanted.release
        problem = self._wait(production.url, release, min(_AGAIN_SECONDS, self._seconds))
        former = self._apps.settings(name, slot).get(RELEASE, "") if slot and self._apps.site(name, slot) else ""
        if problem and former not in ("", release):
            self._swap_back(slot, production, former, problem)
        return not problem

    def _release(self, plan: AppServicePlan, slot: str, target: SlotAddress, live: Mapping[str, str]) -> None:
        """Deploy the release to a slot, and wait until it is healthy there."""
        wanted, name = self._wanted, self._wanted.name
        there = self._apps.settings(name, slot)
        place = f"slot {slot}" if slot else name
        if there.get(RELEASE) != wanted.release:
            # The content comes before the settings that name the release, so the settings imply the content.
            sticky = self._apps.sticky(name)
            settings = release_settings(wanted, live, there, sticky)
            if wanted.package is not None:
                self._say(f"publishing {len(wanted.package.content) / 1e6:.1f} MB to {place}")
                building = {**there, **fixed_settings(wanted)}
                if building != there:
                    self._apps.put_settings(name, slot, building)
                Publishing(self._settings, target.publishing_host, self._say).publish(
                    wanted.package.content, self._seconds
                )
            site = self._apps.site(name, slot)
            tags = site.tags or {} if site else {}
            self._apps.put_site(name, slot, site_definition(wanted, plan, tags, settings))
        self._say(f"waiting until release {wanted.release} is healthy in {place}")
        problem = self._wait(target.url, wanted.release, self._seconds)
        if problem:
            left = "production is unchanged" if slot else "there is no slot, so the former release is gone"
            raise DeploymentError(
                f"release {wanted.release} is not healthy in {place}: {problem}; {left}{self._log(slot)}",
                "its log says why; fix the cause, and run the command again; see docs/how_to/app_service.md",
            )

    def _swap(self, slot: str, production: SlotAddress, former: str) -> None:
        """Swap the release in, and back if it is not healthy then."""
        release = self._wanted.release
        self._say(f"swapping slot {slot} with production")
        self._swap_once(slot, release)
        problem = self._wait(production.url, release, self._seconds)
        if problem:
            self._swap_back(slot, production, former, problem)

    def _swap_back(self, slot: str, production: SlotAddress, former: str, problem: str) -> NoReturn:
        """Swap the former release in again. Raises DeploymentError, which says which release responds now."""
        name, release = self._wanted.name, self._wanted.release
        log = self._log(PRODUCTION)
        self._say(f"{name}: {problem}; swapping back")
        try:
            self._swap_once(slot, former)
            second = self._wait(production.url, former, self._seconds) if former else ""
            now = f"{f'release {former}' if former else 'the former content'} is live again"
            now = f"it was swapped back, and release {former} is not healthy either: {second}" if second else now
        except MlopsError as error:
            now = f"and it could not be swapped back: {error.message}"
        raise DeploymentError(
            f"release {release} is not healthy in production: {problem}; {now}{log}",
            f"the release is in slot {slot} again, with its log",
        )

    def _swap_once(self, slot: str, release: str) -> None:
        """Swap, so that production has a release. A lost response does not cause a second swap."""
        name = self._wanted.name
        try:
            self._apps.swap(name, slot)
        except AzureError as error:
            if error.status and error.status < 500:
                raise
            for late in polls(_SWAPPED_SECONDS, 5.0):
                if self._apps.settings(name, PRODUCTION).get(RELEASE, "") == release:
                    return
                if late:
                    raise

    def _wait(self, url: str, release: str, seconds: float) -> str:
        """Wait until an app is healthy or the time is up; returns what is wrong, empty if nothing is."""
        problem = ""
        for _ in polls(seconds, 0.5):
            problem = problem_of(url, release)
            if not problem:
                break
        return problem

    def _log(self, slot: str) -> str:
        """Return the end of a log, indented for a message, without the values of secrets."""
        text = self._apps.log(self._wanted.name, slot)
        for value in self._secrets(slot):
            text = text.replace(value, "***")
        lines = [line for line in text.splitlines() if line.strip()]
        return "".join(f"\n  | {line}" for line in lines[-_LOG_LINES:])

    def _secrets(self, slot: str) -> list[str]:
        known = self._apps.settings(self._wanted.name, slot)
        return [value for name, value in known.items() if name in SECRETS and value]

    def _deployed(self, production: SlotAddress, slot: str, *, changed: bool) -> DeployedApp:
        name = self._wanted.name
        principals = [production.principal]
        if slot:
            site = self._apps.site(name, slot)
            principals += [address(site).principal] if site else []
        values = self._apps.settings(name, PRODUCTION)
        roles = role_commands(self._settings, self._wanted.image, values, [item for item in principals if item])
        return DeployedApp(name, production.url, self._wanted.release, changed, slot, roles)
