#!/usr/bin/env bash
# Delete what up.sh created, after listing it. What others put into the group stays, and is named.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"
# shellcheck source-path=SCRIPTDIR source=common.sh
. ./common.sh

usage() {
  cat <<'END'
usage: infrastructure/down.sh dev|prod [--group NAME] [--dry-run] [--yes]

  --group      resource group; default rg-NAME-ENVIRONMENT, NAME being $MLOPS_NAME or vision
  --dry-run    list what would be deleted, and the commands; delete nothing
  --yes        do not ask for confirmation

Data, models and images in these resources are lost. The key vault is only marked as deleted, for 90 days, with its secrets;
up.sh recovers it.
END
}

environment="" group=""
read_options "ENVIRONMENT group= yes" "$@"
[ -n "$environment" ] || fail "no environment given" "infrastructure/down.sh dev"
[ -f "parameters/$environment.bicepparam" ] || fail "unknown environment '$environment'"
group=${group:-rg-${MLOPS_NAME:-vision}-$environment}
stack=mlops-$environment

signed_in
group_exists "$group" || { say "resource group $group does not exist: nothing to delete"; exit; }
stacks=$(az stack group list --resource-group "$group" --query "[?name=='$stack'].name" --output tsv)
[ -n "$stacks" ] || { say "up.sh has created nothing in resource group $group: nothing to delete"; exit; }
managed=$(az stack group show --name "$stack" --resource-group "$group" --query "resources[].id" --output tsv)

say "to be deleted from resource group $group:"
workspaces=() assignments=0
while read -r id; do
  case $id in
    "") continue ;;
    */roleAssignments/*) assignments=$((assignments + 1)); continue ;;
    */Microsoft.MachineLearningServices/workspaces/*/*) ;;
    */Microsoft.MachineLearningServices/workspaces/*) workspaces+=("$id") ;;
  esac
  say "  ${id##*/providers/}"
done <<<"$managed"
say "  $assignments role assignments"
others=$(az resource list --resource-group "$group" --query "[].id" --output tsv | grep -vixF -f <(printf '%s\n-\n' "$managed") || true)
if [ -n "$others" ]; then
  say "not created by up.sh, and kept unless it belongs to one of these:"
  list_ids <<<"$others"
fi
confirm "all of this is deleted for good" "$group"

is_gone() {
  local found
  found=$(az resource list --resource-group "$group" --query "[?id=='$1'].id" --output tsv) || return
  [ -z "$found" ]
}

# A workspace is otherwise kept for 14 days, and its name with it.
for workspace in "${workspaces[@]}"; do
  if is_gone "$workspace"; then continue; fi
  run az rest --method delete --url "$workspace?api-version=2025-12-01&forceToPurge=true" --output none
  wait_until "the workspace is deleted" is_gone "$workspace"
done
run az stack group delete --name "$stack" --resource-group "$group" --action-on-unmanage deleteResources --yes --output none

# Accounts of Custom Vision are kept for 48 hours otherwise, and their names with them.
az cognitiveservices account list-deleted --query "[?contains(id, '/resourceGroups/$group/')].[name, location]" --output tsv |
  while read -r account location; do
    run az cognitiveservices account purge --name "$account" --resource-group "$group" --location "$location" </dev/null
  done

if "$dry_run"; then exit; fi
left=$(az resource list --resource-group "$group" --query "[].id" --output tsv)
made_by_us=$(az group show --name "$group" --query "tags.project=='vision-mlops'" --output tsv)
if [ -n "$left" ]; then
  say "done; resource group $group stays, with:"
  list_ids <<<"$left"
elif [ "$made_by_us" = true ]; then
  run az group delete --name "$group" --yes --output none
  say "done"
else
  say "done; resource group $group was not created by up.sh and stays, empty"
fi
