#!/usr/bin/env bash
# Delete a cluster that create.sh created, after listing what runs in it.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"
# shellcheck source-path=SCRIPTDIR source=../common.sh
. ../common.sh

usage() {
  cat <<'END'
usage: infrastructure/aks/delete.sh --group NAME --name CLUSTER [--dry-run] [--yes]

  --group, --name   as for create.sh
  --dry-run         list what would be deleted, and the commands; delete nothing
  --yes             do not ask for confirmation
END
}

group="" name=""
read_options "group= name= yes" "$@"
[ -n "$group" ] && [ -n "$name" ] || fail "--group and --name are needed" "see --help"

signed_in
identities=() cluster=""
if group_exists "$group"; then
  found=$(az identity list --resource-group "$group" \
    --query "[?(name=='id-$name' || name=='id-$name-nodes') && tags.project=='vision-mlops'].name" --output tsv)
  [ -z "$found" ] || mapfile -t identities <<<"$found"
  cluster=$(az aks list --resource-group "$group" --query "[?name=='$name'].id" --output tsv)
fi
if [ -z "$cluster" ] && [ "${#identities[@]}" = 0 ]; then
  say "resource group $group has no cluster $name: nothing to delete"
  exit
fi
if [ -n "$cluster" ]; then
  [ "$(az aks show --resource-group "$group" --name "$name" --query "tags.project" --output tsv)" = vision-mlops ] ||
    fail "cluster $name was not created by create.sh" "to delete it nevertheless, use az aks delete"
  say "to be deleted: cluster $name, with everything that runs in it, and its nodes, disks and addresses:"
  nodes=$(az aks show --resource-group "$group" --name "$name" --query nodeResourceGroup --output tsv)
  az resource list --resource-group "$nodes" --query "[].id" --output tsv 2>/dev/null | list_ids || true
  say "its endpoints, if it can be reached:"
  kubectl --context "$name" get deployments --all-namespaces --selector app.kubernetes.io/managed-by=mlops --no-headers 2>/dev/null |
    sed 's/^/  /' >&2 || say "  (it cannot be reached)"
fi
for identity in "${identities[@]}"; do say "to be deleted: identity $identity"; done
confirm "all of this is deleted for good" "$name"

[ -z "$cluster" ] || run az aks delete --resource-group "$group" --name "$name" --yes --output none
for identity in "${identities[@]}"; do
  # Role assignments of a deleted identity would be left behind.
  principal=$(az identity show --resource-group "$group" --name "$identity" --query principalId --output tsv)
  roles=$(az role assignment list --all --assignee-object-id "$principal" --query "[].id" --output tsv)
  for role in $roles; do run az role assignment delete --ids "$role"; done
  run az identity delete --resource-group "$group" --name "$identity"
done
say "done; a workspace that the cluster was attached to still lists it: detach it in the studio"
