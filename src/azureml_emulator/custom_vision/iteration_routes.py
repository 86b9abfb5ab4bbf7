"""Iterations of a project: training them, describing them, their performance, and publishing them."""

from __future__ import annotations

import hashlib
import json
import re
import sqlite3
from collections import Counter

from starlette.responses import Response
from starlette.routing import BaseRoute

from azureml_emulator.custom_vision.account_routes import PREDICTION, TRAINING, VisionAccounts
from azureml_emulator.custom_vision.domains import PLATFORMS, is_compact
from azureml_emulator.custom_vision.learning.performance import Performance
from azureml_emulator.custom_vision.project_images import ProjectImages
from azureml_emulator.custom_vision.project_routes import ProjectRoutes
from azureml_emulator.custom_vision.sku_limits import IMAGES_A_TAG, ITERATIONS_A_PROJECT, TAGS_A_BATCH, TAGS_TO_TRAIN
from azureml_emulator.custom_vision.trainings import MINUTES, Trainings
from azureml_emulator.custom_vision.vision_access import VisionAccess
from azureml_emulator.custom_vision.vision_calls import flag_of, id_of, ids_of, json_of, number_of, word_of
from azureml_emulator.custom_vision.vision_database import VisionDatabase, moment, new_id
from azureml_emulator.custom_vision.vision_refusals import bad_request, not_found
from azureml_emulator.resources.rest_resources import RestResource
from azureml_emulator.rest.rest_calls import Json, RestCall, reply

_EMAIL = re.compile(r"[^@\s]+@[^@\s]+\.[^@\s]+")
_PUBLISH_NAME = re.compile(r"[^/\\?%#\s][^/\\?%#]{0,127}")


