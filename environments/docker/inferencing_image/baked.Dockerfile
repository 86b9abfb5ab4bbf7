# Image of the scoring server that contains a model. The context is a folder with the model's bundle as `bundle/`;
# `mlops deploy --to docker --bake` builds it.
ARG INFERENCING_IMAGE=mlops-inferencing
FROM ${INFERENCING_IMAGE}
ARG MODEL_NAME=""
ARG MODEL_VERSION=""
COPY bundle/ /model/
ENV MLOPS_MODEL_NAME=${MODEL_NAME} MLOPS_MODEL_VERSION=${MODEL_VERSION}
