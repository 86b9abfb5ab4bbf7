"""The pages: who may see them, their addresses, and how they are rendered."""

from __future__ import annotations

from collections.abc import Callable
from importlib.resources import files
from typing import Any
from urllib.parse import quote

from jinja2 import Environment, PackageLoader, StrictUndefined
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response
from starlette.routing import Route

from azureml_emulator.computes.compute_routes import Computes
from azureml_emulator.jobs.emulated_job import EmulatedJob
from azureml_emulator.jobs.emulated_jobs import EmulatedJobs
from azureml_emulator.pages import page_text
from azureml_emulator.pages.job_graph import HEIGHT, WIDTH, graph_of
from azureml_emulator.pages.page_facts import (
    compute_row,
    endpoint,
    endpoints,
    job_facts,
    job_row,
    log_tails,
    models,
)
from azureml_emulator.resources.rest_resources import RestResource
from azureml_emulator.resources.subscription import Subscription
from azureml_emulator.rest.rest_calls import ServiceRefusalError

JOBS_PER_PAGE = 50
_LOG_LINES = 200
_OWN_NAMES = frozenset({"127.0.0.1", "localhost", "::1"})
_STYLE = "/pages.css"
_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; style-src 'self'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}
_View = Callable[[Request], Response]


class Pages:
    """The pages about all workspaces.

    They need no token, so they show no secret, change nothing, and respond only for names of this machine. A page of
    somebody else whose name is made to resolve to this machine (DNS rebinding) gets nothing.

    Args:
        subscription: Has what is shown.
        jobs: The jobs.
        computes: The computes.
        deployment_log: Returns the log of a deployment of an online endpoint.
    """

    def __init__(
        self,
        subscription: Subscription,
        jobs: EmulatedJobs,
        computes: Computes,
        deployment_log: Callable[[RestResource], str],
    ) -> None:
        self._subscription = subscription
        self._jobs = jobs
        self._computes = computes
        self._deployment_log = deployment_log
        self._templates = Environment(
            loader=PackageLoader("azureml_emulator.pages"),
            autoescape=True,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        filters = {name: getattr(page_text, name) for name in ("moment", "duration", "size", "tone")}
        self._templates.filters.update(filters, part=lambda text: quote(str(text), safe=""))

    def routes(self) -> list[Route]:
        """Return the paths."""
        one = "/workspaces/{workspace}"
        pages: dict[str, _View] = {
            "/": self._index,
            one: self._workspace,
            one + "/jobs/{job}": self._job,
            one + "/jobs/{job}/log": self._log,
            one + "/jobs/{job}/steps/{step}/log": self._log,
            one + "/endpoints/{kind}/{endpoint}": self._endpoint,
            one + "/computes/{compute}": self._compute,
            "/runs/{job}": self._run,
            "/workspaces/{rest:path}": self._nothing,
        }
        return [Route(path, self._guarded(view), methods=["GET"]) for path, view in pages.items()] + [
            Route(_STYLE, self._guarded(self._style), methods=["GET"])
        ]

    def _guarded(self, view: _View) -> Callable[[Request], Any]:
        async def answer(request: Request) -> Response:
            if request.url.hostname not in _OWN_NAMES:
                text = "These pages are for this machine only: open them by 127.0.0.1 or localhost.\n"
                return Response(text, 403, media_type="text/plain")
            try:
                response = await run_in_threadpool(view, request)
            except ServiceRefusalError as refusal:
                response = self._page("missing.html", refusal.status, title="Not found", message=refusal.message)
            response.headers.update(_HEADERS)
            return response

        return answer

    def _page(self, template: str, code: int = 200, **values: Any) -> Response:
        return HTMLResponse(self._templates.get_template(template).render(values), code)

    def _style(self, request: Request) -> Response:
        return Response(files("azureml_emulator.pages").joinpath("pages.css").read_text(), media_type="text/css")

    def _nothing(self, request: Request) -> Response:
        raise ServiceRefusalError(404, "NotFound", f"No page exists at {request.url.path}.")

    def _index(self, request: Request) -> Response:
        scope, store = self._subscription.scope(), self._subscription.store
        rows = [
            {
                "name": item.name,
                "jobs": len(self._jobs.all(item.id)),
                "models": len(models(store, item.id)),
                "endpoints": len(endpoints(store, item.id)),
                "computes": len(store.children(f"{item.id}/computes")),
            }
            for item in store.children(f"{scope}/workspaces")
        ]
        registries = [item.name for item in store.children(f"{scope}/registries")]
        return self._page("index.html", title="Workspaces", workspaces=rows, registries=registries)

    def _workspace(self, request: Request) -> Response:
        workspace = self._find(request)
        store, records = self._subscription.store, self._jobs.all(workspace.id)
        pages = max(1, -(-len(records) // JOBS_PER_PAGE))
        text = request.query_params.get("page", "1")
        page = int(text) if text.isdigit() and text.isascii() and len(text) < 9 else 0
        if not 1 <= page <= pages:
            raise _missing(f"page {text!r} of the jobs", workspace)
        shown = records[(page - 1) * JOBS_PER_PAGE : page * JOBS_PER_PAGE]
        computes = store.children(f"{workspace.id}/computes")
        return self._page(
            "workspace.html",
            title=workspace.name,
            workspace=workspace.name,
            jobs=[job_row(item) for item in shown],
            total=len(records),
            page=page,
            pages=pages,
            models=models(store, workspace.id),
            endpoints=endpoints(store, workspace.id),
            computes=[compute_row(self._computes.describe(item)) for item in computes],
        )

    def _job(self, request: Request) -> Response:
        workspace = self._find(request)
        record = self._record(workspace, request.path_params["job"])
        pipeline = record.resource.properties["jobType"] == "Pipeline"
        graph = graph_of(record) if pipeline else None
        box = {"width": WIDTH, "height": HEIGHT}
        job = job_facts(record)
        return self._page("job.html", title=job["name"], workspace=workspace.name, job=job, graph=graph, box=box)

    def _log(self, request: Request) -> Response:
        workspace, step = self._find(request), request.path_params.get("step", "")
        record = self._record(workspace, request.path_params["job"])
        if step and step not in record.state.steps:
            raise _missing(f"step {step!r} of the job {record.name!r}", workspace)
        state = record.state.steps[step] if step else record.state
        status = state.status if step else record.status
        values = {"workspace": workspace.name, "job": record.name, "step": step, "status": status}
        return self._page("log.html", title=f"Log of {step or record.name}", logs=log_tails(state), **values)

    def _endpoint(self, request: Request) -> Response:
        workspace, kind, name = self._find(request), request.path_params["kind"], request.path_params["endpoint"]
        folder = {"online": "onlineEndpoints", "batch": "batchEndpoints"}.get(kind, "")
        found = self._subscription.store.find(f"{workspace.id}/{folder}/{name}") if folder else None
        if found is None:
            raise _missing(f"endpoint {name!r}", workspace)
        shown = endpoint(self._subscription.store, kind, found)
        deployments = self._subscription.store.children(f"{found.id}/deployments")
        texts = {item.name: self._deployment_log(item) for item in deployments} if kind == "online" else {}
        logs = {made: "\n".join(text.splitlines()[-_LOG_LINES:]) for made, text in texts.items() if text}
        return self._page("endpoint.html", title=name, workspace=workspace.name, endpoint=shown, logs=logs)

    def _compute(self, request: Request) -> Response:
        workspace, name = self._find(request), request.path_params["compute"]
        found = self._subscription.store.find(f"{workspace.id}/computes/{name}")
        if found is None:
            raise _missing(f"compute {name!r}", workspace)
        shown = compute_row(self._computes.describe(found))
        return self._page("compute.html", title=name, workspace=workspace.name, compute=shown)

    def _run(self, request: Request) -> Response:
        """Redirect the studio address of a job, which the service gives to its clients."""
        workspace = request.query_params.get("wsid", "").rsplit("/", 1)[-1] or self._subscription.workspace
        job = request.path_params["job"]
        return RedirectResponse(f"/workspaces/{quote(workspace, safe='')}/jobs/{quote(job, safe='')}", 303)

    def _find(self, request: Request) -> RestResource:
        name = request.path_params["workspace"]
        found = self._subscription.store.find(self._subscription.path(name))
        if found is None:
            raise ServiceRefusalError(404, "NotFound", f"The workspace {name!r} does not exist.")
        return found

    def _record(self, workspace: RestResource, name: str) -> EmulatedJob:
        try:
            return self._jobs.get(workspace.id, name)
        except ServiceRefusalError as refusal:
            raise _missing(f"job {name!r}", workspace) from refusal


def _missing(what: str, workspace: RestResource) -> ServiceRefusalError:
    return ServiceRefusalError(404, "NotFound", f"The workspace {workspace.name!r} has no {what}.")
