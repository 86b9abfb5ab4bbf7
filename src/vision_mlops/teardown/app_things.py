"""Web frontends on App Service, with their slots and plans."""

from __future__ import annotations

from functools import partial

from vision_mlops.azure.made_tags import is_made, workload_of
from vision_mlops.endpoints.appservice.web_apps import WebApps
from vision_mlops.teardown import prices
from vision_mlops.teardown.made_things import FREE, MadeThing, Search


def apps_of(search: Search, apps: WebApps | None = None) -> list[MadeThing]:
    """Return the web apps that this package created; its plans are removed with their last web app. Raises AzureError."""
    calls = apps or WebApps(search.settings)
    sites = calls.made()
    on_plan: dict[str, int] = {}
    for site in sites:
        on_plan[_plan(site)] = on_plan.get(_plan(site), 0) + 1
    found = []
    for site in sites:
        name, plan_name, workload = str(site.name), _plan(site), workload_of(site.tags)
        plan = calls.plan(plan_name) if plan_name else None
        sku = str(plan.sku.name) if plan is not None and plan.sku else ""
        ours = plan is not None and is_made(plan.tags)
        usd = prices.of_plan(sku) if sku else FREE
        if usd is not None and (not ours or on_plan[plan_name] > 1):
            usd = FREE if not ours else round(usd / on_plan[plan_name], 2)
        stays = "" if ours else ", which stays: mlops did not create it"
        found.append(
            MadeThing(
                "web app",
                name,
                f"with its slots, on plan {plan_name} ({sku or 'unknown size'}){stays}",
                frozenset({workload} if workload else ()),
                usd,
                partial(calls.delete, name, with_plan=ours),
            )
        )
    return found


def _plan(site: object) -> str:
    properties = getattr(site, "properties", None)
    return str(getattr(properties, "server_farm_id", None) or "").rpartition("/")[2]
