"""Predictions: with a published iteration, by the quick test of the training API, and kept ones."""

from __future__ import annotations

import json
import sqlite3
import threading
from collections import OrderedDict
from collections.abc import Callable

from starlette.responses import Response
from starlette.routing import BaseRoute

from azureml_emulator.custom_vision.account_routes import PREDICTION, TRAINING
from azureml_emulator.custom_vision.image_checks import ImageProblemError, image_size
from azureml_emulator.custom_vision.image_sources import ImageSources
from azureml_emulator.custom_vision.iteration_routes import IterationRoutes
from azureml_emulator.custom_vision.learning.performance import as_predictions
from azureml_emulator.custom_vision.learning.tag_classifier import TagClassifier
from azureml_emulator.custom_vision.prediction_query import PredictionQuery
from azureml_emulator.custom_vision.project_images import ProjectImages
from azureml_emulator.custom_vision.project_routes import ProjectRoutes
from azureml_emulator.custom_vision.sku_limits import IMAGES_A_BATCH, PREDICTION_BYTES
from azureml_emulator.custom_vision.vision_access import VisionAccess, VisionHandler
from azureml_emulator.custom_vision.vision_calls import files_of, flag_of, id_of, ids_of, json_of
from azureml_emulator.custom_vision.vision_database import VisionDatabase, moment, new_id
from azureml_emulator.custom_vision.vision_refusals import (
    GatewayRefusalError,
    VisionRefusalError,
    bad_request,
    not_found,
)
from azureml_emulator.resources.rest_resources import RestResource
from azureml_emulator.rest.rest_calls import Json, RestCall, reply

PREDICTIONS = "predictions"
"""Name under which the use of the prediction API is counted."""
_REFUSALS = {"ErrorImageSize": "ImageSizeBytes", "ErrorImageFormat": "ImageFormat", "ErrorSource": "ImageUrl"}
_MODELS = 8