class IterationRoutes:
    """The calls about iterations.

    Args:
        access: Checks callers.
        accounts: Accounts to which iterations can be published.
        database: Keeps the iterations.
        projects: Finds the project of a call.
        images: Finds images.
        trainings: Trains.
    """

    def __init__(
        self,
        access: VisionAccess,
        accounts: VisionAccounts,
        database: VisionDatabase,
        projects: ProjectRoutes,
        images: ProjectImages,
        trainings: Trainings,
    ) -> None:
        self._access = access
        self._accounts = accounts
        self._database = database
        self._projects = projects
        self._images = images
        self._trainings = trainings

    def routes(self) -> list[BaseRoute]:
        """Return the paths."""
        start, at = "/projects/{project}/iterations", self._access.route
        one = start + "/{iteration}"
        return [
            at(TRAINING, "/projects/{project}/train", POST=self._train),
            at(TRAINING, start, GET=self._list),
            at(TRAINING, one, GET=self._get, PATCH=self._update, DELETE=self._delete),
            at(TRAINING, one + "/performance", GET=self._performance),
            at(TRAINING, one + "/performance/images", GET=self._performance_images),
            at(TRAINING, one + "/performance/images/count", GET=self._performance_count),
            at(TRAINING, one + "/publish", POST=self._publish, DELETE=self._unpublish),
        ]

    def find(self, project: str, iteration: str) -> sqlite3.Row:
        """Return an iteration of a project. Raises ServiceRefusalError."""
        wanted = id_of(iteration, "iterationId")
        found = self._database.row("select * from iterations where id = ? and project = ?", (wanted, project))
        if found is None:
            raise not_found("Iteration", wanted)
        return found

    def _of(self, account: RestResource, call: RestCall) -> sqlite3.Row:
        return self.find(self._projects.find(account, call)["id"], call.names["iteration"])

    def _train(self, account: RestResource, call: RestCall) -> Response:
        kind = word_of(call.query.get("trainingType") or "Regular", "trainingType", ("Regular", "Advanced"))
        budget, force = number_of(call, "reservedBudgetInHours", 0), flag_of(call, "forceTrain")
        email = call.query.get("notificationEmailAddress")
        if email and not _EMAIL.fullmatch(email):
            raise bad_request("InvalidEmailAddress", f"{email!r} is not a mail address.")
        if kind == "Advanced" and budget < 1:
            message = "Advanced training needs reservedBudgetInHours of at least 1."
            raise bad_request("ReservedBudgetInHoursNotEnoughForAdvancedTraining", message)
        budget = budget if kind == "Advanced" else 0
        with self._database.change():
            project = self._projects.find(account, call)
            content, settings = self._content(project["id"], json_of(call)), json.loads(project["settings"])
            self._check_content(content, settings["classificationType"])
            fingerprint = hashlib.sha256(json.dumps([content, settings, kind, budget]).encode()).hexdigest()
            self._check_iterations(project["id"], fingerprint, force)
            self._check_quota(account, budget)
            number = self._database.number("select max(number) from iterations where project = ?", (project["id"],))
            self._database.insert("iterations", {
                "id": (made := new_id()), "project": project["id"], "name": f"Iteration {number + 1}", "number": number + 1,
                "status": "Training", "created": (created := moment()), "modified": created, "training_type": kind,
                "domain": settings["domainId"], "classification": settings["classificationType"], "budget": budget,
                "fingerprint": fingerprint, "content": json.dumps(content),
            })  # fmt: skip
        self._trainings.start(made)
        return reply(_shown(self.find(project["id"], made)))

    def _content(self, project: str, parameters: Json) -> Json:
        """Return what is learnt: the tags with their images. Raises ServiceRefusalError."""
        selected = ids_of(parameters.get("selectedTags"), "selectedTags")
        self._images.require_tags(project, selected)
        tags = [tag for tag in self._projects.tags(project) if not selected or tag["id"] in selected]
        known = {tag["id"] for tag in tags}
        found = {image: [tag for tag in on if tag in known] for image, on in self._images.tagged(project).items()}
        return {"tags": tags, "images": {image: sorted(on) for image, on in found.items() if on}}

    @staticmethod
    def _check_content(content: Json, classification: str) -> None:
        tags, counts = content["tags"], Counter(tag for on in content["images"].values() for tag in on)
        if len(tags) < TAGS_TO_TRAIN:
            message = f"The project has {len(tags)} tags to train; at least {TAGS_TO_TRAIN} are needed."
            raise bad_request("TrainingValidationFailed", message)
        few = [f"{tag['name']} ({counts[tag['id']]})" for tag in tags if counts[tag["id"]] < IMAGES_A_TAG]
        if few:
            message = f"Each tag needs at least {IMAGES_A_TAG} images; these have fewer: {', '.join(few)}."
            raise bad_request("TrainingValidationFailed", message)
        if classification == "Multiclass" and any(len(on) > 1 for on in content["images"].values()):
            message = "An image of a Multiclass project has several tags."
            raise bad_request("MultiClassClassificationTrainingValidationFailed", message)

    def _check_iterations(self, project: str, fingerprint: str, force: bool) -> None:
        query = "select status, fingerprint, name from iterations where project = ? order by number desc"
        known = self._database.rows(query, (project,))
        if any(row["status"] == "Training" for row in known):
            raise bad_request("TrainingAlreadyInProgress", "The project is being trained.")
        done = [row for row in known if row["status"] == "Completed"]
        if done and done[0]["fingerprint"] == fingerprint and not force:
            message = f"Nothing has changed since {done[0]['name']} was trained; forceTrain=true trains nevertheless."
            raise bad_request("TrainingNotNeeded", message)
        if len(known) >= ITERATIONS_A_PROJECT:
            message = f"The project has {ITERATIONS_A_PROJECT} iterations, which is its limit; delete some."
            raise bad_request("ExceedIterationPerProjectLimit", message)

    def _check_quota(self, account: RestResource, budget: int) -> None:
        most, owner = self._access.limits_of(account).training_minutes, account.id.lower()
        if most is None:
            return
        running = self._database.number(
            "select sum(max(1, i.budget * 60)) from iterations i join projects p on p.id = i.project"
            " where p.account = ? and i.status = 'Training'",
            (owner,),
        )
        left = most - self._database.used(owner, MINUTES) - running
        if left < max(1, budget * 60):
            message = f"The training needs {max(1, budget * 60)} minutes; {max(left, 0)} of {most} are left this month."
            raise bad_request("ExceededQuota", message)

    def _list(self, account: RestResource, call: RestCall) -> Response:
        project = self._projects.find(account, call)["id"]
        rows = self._database.rows("select * from iterations where project = ? order by number desc", (project,))
        return reply([_shown(row) for row in rows])

    def _get(self, account: RestResource, call: RestCall) -> Response:
        return reply(_shown(self._of(account, call)))

    def _update(self, account: RestResource, call: RestCall) -> Response:
        kept, name = self._of(account, call), str(json_of(call).get("name") or "")
        if not name.strip():
            raise bad_request("IterationName", "The name of an iteration must have at least 1 character.")
        with self._database.change() as connection:
            query = "select 1 from iterations where project = ? and lower(name) = lower(?) and id != ?"
            if self._database.row(query, (kept["project"], name, kept["id"])) is not None:
                raise bad_request(
                    "IterationNameNotUnique", f"The project already has an iteration with the name {name!r}."
                )
            connection.execute(
                "update iterations set name = ?, modified = ? where id = ?", (name, moment(), kept["id"])
            )
        return reply(_shown(self._of(account, call)))

    def _delete(self, account: RestResource, call: RestCall) -> Response:
        kept = self._of(account, call)
        if kept["publish_name"]:
            raise bad_request(
                "IterationIsPublished", f"The iteration {kept['name']!r} is published; unpublish it first."
            )
        with self._database.change() as connection:
            connection.execute("delete from iterations where id = ?", (kept["id"],))
        return reply(None, 204)

    def _judged(self, account: RestResource, call: RestCall) -> tuple[sqlite3.Row, Performance]:
        kept = self._of(account, call)
        if kept["judged"] is None:
            raise bad_request(
                "IterationIsNotTrained", f"The iteration {kept['name']!r} has the status {kept['status']}."
            )
        return kept, Performance(kept["content"], kept["judged"])

    def _performance(self, account: RestResource, call: RestCall) -> Response:
        _, performance = self._judged(account, call)
        try:
            threshold = float(call.query.get("threshold", "0.5"))
        except ValueError as error:
            raise bad_request("", f"threshold is {call.query['threshold']!r}; it must be a number.") from error
        if not 0 <= threshold <= 1:
            raise bad_request("", f"threshold is {threshold}; it must be from 0 to 1.")
        return reply(performance.describe(threshold))

    def _judged_images(self, account: RestResource, call: RestCall) -> tuple[sqlite3.Row, Performance, list[str]]:
        kept, performance = self._judged(account, call)
        wanted = set(ids_of(call.query.get("tagIds"), "tagIds", TAGS_A_BATCH))
        tagged = json.loads(kept["content"])["images"]
        return kept, performance, [id for id in performance.images if not wanted or wanted.intersection(tagged[id])]

    def _performance_images(self, account: RestResource, call: RestCall) -> Response:
        kept, performance, found = self._judged_images(account, call)
        if word_of(call.query.get("orderBy", "Newest"), "orderBy", ("Newest", "Oldest")) == "Newest":
            found.reverse()
        skip, take = number_of(call, "skip", 0), number_of(call, "take", 50, 256)
        tagged = json.loads(kept["content"])["images"]
        shown = self._images.shown(account, kept["project"], {id: tagged[id] for id in found[skip : skip + take]})
        for item in shown:
            item["imageUri"] = item.pop("originalImageUri")
            item["predictions"] = performance.predictions(item["id"])
        return reply(shown)

    def _performance_count(self, account: RestResource, call: RestCall) -> Response:
        return reply(len(self._judged_images(account, call)[2]))

    def _publish(self, account: RestResource, call: RestCall) -> Response:
        kept, name, target = (
            self._of(account, call),
            call.query.get("publishName", ""),
            call.query.get("predictionId", ""),
        )
        if kept["status"] != "Completed":
            raise bad_request(
                "IterationIsNotTrained", f"The iteration {kept['name']!r} has the status {kept['status']}."
            )
        if not _PUBLISH_NAME.fullmatch(name):
            raise bad_request("InvalidPublishName", f"{name!r} cannot be the name of a published iteration.")
        found = next((item for item in self._accounts.all() if item.id.lower() == target.lower()), None)
        if found is None or found.body["kind"] != PREDICTION:
            message = f"predictionId is {target!r}; it must be the id of an account of the kind {PREDICTION}."
            raise bad_request("InvalidPublishTarget", message)
        overwrite = flag_of(call, "overwrite")
        with self._database.change() as connection:
            if kept["publish_name"]:
                raise bad_request("IterationIsPublished", f"The iteration is published as {kept['publish_name']!r}.")
            query = "select id from iterations where project = ? and lower(publish_name) = lower(?)"
            other = self._database.row(query, (kept["project"], name))
            if other is not None and not overwrite:
                raise bad_request("InvalidPublishName", f"Another iteration is published as {name!r}; see overwrite.")
            update = "update iterations set publish_name = ?, publish_target = ? where id = ?"
            if other is not None:
                connection.execute(update, ("", "", other["id"]))
            connection.execute(update, (name, found.id, kept["id"]))
        return reply(True)

    def _unpublish(self, account: RestResource, call: RestCall) -> Response:
        kept = self._of(account, call)
        if not kept["publish_name"]:
            raise bad_request("IterationNotPublished", f"The iteration {kept['name']!r} is not published.")
        with self._database.change() as connection:
            connection.execute(
                "update iterations set publish_name = '', publish_target = '' where id = ?", (kept["id"],)
            )
        return reply(None, 204)


def _shown(row: sqlite3.Row) -> Json:
    exportable = is_compact(row["domain"])
    return {
        "id": row["id"], "name": row["name"], "status": row["status"], "created": row["created"],
        "lastModified": row["modified"], "trainedAt": row["trained"], "projectId": row["project"],
        "exportable": exportable, "exportableTo": list(PLATFORMS) if exportable else [], "domainId": row["domain"],
        "classificationType": row["classification"], "trainingType": row["training_type"],
        "reservedBudgetInHours": row["budget"], "trainingTimeInMinutes": row["minutes"],
        "publishName": row["publish_name"], "originalPublishResourceId": row["publish_target"] or None,
    }  # fmt: skip
