"""An `az` that records what it is asked, checks it as the real one's parser does, and keeps a small Azure in a file.

``az_syntax.json`` has the options of each command, written by ``az_syntax.py`` from the azure-cli; queries are JMESPath.
What it leaves out: everything of the templates but which resources they name.
"""

from __future__ import annotations

import base64
import json
import re
import socketserver
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jmespath

SYNTAX: dict[str, dict[str, Any]] = json.loads(Path(__file__).with_name("az_syntax.json").read_text())["commands"]
SUBSCRIPTION = "00000000-0000-0000-0000-000000000001"
PERSON = "00000000-0000-0000-0000-000000000002"
NODES = "00000000-0000-0000-0000-000000000003"
State = dict[str, Any]
Options = Mapping[str, Any]


class RefusedError(Exception):
    """What the command line or the service refuses: exit status and message."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


def new_state(**changes: Any) -> State:
    """A subscription without resources, and who is signed in."""
    empty: State = {
        "calls": [], "user": {"name": "ada@example.org", "type": "user"}, "groups": {}, "resources": {}, "stacks": {},
        "roles": [], "deleted": {}, "registered": ["Microsoft.Network", "Microsoft.Authorization"], "budgets": [],
        "faults": {},
    }  # fmt: skip
    return {**empty, **changes}


def parse(words: list[str]) -> tuple[str, dict[str, Any]]:
    """Command and options by their first long name. Raises RefusedError as the real parser exits."""
    length = max((n for n in range(1, 5) if " ".join(words[:n]) in SYNTAX), default=0)
    if not length:
        raise RefusedError(2, f"'{' '.join(words[:3])}' is misspelled or not recognized by the system.")
    command = " ".join(words[:length])
    known = {name: names[0] for names in SYNTAX[command]["options"] for name in names}
    found: dict[str, Any] = {}
    current = ""
    for word in words[length:]:
        if re.match(r"--?[A-Za-z]", word):
            if word not in known:
                raise RefusedError(2, f"unrecognized arguments: {word}")
            current = known[word]
            found.setdefault(current, [])
        elif current:
            found[current].append(word)
        else:
            raise RefusedError(2, f"unrecognized arguments: {word}")
    missing = [name for name in SYNTAX[command]["required"] if name not in found]
    if missing:
        raise RefusedError(2, f"the following arguments are required: {', '.join(missing)}")
    for name, choices in SYNTAX[command]["choices"].items():
        for value in found.get(name, []):
            if value.lower() not in [choice.lower() for choice in choices]:
                raise RefusedError(2, f"'{value}' is not a valid value for '{name}'. Allowed values: {choices}.")
    return command, {name: values[0] if len(values) == 1 else values for name, values in found.items()}


class Azure:
    """The commands; each method is one, named after it."""

    def __init__(self, state: State) -> None:
        self.state = state

    def run(self, command: str, options: Options) -> Any:
        """What a command answers. Raises RefusedError."""
        if command != "account show" and not self.state["user"]:
            raise RefusedError(1, "Please run 'az login' to setup account.")
        self._fault(command)
        method: Callable[[Options], Any] = getattr(self, re.sub(r"[ -]", "_", command))
        return method(options)

    def _fault(self, command: str) -> None:
        """Fail as often as a test wants."""
        fault = self.state["faults"].get(command)
        if fault and fault["times"] > 0:
            fault["times"] -= 1
            raise RefusedError(1, fault["message"])

    def _of_group(self, group: str) -> dict[str, Any]:
        if group not in self.state["groups"]:
            raise RefusedError(3, f"(ResourceGroupNotFound) Resource group '{group}' could not be found.")
        place = f"/resourceGroups/{group}/"
        return {key: value for key, value in self.state["resources"].items() if place in key}

    def _find(self, group: str, kind: str, name: str) -> Any:
        for key, value in self._of_group(group).items():
            if key.endswith(f"/{kind}/{name}"):
                return value
        raise RefusedError(3, f"(ResourceNotFound) The Resource '{kind}/{name}' was not found.")

    def add(self, group: str, kind: str, name: str, **facts: Any) -> str:
        """A resource; gives its id."""
        key = f"/subscriptions/{SUBSCRIPTION}/resourceGroups/{group}/providers/{kind}/{name}"
        self.state["resources"][key] = {"id": key, "name": name, "type": kind, "tags": {}, **facts}
        return key

    # --- sign-in and roles

    def account_show(self, options: Options) -> Any:
        if not self.state["user"]:
            raise RefusedError(1, "Please run 'az login' to setup account.")
        return {"id": SUBSCRIPTION, "name": "vision", "user": self.state["user"]}

    def ad_signed_in_user_show(self, options: Options) -> Any:
        return {"id": PERSON}

    def ad_sp_show(self, options: Options) -> Any:
        return {"id": PERSON}

    def role_assignment_list(self, options: Options) -> Any:
        who = options.get("--assignee") or options.get("--assignee-object-id")
        return [
            role for role in self.state["roles"]
            if role["principalId"] == who
            and role["scope"].startswith(options.get("--scope", ""))
            and options.get("--role") in (None, role["roleDefinitionName"])
        ]  # fmt: skip

    def role_assignment_create(self, options: Options) -> Any:
        name = f"role{len(self.state['roles'])}"
        made = {
            "id": f"{options['--scope']}/providers/Microsoft.Authorization/roleAssignments/{name}",
            "principalId": options["--assignee-object-id"], "roleDefinitionName": options["--role"],
            "scope": options["--scope"],
        }  # fmt: skip
        self.state["roles"].append(made)
        return made

    def role_assignment_delete(self, options: Options) -> None:
        self.state["roles"] = [role for role in self.state["roles"] if role["id"] != options["--ids"]]

    # --- groups and providers

    def group_exists(self, options: Options) -> bool:
        return options["--name"] in self.state["groups"]

    def group_create(self, options: Options) -> Any:
        tags = options.get("--tags", [])
        pairs = [tags] if isinstance(tags, str) else tags
        self.state["groups"][options["--name"]] = {"tags": dict(pair.split("=", 1) for pair in pairs)}

    def group_show(self, options: Options) -> Any:
        self._of_group(options["--name"])
        return self.state["groups"][options["--name"]]

    def group_delete(self, options: Options) -> None:
        for key in self._of_group(options["--name"]):
            del self.state["resources"][key]
        del self.state["groups"][options["--name"]]

    def provider_list(self, options: Options) -> Any:
        return [{"namespace": name, "registrationState": "Registered"} for name in self.state["registered"]]

    def provider_register(self, options: Options) -> None:
        self.state["registered"].append(options["--namespace"])

    def resource_list(self, options: Options) -> Any:
        return list(self._of_group(options["--resource-group"]).values())

    def resource_show(self, options: Options) -> Any:
        if options["--ids"] not in self.state["resources"]:
            raise RefusedError(3, "(ResourceNotFound)")
        return self.state["resources"][options["--ids"]]

    def consumption_budget_list(self, options: Options) -> Any:
        return self.state["budgets"]

    # --- templates

    def stack_group_create(self, options: Options) -> None:
        group = options["--resource-group"]
        self._of_group(group)
        from testing.support.bicep_files import resources_of

        made = [
            self.add(group, kind, symbol, tags={"project": "vision-mlops"}, publicNetworkAccess="Enabled")
            for kind, symbol in resources_of(Path(options["--template-file"]))
        ]
        account = next(key for key in made if key.endswith("storageAccounts/account"))
        if self.state.get("in_group"):
            role = "Storage Blob Data Contributor"
            self.state["roles"].append(
                {"id": f"{account}/x", "principalId": PERSON, "scope": account, "roleDefinitionName": role}
            )
        self.state["stacks"][f"{group}/{options['--name']}"] = made

    def stack_group_list(self, options: Options) -> Any:
        place = options["--resource-group"] + "/"
        return [{"name": name.partition("/")[2]} for name in self.state["stacks"] if name.startswith(place)]

    def stack_group_show(self, options: Options) -> Any:
        made = self.state["stacks"].get(f"{options['--resource-group']}/{options['--name']}")
        if made is None:
            raise RefusedError(3, "(DeploymentStackNotFound)")
        outputs = {
            "storageAccount": "account",
            "settings": ["AZURE_RESOURCE_GROUP=" + options["--resource-group"], "B=2"],
        }
        values = {name: {"value": value} for name, value in outputs.items()}
        return {"resources": [{"id": key} for key in made], "outputs": values}

    def stack_group_delete(self, options: Options) -> None:
        for key in self.state["stacks"].pop(f"{options['--resource-group']}/{options['--name']}"):
            self.state["resources"].pop(key, None)
            self._bin(key)

    def _bin(self, key: str) -> None:
        """Keep what Azure keeps when it is deleted."""
        for kind in ("Microsoft.KeyVault/vaults", "Microsoft.CognitiveServices/accounts"):
            if re.search(rf"/{kind}/[^/]+$", key):
                self.state["deleted"][key] = kind

    def deployment_group_create(self, options: Options) -> None:
        group = options["--resource-group"]
        self._of_group(group)
        given = dict(word.split("=", 1) for word in options["--parameters"])
        ours = {"project": "vision-mlops"}
        if options["--template-file"].endswith("custom_vision.bicep"):
            for part in ("train", "predict"):
                name, address = f"{given['name']}-{part}", f"https://{given['name']}-{part}.example.org/"
                kind = "Microsoft.CognitiveServices/accounts"
                self.add(group, kind, name, tags=ours, properties={"endpoint": address}, location=given["location"])
        else:
            kubelet = {"kubeletidentity": {"objectId": NODES}}
            name, nodes = given["name"], f"MC_{given['name']}"
            self.state["groups"][nodes] = {"tags": {}}
            self.add(nodes, "Microsoft.Compute/virtualMachineScaleSets", "aks-system")
            self.add(
                group, "Microsoft.ContainerService/managedClusters", name, tags=ours, identityProfile=kubelet,
                nodeResourceGroup=nodes,
            )  # fmt: skip
            for identity in (f"id-{name}", f"id-{name}-nodes"):
                kind = "Microsoft.ManagedIdentity/userAssignedIdentities"
                self.add(group, kind, identity, tags=ours, principalId=NODES)

    def deployment_group_what_if(self, options: Options) -> Any:
        self._of_group(options["--resource-group"])
        return {"changes": []}

    # --- single services

    def keyvault_list_deleted(self, options: Options) -> Any:
        vaults = [key for key, kind in self.state["deleted"].items() if kind == "Microsoft.KeyVault/vaults"]
        return [{"name": key.rpartition("/")[2], "properties": {"vaultId": key}} for key in vaults]

    def keyvault_recover(self, options: Options) -> None:
        found = [key for key in self.state["deleted"] if key.endswith(f"/{options['--name']}")]
        del self.state["deleted"][found[0]]

    def storage_account_show(self, options: Options) -> Any:
        return self._find(options["--resource-group"], "storageAccounts", options["--name"])

    def storage_container_list(self, options: Options) -> Any:
        return []

    def rest(self, options: Options) -> Any:
        if options.get("--method", "get") == "get":
            return [{"name": "beans"}]
        path, _, query = options["--url"].partition("?")
        if "forceToPurge=true" not in query or path not in self.state["resources"]:
            raise RefusedError(3, "Not Found")
        del self.state["resources"][path]
        return None

    def acr_show(self, options: Options) -> Any:
        if options["--name"] not in ("crvision",):
            raise RefusedError(3, f"The resource with name '{options['--name']}' could not be found.")
        group = f"/subscriptions/{SUBSCRIPTION}/resourceGroups/rg-images"
        return {"id": f"{group}/providers/Microsoft.ContainerRegistry/registries/crvision"}

    def aks_show(self, options: Options) -> Any:
        return self._find(options["--resource-group"], "managedClusters", options["--name"])

    def aks_list(self, options: Options) -> Any:
        return [item for key, item in self._of_group(options["--resource-group"]).items() if "managedClusters" in key]

    def aks_get_credentials(self, options: Options) -> None:
        self.aks_show(options)

    def aks_delete(self, options: Options) -> None:
        cluster = self.aks_show(options)
        del self.state["resources"][cluster["id"]]
        self.group_delete({"--name": cluster["nodeResourceGroup"]})

    def identity_list(self, options: Options) -> Any:
        items = self._of_group(options["--resource-group"]).items()
        return [item for key, item in items if "userAssignedIdentities" in key]

    def identity_show(self, options: Options) -> Any:
        return self._find(options["--resource-group"], "userAssignedIdentities", options["--name"])

    def identity_delete(self, options: Options) -> None:
        del self.state["resources"][self.identity_show(options)["id"]]

    def cognitiveservices_account_show(self, options: Options) -> Any:
        return self._find(options["--resource-group"], "accounts", options["--name"])

    def cognitiveservices_account_list(self, options: Options) -> Any:
        items = self._of_group(options["--resource-group"]).items()
        return [item for key, item in items if "CognitiveServices" in key]

    def cognitiveservices_account_delete(self, options: Options) -> None:
        key = self._find(options["--resource-group"], "accounts", options["--name"])["id"]
        del self.state["resources"][key]
        self._bin(key)

    def cognitiveservices_account_list_deleted(self, options: Options) -> Any:
        found = [key for key, kind in self.state["deleted"].items() if kind == "Microsoft.CognitiveServices/accounts"]
        return [{"id": key, "name": key.rpartition("/")[2], "location": "westeurope"} for key in found]

    def cognitiveservices_account_purge(self, options: Options) -> None:
        found = [key for key in self.state["deleted"] if key.endswith(f"/{options['--name']}")]
        del self.state["deleted"][found[0]]


def shown(answer: Any, options: Options) -> str:
    """An answer as ``--query`` and ``--output`` ask for it."""
    if "--query" in options:
        answer = jmespath.search(options["--query"], answer)
    style = options.get("--output", "json")
    if answer is None or style == "none":
        return ""
    if style == "tsv":
        rows = answer if isinstance(answer, list) else [answer]
        return "".join("\t".join(map(_cell, row if isinstance(row, list) else [row])) + "\n" for row in rows)
    return json.dumps(answer, indent=2) + "\n"


def _cell(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else "None" if value is None else str(value)


class AzServer:
    """Answers the calls of ``AZ``, the script that stands for `az`; keeps the state, and each call with its environment."""

    def __init__(self, state: State) -> None:
        self.state = state
        self.budget_starts: set[str] = set()
        az = self

        class Handler(socketserver.StreamRequestHandler):
            def handle(self) -> None:
                place, start, *words, _end = base64.b64decode(self.rfile.readline()).decode().split("\0")
                az.budget_starts.add(start)
                answer = az.call(Path(place), words)
                self.wfile.write(b" ".join(base64.b64encode(f"{part}\n".encode()) for part in answer) + b"\n")

        self._server = socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        self._thread.start()

    @property
    def script(self) -> str:
        """What stands for `az`: bash, as a Python for each call would take most of a test's time."""
        return AZ.replace("PORT", str(self._server.server_address[1]))

    def close(self) -> None:
        self._server.shutdown()
        self._thread.join(5)
        self._server.server_close()

    def call(self, place: Path, words: list[str]) -> tuple[int, str, str]:
        """Exit status, standard output and standard error of a call from a folder."""
        try:
            command, options = parse(words)
            self.state["calls"].append(words)
            if "--template-file" in options:
                options["--template-file"] = str(place / options["--template-file"])
            return 0, shown(Azure(self.state).run(command, options), options), ""
        except RefusedError as error:
            return error.status, "", f"ERROR: {error}\n"


AZ = """#!/usr/bin/env bash
exec 3<>/dev/tcp/127.0.0.1/PORT
printf '%s\\0' "$PWD" "${MLOPS_BUDGET_START-}" "$@" | base64 -w0 >&3
echo >&3
read -r status out err <&3
# A newline at the end of each part keeps it from being empty.
out=$(base64 -d <<<"$out"; echo x) err=$(base64 -d <<<"$err"; echo x)
printf '%s' "${out%$'\\n'x}"
printf '%s' "${err%$'\\n'x}" >&2
exit "$(base64 -d <<<"$status")"
"""
