"""Runs the checks of Azure in an order in which each finds what it needs; a lost network or sign-in ends them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import date
from typing import TYPE_CHECKING, Any

from vision_mlops.azure.clients import default_credential, ml_client
from vision_mlops.azure.preflight.access_checks import (
    check_registry,
    check_storage,
    check_workspace_access,
    registry_of,
)
from vision_mlops.azure.preflight.account_checks import (
    check_group,
    check_providers,
    check_region,
    check_subscription,
    signed_in,
)
from vision_mlops.azure.preflight.caller import Caller
from vision_mlops.azure.preflight.capacity_checks import check_capacity
from vision_mlops.azure.preflight.name_checks import WantedName, check_names, names_of_settings
from vision_mlops.azure.preflight.permission_checks import check_permissions
from vision_mlops.azure.preflight.purposes import Purpose
from vision_mlops.azure.resource_manager import ResourceManager
from vision_mlops.config.azure_settings import AzureSettings
from vision_mlops.core.errors import AzureError
from vision_mlops.doctor.check_results import Diagnosis, Outcome, failure

if TYPE_CHECKING:
    from azure.ai.ml import MLClient
    from azure.core.credentials import TokenCredential

Step = Callable[[], "Diagnosis | Sequence[Diagnosis]"]
_FIRST = ("sign-in", "subscription", "resource group")
"""Steps whose failure all further ones would only repeat."""


@dataclass
class Preflight:
    """The checks for one purpose.

    Args:
        settings: Where in Azure.
        purpose: What is about to be done.
        today: The day to which retirements are compared.
        names: Further names that must be available.
        credential: Sign-in; that of this machine if not given.
    """

    settings: AzureSettings
    purpose: Purpose
    today: date
    names: Iterable[WantedName] = ()
    credential: TokenCredential | None = None
    _workspace: Any = field(default=None, init=False)
    _caller: Caller = field(default=Caller(), init=False)

    def run(self) -> Iterator[Diagnosis]:
        """Yield each result as soon as it is known. If Azure can no longer be reached, the last one names what is missing.

        Raises:
            MissingExtraError: the Azure packages are not installed.
        """
        credential = self.credential or default_credential(self.settings)
        reads = ResourceManager(self.settings, credential)
        needs_ml = self.purpose.workspace or self.purpose.storage or bool(self.purpose.demands(self.settings))
        client = ml_client(self.settings, credential) if needs_ml else None
        steps = self._steps(reads, client, credential)
        try:
            for number, (name, step) in enumerate(steps):
                left = [after for after, _ in steps[number + 1 :]]
                try:
                    found = step()
                except AzureError as error:
                    found = failure(name, error.message, error.hint or "mlops --verbose doctor --azure")
                    lost = not error.status
                else:
                    lost = False
                results = [found] if isinstance(found, Diagnosis) else list(found)
                yield from results
                failed = any(item.outcome is Outcome.FAIL for item in results)
                if lost or (failed and name in _FIRST):
                    if left:
                        why = "Azure cannot be reached" if lost else "the failure above comes first"
                        fix = "fix the failure above, then: mlops doctor --azure"
                        yield failure("not checked", f"{', '.join(left)}: {why}", fix)
                    return
        finally:
            reads.close()

    def _steps(
        self, reads: ResourceManager, client: MLClient | None, credential: TokenCredential
    ) -> list[tuple[str, Step]]:
        settings, purpose = self.settings, self.purpose
        demands, names = purpose.demands(settings), [*self.names]
        if purpose.names:
            names += names_of_settings(settings)

        def sign_in() -> Diagnosis:
            self._caller, result = signed_in(credential, settings)
            return result

        def workspace() -> Diagnosis:
            assert client is not None
            self._workspace, result = check_workspace_access(client, settings)
            return result

        def storage() -> Sequence[Diagnosis]:
            if client is None or self._workspace is None:
                return []
            scope = str(getattr(self._workspace, "storage_account", None) or reads.group)
            return [check_storage(client, settings, credential, self._caller, scope)]

        def registry() -> Sequence[Diagnosis]:
            host = registry_of(self._workspace, settings)
            return [check_registry(host, settings, credential, self._caller)] if host else []

        def capacity() -> Sequence[Diagnosis]:
            assert client is not None
            location = str(getattr(self._workspace, "location", None) or settings.location)
            return check_capacity(client, location.replace(" ", "").lower(), demands, self.today)

        steps: list[tuple[str, Step, bool]] = [
            ("sign-in", sign_in, True),
            ("subscription", lambda: check_subscription(reads, settings, self._caller), True),
            # infrastructure/up.sh creates the group.
            ("resource group", lambda: check_group(reads, settings, self._caller), purpose.name != "infrastructure"),
            ("roles", lambda: check_permissions(reads, self._caller, purpose.actions), bool(purpose.actions)),
            ("providers", lambda: check_providers(reads, purpose.providers, self._caller), bool(purpose.providers)),
            ("region", lambda: check_region(reads, settings, self._caller), purpose.region),
            ("workspace", workspace, purpose.workspace),
            ("size and quota", capacity, bool(demands)),
            ("storage", storage, purpose.storage),
            ("registry", registry, purpose.registry),
            ("names", lambda: check_names(reads, settings, names), bool(names)),
        ]
        return [(name, step) for name, step, wanted in steps if wanted]
