#!/usr/bin/env bash
# Create a Kubernetes cluster for `mlops deploy --to aks`, without the rest of main.bicep; with --workspace also for online
# endpoints of Azure ML.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"
# shellcheck source-path=SCRIPTDIR source=../common.sh
. ../common.sh

usage() {
  cat <<'END'
usage: infrastructure/aks/create.sh --group NAME --name CLUSTER --registry REGISTRY [options]

  --group      resource group; created if it does not exist
  --name       name of the cluster
  --registry   container registry, in the same subscription, that the nodes may pull from
  --location   region of a new group; default $AZURE_LOCATION or westeurope
  --size       machine of a node; default Standard_D4s_v5
  --nodes      least and most nodes; default 2-4
  --namespace  namespace of the endpoints; default vision
  --host       DNS name of the Gateway's listener, for example '*.ml.example.org'; without it, no Gateway is created
  --workspace  Azure ML workspace in the same group: the cluster is attached to it, with the extension of Azure ML
  --identity   resource id of the identity of online endpoints of the workspace; needed with --workspace
  --dry-run    show the commands that would change something, and change nothing
END
}

group="" name="" registry="" size=Standard_D4s_v5 nodes=2-4 namespace=vision host="" workspace="" identity=""
location=${AZURE_LOCATION:-westeurope}
read_options "group= name= registry= location= size= nodes= namespace= host= workspace= identity=" "$@"
[ -n "$group" ] && [ -n "$name" ] && [ -n "$registry" ] || fail "--group, --name and --registry are needed" "see --help"
[[ $nodes =~ ^([1-9][0-9]*)-([1-9][0-9]*)$ ]] || fail "--nodes $nodes: not of the form LEAST-MOST" "write it like 2-4"
fewest=${BASH_REMATCH[1]} most=${BASH_REMATCH[2]}
[ "$fewest" -le "$most" ] || fail "--nodes $nodes: the least are more than the most" "write it like 2-4"
[[ $namespace =~ ^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$ ]] || fail "--namespace $namespace: not a name of a namespace" "lower case letters, digits and '-'"
[ -z "$host" ] || [[ $host =~ ^(\*\.)?([a-z0-9-]+\.)+[a-z]+$ ]] || fail "--host $host: not a DNS name" "write it like '*.ml.example.org'"
[ -z "$workspace" ] || [ -n "$identity" ] || fail "--workspace needs --identity" "the id of a user-assigned identity"

signed_in
needs kubectl "az aks install-cli installs kubectl and kubelogin"
needs kubelogin "az aks install-cli installs kubectl and kubelogin"
registry_id=$(az acr show --name "$registry" --query id --output tsv) || fail "registry $registry is not found" "az acr list --output table lists all"

cluster_exists() {
  group_exists "$group" && [ -n "$(az aks list --resource-group "$group" --query "[?name=='$name'].id" --output tsv)" ]
}

ensure_group "$group" "$location"
if cluster_exists; then
  say "cluster $name exists, and is updated"
fi
parameters=(name="$name" location="$location" vmSize="$size" minNodes="$fewest" maxNodes="$most" namespace="$namespace")
[ -z "$workspace" ] || parameters+=(workspaceName="$workspace" endpointsIdentityId="$identity")
run az deployment group create --resource-group "$group" --name "aks-$name" --template-file cluster.bicep \
  --parameters "${parameters[@]}" --output none
if "$dry_run" && ! cluster_exists; then
  say "(then: roles of the nodes and of yours, sign-in, namespace and Gateway)"
  exit
fi
cluster_id=$(az aks show --resource-group "$group" --name "$name" --query id --output tsv)
assign "$(az aks show --resource-group "$group" --name "$name" --query identityProfile.kubeletidentity.objectId --output tsv)" \
  ServicePrincipal AcrPull "$registry_id"
assign "$(me)" "$(my_type)" "Azure Kubernetes Service RBAC Cluster Admin" "$cluster_id"

run az aks get-credentials --resource-group "$group" --name "$name" --overwrite-existing
run kubelogin convert-kubeconfig --login azurecli
# An assignment takes a while to take effect: ask the cluster itself.
wait_until "your role in the cluster has taken effect" kubectl --context "$name" auth can-i create deployments --namespace "$namespace"

# apply MANIFEST: apply a file with the names of this cluster instead of its examples.
apply() {
  sed -e "s/: vision$/: $namespace/" -e "s/\"\*\.ml\.example\.org\"/\"$host\"/" "$1" |
    run kubectl --context "$name" apply --server-side --field-manager mlops-infrastructure --filename -
}
apply namespace.yaml
if [ -n "$host" ]; then
  apply gateway.yaml
fi
say "done: export MLOPS_AKS_CONTEXT=$name MLOPS_AKS_NAMESPACE=$namespace${host:+ MLOPS_AKS_GATEWAY=mlops-gateway/mlops}"