class PredictionRoutes:
    """The calls that predict, and those about kept predictions.

    Args:
        access: Checks callers.
        database: Has the models, and keeps predictions.
        projects: Finds the project of a call.
        iterations: Finds an iteration.
        images: Knows the addresses of the bytes of images.
        sources: Downloads images by their addresses.
    """

    def __init__(
        self,
        access: VisionAccess,
        database: VisionDatabase,
        projects: ProjectRoutes,
        iterations: IterationRoutes,
        images: ProjectImages,
        sources: ImageSources,
    ) -> None:
        self._access = access
        self._database = database
        self._projects = projects
        self._iterations = iterations
        self._images = images
        self._sources = sources
        self._lock = threading.Lock()
        self._models: OrderedDict[str, TagClassifier] = OrderedDict()

    def routes(self) -> list[BaseRoute]:
        """Return the paths."""
        one, at = "/{project}/classify/iterations/{published}", self._access.route
        found: list[BaseRoute] = [
            at(TRAINING, "/projects/{project}/quicktest/image", POST=self._quick_test(self._sent)),
            at(TRAINING, "/projects/{project}/quicktest/url", POST=self._quick_test(self._linked)),
            at(TRAINING, "/projects/{project}/predictions", DELETE=self._delete),
            at(TRAINING, "/projects/{project}/predictions/query", POST=self._query),
        ]
        for word, read in (("image", self._sent), ("url", self._linked)):
            found.append(at(PREDICTION, f"{one}/{word}", POST=self._classify(read, store=True)))
            found.append(at(PREDICTION, f"{one}/{word}/nostore", POST=self._classify(read, store=False)))
        return found

    @staticmethod
    def _sent(call: RestCall) -> bytes:
        return files_of(call)[0].content

    def _linked(self, call: RestCall) -> bytes:
        url = json_of(call).get("url")
        if not isinstance(url, str) or not url:
            raise bad_request("ImageUrl", "The body has no url.")
        return self._sources.fetch(url, PREDICTION_BYTES)

    def _classify(self, read: Callable[[RestCall], bytes], store: bool) -> VisionHandler:
        def handler(account: RestResource, call: RestCall) -> Response:
            iteration = self._published(account, call)
            self._count(account)
            return reply(self._predicted(iteration, read, call, store, call.query.get("application") or ""))

        return handler

    def _published(self, account: RestResource, call: RestCall) -> sqlite3.Row:
        """Return the iteration that is published to an account under a name. Raises ServiceRefusalError."""
        project, name = id_of(call.names["project"], "projectId"), call.names["published"]
        if self._database.row("select 1 from projects where id = ?", (project,)) is None:
            raise not_found("Project", project)
        found = self._database.row(
            "select * from iterations where project = ? and lower(publish_name) = lower(?) and lower(publish_target) = ?",
            (project, name, account.id.lower()),
        )
        if found is None:
            raise not_found("Iteration", name)
        return found

    def _count(self, account: RestResource) -> None:
        """Count a prediction; refuse it if none are left in this month. Raises ServiceRefusalError."""
        most, owner = self._access.limits_of(account).predictions, account.id.lower()
        with self._database.change():
            if most is not None and self._database.used(owner, PREDICTIONS) >= most:
                message = f"Out of call volume quota: the {most} predictions of this month are used up."
                raise GatewayRefusalError(403, "403", message)
            self._database.use(owner, PREDICTIONS, 1)

    def _quick_test(self, read: Callable[[RestCall], bytes]) -> VisionHandler:
        def handler(account: RestResource, call: RestCall) -> Response:
            project = self._projects.find(account, call)["id"]
            iteration = self._tested(project, call)
            return reply(self._predicted(iteration, read, call, flag_of(call, "store", default=True), ""))

        return handler

    def _tested(self, project: str, call: RestCall) -> sqlite3.Row:
        if call.query.get("iterationId"):
            found = self._iterations.find(project, call.query["iterationId"])
            if found["status"] != "Completed":
                message = f"The iteration {found['name']!r} has the status {found['status']}."
                raise bad_request("IterationIsNotTrained", message)
            return found
        query = "select * from iterations where project = ? and status = 'Completed' order by number desc"
        newest = self._database.row(query, (project,))
        if newest is None:
            raise VisionRefusalError(404, "NotFoundProjectDefaultIteration", "No iteration of the project is trained.")
        return newest

    def _predicted(
        self, iteration: sqlite3.Row, read: Callable[[RestCall], bytes], call: RestCall, store: bool, application: str
    ) -> Json:
        """Return what an iteration predicts for the image of a call. Raises ServiceRefusalError."""
        try:
            content = read(call)
            image_size(content, PREDICTION_BYTES)
        except ImageProblemError as problem:
            raise bad_request(_REFUSALS[problem.status], str(problem)) from problem
        found = as_predictions(json.loads(iteration["content"])["tags"], self._model(iteration).predict(content))
        answer: Json = {
            "id": new_id(), "project": iteration["project"], "iteration": iteration["id"], "created": moment(),
            "predictions": found,
        }  # fmt: skip
        if store:
            self._database.insert("predictions", {
                "id": answer["id"], "project": answer["project"], "iteration": answer["iteration"],
                "created": answer["created"], "application": application, "results": json.dumps(found), "content": content,
            })  # fmt: skip
        return answer

    def _model(self, iteration: sqlite3.Row) -> TagClassifier:
        with self._lock:
            found = self._models.pop(iteration["id"], None) or TagClassifier.from_bytes(iteration["model"])
            self._models[iteration["id"]] = found  # at the end, because it was used last
            while len(self._models) > _MODELS:
                self._models.popitem(last=False)
        return found

    def _delete(self, account: RestResource, call: RestCall) -> Response:
        project = self._projects.find(account, call)["id"]
        wanted = ids_of(call.query.get("ids"), "ids", IMAGES_A_BATCH)
        if not wanted:
            raise bad_request("PredictionIdsMissing", "ids is needed.")
        with self._database.change() as connection:
            connection.execute(
                "delete from predictions where project = ? and id in (select value from json_each(?))",
                (project, json.dumps(wanted)),
            )
        return reply(None, 204)

    def _query(self, account: RestResource, call: RestCall) -> Response:
        project, query = self._projects.find(account, call), PredictionQuery.of(json_of(call))
        rows = self._database.rows(
            "select id, iteration, created, application, results from predictions where project = ?"
            f" order by rowid {'asc' if query.order == 'Oldest' else 'desc'}",
            (project["id"],),
        )
        page, token = query.page(rows)
        domain = json.loads(project["settings"])["domainId"]
        results = [
            {
                "id": row["id"], "project": project["id"], "iteration": row["iteration"], "created": row["created"],
                "predictions": json.loads(row["results"]), **self._images.addresses(account, row["id"]), "domain": domain,
            }
            for row in page
        ]  # fmt: skip
        return reply({"results": results, "token": token})
