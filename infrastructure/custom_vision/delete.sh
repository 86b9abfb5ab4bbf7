#!/usr/bin/env bash
# Delete the accounts of Custom Vision that create.sh created, after listing their content, and release their names.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"
# shellcheck source-path=SCRIPTDIR source=../common.sh
. ../common.sh

usage() {
  cat <<'END'
usage: infrastructure/custom_vision/delete.sh --group NAME --name NAME [--dry-run] [--yes]

  --group, --name   as for create.sh
  --dry-run         list what would be deleted, and the commands; delete nothing
  --yes             do not ask for confirmation
END
}

group="" name=""
read_options "group= name= yes" "$@"
[ -n "$group" ] && [ -n "$name" ] || fail "--group and --name are needed" "see --help"

signed_in
wanted="[?name=='$name-train' || name=='$name-predict']"
accounts=""
if group_exists "$group"; then
  accounts=$(az cognitiveservices account list --resource-group "$group" --query "$wanted.[name, tags.project, properties.endpoint]" --output tsv)
fi
# Deleted accounts and their names are kept for 48 hours; an interrupted run may have left some.
deleted() {
  az cognitiveservices account list-deleted --query "$wanted|[?contains(id, '/resourceGroups/$group/')].[name, location]" --output tsv
}
left=$(deleted)
[ -n "$accounts$left" ] || { say "resource group $group has no account $name-train or $name-predict: nothing to delete"; exit; }

while IFS=$'\t' read -r account project endpoint; do
  [ -n "$account" ] || continue
  [ "$project" = vision-mlops ] || fail "$account was not created by create.sh" "to delete it nevertheless, use az cognitiveservices account delete"
  say "to be deleted: $account"
  [ "$account" = "$name-train" ] || continue
  az rest --method get --resource https://cognitiveservices.azure.com --url "${endpoint}customvision/v3.3/training/projects" \
    --query "[].name" --output tsv </dev/null 2>/dev/null | sed 's/^/  project /' >&2 || say "  (its projects cannot be listed)"
done <<<"$accounts"
while read -r account _; do
  [ -z "$account" ] || say "to be purged: $account, which is deleted"
done <<<"$left"
confirm "all of this is deleted for good, with its images and models" "$name"

while IFS=$'\t' read -r account _; do
  [ -z "$account" ] || run az cognitiveservices account delete --resource-group "$group" --name "$account" </dev/null
done <<<"$accounts"
while read -r account region; do
  [ -z "$account" ] || run az cognitiveservices account purge --resource-group "$group" --name "$account" --location "$region" </dev/null
done <<<"$(deleted)"
say "done"
