#!/usr/bin/env bash
# Create the two accounts of Custom Vision, the reference model: one for training, one for predictions. The same as with
# `customVision` in the parameters of main.bicep, without the rest.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"
# shellcheck source-path=SCRIPTDIR source=../common.sh
. ../common.sh

usage() {
  cat <<'END'
usage: infrastructure/custom_vision/create.sh --group NAME --name NAME [--sku F0|S0] [--location REGION] [--dry-run]

  --group      resource group; created if it does not exist
  --name       of the accounts, NAME-train and NAME-predict, which are parts of their addresses and unique in Azure
  --sku        F0 is free (one of each kind in a subscription, 2 projects, 5,000 images), S0 is not; default F0
  --location   default $AZURE_LOCATION or westeurope
  --dry-run    show the commands that would change something, and change nothing

New customers are no longer admitted, and the service ends on 2028-09-25.
END
}

group="" name="" sku=F0
location=${AZURE_LOCATION:-westeurope}
read_options "group= name= sku= location=" "$@"
[ -n "$group" ] && [ -n "$name" ] || fail "--group and --name are needed" "see --help"
[[ $sku =~ ^[FS]0$ ]] || fail "--sku $sku is not valid" "F0 or S0"
[[ $name =~ ^[a-z0-9][a-z0-9-]{1,40}[a-z0-9]$ ]] || fail "--name $name is not valid" "3 to 42 lower case letters, digits and '-'"

signed_in
ensure_group "$group" "$location"
run az deployment group create --resource-group "$group" --name "custom-vision-$name" \
  --template-file ../modules/custom_vision.bicep \
  --parameters name="$name" location="$location" sku="$sku" 'tags={"project":"vision-mlops"}' --output none
if "$dry_run"; then
  say "(then: your role on both accounts, and a wait until it has taken effect)"
  exit
fi

principal=$(me) kind=$(my_type)
for account in "$name-train" "$name-predict"; do
  id=$(az cognitiveservices account show --resource-group "$group" --name "$account" --query id --output tsv)
  assign "$principal" "$kind" "Cognitive Services Custom Vision Contributor" "$id"
done

endpoint_of() {
  az cognitiveservices account show --resource-group "$group" --name "$1" --query properties.endpoint --output tsv
}

# An assignment takes a while to take effect: ask the service itself.
training=$(endpoint_of "$name-train")
wait_until "your role has taken effect" az rest --method get --resource https://cognitiveservices.azure.com \
  --url "${training}customvision/v3.3/training/domains" --output none
say "done; the settings of \`mlops benchmark run --with custom-vision\`, for .env:"
cat <<END
MLOPS_CUSTOM_VISION_TRAINING_ENDPOINT=$training
MLOPS_CUSTOM_VISION_PREDICTION_ENDPOINT=$(endpoint_of "$name-predict")
MLOPS_CUSTOM_VISION_PREDICTION_ID=$id
MLOPS_CUSTOM_VISION_SKU=$sku
END
