# What the Makefile of the template and that of each project made from it have in common: infrastructure/, sign-ins, images of models.
# It takes VENV, BIN, STAMP, PYTHON and PINS, the folder of the pins, from the file that includes it.
CHECKOV := $(VENV)-checkov
# Which parameters of infrastructure/ the targets infra-... use: dev or prod.
ENVIRONMENT ?= dev

.PHONY: infra-check infra-plan infra-up infra-down github-sign-in registry-sign-in model-image aks-sign-in

infra-check: $(STAMP) $(CHECKOV)/.installed  ## Check infrastructure/ with checkov, in a separate environment
	PATH="$(abspath $(BIN)):$$PATH" $(CHECKOV)/bin/checkov --config-file infrastructure/.checkov.yaml

# Created again when the version of checkov changes.
$(CHECKOV)/.installed: $(PINS)/checkov.txt $(PINS)/checkov-parser.txt
	@$(PYTHON) -m venv --clear $(CHECKOV)
	@$(CHECKOV)/bin/python -m pip install --quiet --disable-pip-version-check -r $(PINS)/checkov.txt
	@$(CHECKOV)/bin/python -m pip install --quiet --disable-pip-version-check --no-deps -r $(PINS)/checkov-parser.txt
	@touch $@

infra-plan:  ## Show what `make infra-up` would change in Azure (ENVIRONMENT=dev)
	@infrastructure/up.sh $(ENVIRONMENT) --plan

infra-up:  ## Create what a workload needs in Azure, or update it
	@infrastructure/up.sh $(ENVIRONMENT)

infra-down:  ## Delete what `make infra-up` created, after listing it
	@infrastructure/down.sh $(ENVIRONMENT)

github-sign-in:  ## In a workflow on GitHub: sign in `az` with its federated identity
	@.ci/github_sign_in

# $(call needed,NAME,example): ends with exit code 2 if a variable is empty.
needed = $(if $($1),,$(error $1 is not set: give it, such as $1=$2))

registry-sign-in:  ## Sign in the container engine to a registry, with the sign-in of az (REGISTRY=NAME.azurecr.io)
	$(call needed,REGISTRY,example.azurecr.io)az acr login --name "$(firstword $(subst ., ,$(REGISTRY)))"

# The parts of REGISTRY/NAME:TAG.
IMAGE_REGISTRY = $(firstword $(subst ., ,$(IMAGE)))
IMAGE_NAME = $(lastword $(subst /, ,$(IMAGE)))

model-image:  ## Let the registry build the image of a model, unless it exists (IMAGE=, CONTEXT= of `mlops models image`)
	@$(call needed,IMAGE,example.azurecr.io/mlops-textile:3-0123456789ab)$(call needed,CONTEXT,outputs/image)$(if $(findstring /,$(IMAGE)),,$(error IMAGE=$(IMAGE) names no registry))\
	az acr repository show --name "$(IMAGE_REGISTRY)" --image "$(IMAGE_NAME)" --output none 2>/dev/null && echo "$(IMAGE) is there" || \
	az acr build --registry "$(IMAGE_REGISTRY)" --image "$(IMAGE_NAME)" --file "$(CONTEXT)/Dockerfile" --no-logs "$(CONTEXT)"

aks-sign-in:  ## Point kubectl at the cluster, with the sign-in of az (KUBERNETES_CLUSTER=, KUBERNETES_GROUP=)
	$(call needed,KUBERNETES_CLUSTER,aks-vision)$(call needed,KUBERNETES_GROUP,rg-vision)az aks get-credentials --resource-group "$(KUBERNETES_GROUP)" --name "$(KUBERNETES_CLUSTER)" --overwrite-existing
	command -v kubelogin >/dev/null || az aks install-cli --install-location "$(BIN)/kubectl-of-az" --kubelogin-install-location "$(BIN)/kubelogin"
	kubelogin convert-kubeconfig --login azurecli
