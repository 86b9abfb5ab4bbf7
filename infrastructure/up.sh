#!/usr/bin/env bash
# Create what a workload needs in Azure, or update it: main.bicep with the parameters of an environment.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"
# shellcheck source-path=SCRIPTDIR source=common.sh
. ./common.sh

usage() {
  cat <<'END'
usage: infrastructure/up.sh dev|prod [--group NAME] [--location REGION] [--plan] [--dry-run] [--skip-checks]

  --group      resource group; default rg-NAME-ENVIRONMENT, NAME being $MLOPS_NAME or vision. It is created if it does not exist.
  --location   region of a new group; default $AZURE_LOCATION or westeurope
  --plan       show what would change, as Azure predicts it, and change nothing
  --skip-checks  deploy without checking roles, region, sizes and quota first (mlops doctor --for infrastructure)
  --dry-run    show the commands that would change something, and change nothing

MLOPS_DATA_SCIENTISTS, MLOPS_KUBERNETES_ADMINS, MLOPS_INSTANCE_USER, MLOPS_FEDERATIONS and MLOPS_BUDGET_CONTACTS are read by
parameters/*.bicepparam; docs/how_to/infrastructure.md explains them.
END
}

environment="" group="" plan=false skip_checks=false
location=${AZURE_LOCATION:-westeurope}
read_options "ENVIRONMENT group= location= plan skip-checks" "$@"
[ -n "$environment" ] || fail "no environment given" "infrastructure/up.sh dev"
parameters=parameters/$environment.bicepparam
[ -f "$parameters" ] || fail "unknown environment '$environment'" "known: $(cd parameters && echo *.bicepparam | sed 's/\.bicepparam//g')"
name=${MLOPS_NAME:-vision}
[[ $name =~ ^[a-z][a-z0-9]{1,7}$ ]] || fail "MLOPS_NAME='$name' is not valid" "2 to 8 lower case letters and digits, such as vision"
group=${group:-rg-$name-$environment}
stack=mlops-$environment
providers=(
  Microsoft.Authorization Microsoft.CognitiveServices Microsoft.Consumption Microsoft.ContainerInstance Microsoft.ContainerRegistry
  Microsoft.ContainerService Microsoft.Insights Microsoft.KeyVault Microsoft.KubernetesConfiguration
  Microsoft.MachineLearningServices Microsoft.ManagedIdentity Microsoft.Network Microsoft.OperationalInsights Microsoft.Storage
  Microsoft.Web
)

register_providers() {
  local registered provider
  registered=$(az provider list --query "[?registrationState=='Registered'].namespace" --output tsv)
  for provider in "${providers[@]}"; do
    grep -qix "$provider" <<<"$registered" || run az provider register --namespace "$provider" --wait
  done
}

# Find what would fail halfway before anything that costs money is created. Changes nothing.
check_first() {
  if "$skip_checks"; then return; fi
  if ! command -v mlops >/dev/null; then
    say "note: mlops is not installed here (make setup), so roles, region, sizes and quota are not checked first"
    return
  fi
  AZURE_SUBSCRIPTION_ID=$subscription AZURE_RESOURCE_GROUP=$group AZURE_LOCATION=$location \
    AZUREML_WORKSPACE_NAME=mlw-$name-$environment mlops doctor --for infrastructure >&2 ||
    fail "a check failed; nothing was deployed" "fix it as described above, or give --skip-checks" 1
}

# A vault that was deleted with its group keeps its name and its secrets for 90 days: it is recovered.
recover_vaults() {
  local vault
  az keyvault list-deleted --resource-type vault \
    --query "[?contains(properties.vaultId, '/resourceGroups/$group/')].name" --output tsv |
    while read -r vault; do
      run az keyvault recover --name "$vault" --output none </dev/null
    done
}

# The start date of a budget cannot be changed: an existing budget keeps its own.
keep_budget_start() {
  local start=""
  if group_exists "$group"; then
    start=$(az consumption budget list --resource-group "$group" \
      --query "[?name=='budget-$name-$environment'].timePeriod.startDate" --output tsv)
  fi
  export MLOPS_BUDGET_START=${start%%T*}
}

# A new role assignment may not have taken effect everywhere: then the deployment fails, and the next attempt continues.
deploy() {
  local try errors
  errors=$(mktemp)
  # shellcheck disable=SC2064  # its name now, not when the script ends
  trap "rm -f '$errors'" EXIT
  for ((try = 1; try <= 5; try++)); do
    if run az stack group create --name "$stack" --resource-group "$group" --template-file main.bicep \
      --parameters "$parameters" --action-on-unmanage detachAll --deny-settings-mode none --yes --output none 2>"$errors"; then
      cat "$errors" >&2
      return
    fi
    cat "$errors" >&2
    grep -qE 'AuthorizationFailed|PrincipalNotFound|ForbiddenByRbac|AuthorizationPermissionMismatch|does not have .*permission' "$errors" ||
      fail "the deployment failed" "the message above says why; what was created stays, and the same command continues from there" 1
    say "a role may not have taken effect yet: trying again in $((4 * wait_seconds)) s ($try of 5)"
    sleep $((4 * wait_seconds))
  done
  fail "the deployment failed five times for lack of a role" "see the message above; you need Owner on the group, or Contributor and Role Based Access Control Administrator" 1
}

output() {
  az stack group show --name "$stack" --resource-group "$group" --query "outputs.$1.value" --output tsv
}

# The role on the data must be in effect, not only assigned: try it.
wait_for_data_role() {
  local account scope found
  account=$(output storageAccount)
  scope=$(az storage account show --name "$account" --resource-group "$group" --query id --output tsv)
  found=$(az role assignment list --assignee "$(me)" --include-groups --include-inherited --scope "$scope" \
    --query "[?roleDefinitionName=='Storage Blob Data Contributor'].id" --output tsv)
  if [ -z "$found" ]; then
    say "note: you have no role on the data; MLOPS_DATA_SCIENTISTS names the group whose members get one"
  elif [ "$(az storage account show --name "$account" --resource-group "$group" --query publicNetworkAccess --output tsv)" = Disabled ]; then
    say "note: the storage account only has a private address; whether roles have taken effect is not checked from here"
  else
    wait_until "your role on the data has taken effect" az storage container list --account-name "$account" --auth-mode login --output none
  fi
}

signed_in
if "$plan" && ! group_exists "$group"; then
  say "resource group $group does not exist: all of main.bicep would be created, in $location"
  exit
fi
ensure_group "$group" "$location" "environment=$environment"
if "$plan"; then
  keep_budget_start
  exec az deployment group what-if --resource-group "$group" --template-file main.bicep --parameters "$parameters"
fi
register_providers
check_first
recover_vaults
keep_budget_start
deploy
if "$dry_run"; then exit; fi
wait_for_data_role
say "done. Settings for .env:"
output settings
