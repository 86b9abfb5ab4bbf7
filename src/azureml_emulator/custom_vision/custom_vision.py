"""Custom Vision as a whole: its accounts, its two APIs, and what they share."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from starlette.routing import BaseRoute

from azureml_emulator.custom_vision.account_routes import PREDICTION, TRAINING, VisionAccounts
from azureml_emulator.custom_vision.image_routes import ImageRoutes
from azureml_emulator.custom_vision.image_sources import ImageSources
from azureml_emulator.custom_vision.image_uploads import ImageUploads
from azureml_emulator.custom_vision.iteration_routes import IterationRoutes
from azureml_emulator.custom_vision.prediction_routes import PredictionRoutes
from azureml_emulator.custom_vision.project_images import ProjectImages
from azureml_emulator.custom_vision.project_routes import ProjectRoutes
from azureml_emulator.custom_vision.sku_limits import published_limits
from azureml_emulator.custom_vision.trainings import Trainings
from azureml_emulator.custom_vision.vision_access import VisionAccess
from azureml_emulator.custom_vision.vision_database import VisionDatabase
from azureml_emulator.process_commands import VISION_PREDICTION, VISION_TRAINING
from azureml_emulator.resources.subscription import Subscription
from azureml_emulator.rest.cloud_addresses import vision_account


class EmulatedVision:
    """The service.

    Args:
        subscription: Keeps the accounts; their content is in its folder.
        network: Variables that lead to the emulator's own hosts, for images that are given by their address.
        authority: Certificate authority of these hosts.

    Attributes:
        limits: Limits of the pricing tiers; tests may change them.
        access: Its ``clock`` is used for the rate of calls.
    """

    def __init__(self, subscription: Subscription, network: Callable[[], Mapping[str, str]], authority: Path) -> None:
        self.limits = published_limits()
        self.database = VisionDatabase(subscription.folder / "custom_vision" / "vision.db")
        self.accounts = VisionAccounts(subscription, tuple(self.limits), self._forget)
        self.access = VisionAccess(subscription, self.accounts, self.limits)
        self.trainings = Trainings(self.database)
        self._images = ProjectImages(self.accounts, self.database)
        sources = ImageSources(network, authority)
        self._projects = ProjectRoutes(self.access, self.database)
        self._uploads = ImageUploads(self.access, self.database, self._projects, self._images, sources)
        self._image_routes = ImageRoutes(self.access, self.database, self._projects, self._images, self._uploads)
        self._iterations = IterationRoutes(
            self.access, self.accounts, self.database, self._projects, self._images, self.trainings
        )
        self._predictions = PredictionRoutes(
            self.access, self.database, self._projects, self._iterations, self._images, sources
        )

    def routes(self) -> list[BaseRoute]:
        """Return all paths."""
        learning = (self._projects, self._images, self._image_routes, self._uploads, self._iterations)
        parts = (self.accounts, *learning, self._predictions)
        return [item for part in parts for item in part.routes()]

    def answers_at(self, host: str) -> bool:
        """Return whether an account responds at a host name."""
        name = vision_account(host)
        return bool(name) and bool(self.accounts.named(name))

    def set_up(self) -> None:
        """Create an account of each kind, so that clients need not."""
        self.accounts.add(VISION_TRAINING, TRAINING)
        self.accounts.add(VISION_PREDICTION, PREDICTION)

    def restore(self) -> None:
        """Continue interrupted trainings."""
        if self.database.exists():
            self.trainings.resume()

    def stop(self) -> None:
        """End the trainings, and close the file; it is opened again when it is needed."""
        self.trainings.stop()
        self.database.close()

    def clear(self) -> None:
        """Reset to the published limits and no calls. The file goes with the folder that it is in."""
        self.limits.clear()
        self.limits.update(published_limits())
        self.access.clear()

    def _forget(self, account: str) -> None:
        with self.database.change() as connection:
            connection.execute("delete from projects where account = ?", (account.lower(),))
