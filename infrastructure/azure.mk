# What the Makefile of the template and that of each project made from it have in common: infrastructure/, sign-ins, images of models.
# It takes VENV, BIN, STAMP, PYTHON and PINS, the folder of the pins, from the file that includes it.
CHECKOV := $(VENV)-checkov
# Which parameters of infrastructure/ the targets infra-... use: dev or prod.
ENVIRONMENT ?= dev

.PHONY: infra-check infra-plan infra-up infra-down github-sign-in registry-sign-in model-image aks-sign-in

infra-check: $(STAMP) $(CHECKOV)/.installed  ## Check infrastructure/ with checkov, in an environment of its own
	PATH="$(abspath $(BIN)):$$PATH" $(CHECKOV)/bin/checkov --config-file infrastructure/.checkov.yaml

# By content: another version of checkov makes it anew.
$(CHECKOV)/.installed: $(PINS)/checkov.txt $(PINS)/checkov-parser.txt
	@$(PYTHON) -m venv --clear $(CHECKOV)
	@$(CHECKOV)/bin/python -m pip install --quiet --disable-pip-version-check -r $(PINS)/checkov.txt
	@$(CHECKOV)/bin/python -m pip install --quiet --disable-pip-version-check --no-deps -r $(PINS)/checkov-parser.txt
	@touch $@

infra-plan:  ## Say what `make infra-up` would change in Azure (ENVIRONMENT=dev)
	@infrastructure/up.sh $(ENVIRONMENT) --plan

infra-up:  ## Make what a workload needs in Azure, or bring it up to date
	@infrastructure/up.sh $(ENVIRONMENT)

infra-down:  ## Delete it again, after listing it
	@infrastructure/down.sh $(ENVIRONMENT)

github-sign-in:  ## In a workflow on GitHub: sign `az` in by its federated identity
	@.ci/github_sign_in

# $(call needed,NAME,example): ends with exit code 2 where a variable is empty.
needed = $(if $($1),,$(error $1 is not set: give it, such as $1=$2))

registry-sign-in:  ## Sign the container engine in to a registry, with the sign-in of az (REGISTRY=NAME.azurecr.io)
	$(call needed,REGISTRY,example.azurecr.io)az acr login --name "$(firstword $(subst ., ,$(REGISTRY)))"

# REGISTRY/NAME:TAG in its parts.
IMAGE_REGISTRY = $(firstword $(subst ., ,$(IMAGE)))
IMAGE_NAME = $(lastword $(subst /, ,$(IMAGE)))

model-image:  ## Let the registry build the image of a model, unless it has it (IMAGE=, CONTEXT= of `mlops models image`)
	@$(call needed,IMAGE,example.azurecr.io/mlops-textile:3-0123456789ab)$(call needed,CONTEXT,outputs/image)$(if $(findstring /,$(IMAGE)),,$(error IMAGE=$(IMAGE) names no registry))\
	az acr repository show --name "$(IMAGE_REGISTRY)" --image "$(IMAGE_NAME)" --output none 2>/dev/null && echo "$(IMAGE) is there" || \
	az acr build --registry "$(IMAGE_REGISTRY)" --image "$(IMAGE_NAME)" --file "$(CONTEXT)/Dockerfile" --no-logs "$(CONTEXT)"

aks-sign-in:  ## Point kubectl at the cluster, with the sign-in of az (KUBERNETES_CLUSTER=, KUBERNETES_GROUP=)
	$(call needed,KUBERNETES_CLUSTER,aks-vision)$(call needed,KUBERNETES_GROUP,rg-vision)az aks get-credentials --resource-group "$(KUBERNETES_GROUP)" --name "$(KUBERNETES_CLUSTER)" --overwrite-existing
	command -v kubelogin >/dev/null || az aks install-cli --install-location "$(BIN)/kubectl-of-az" --kubelogin-install-location "$(BIN)/kubelogin"
	kubelogin convert-kubeconfig --login azurecli
