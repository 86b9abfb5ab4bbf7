#!/usr/bin/env bash
# Build, list, scan and push the images of this folder, with Docker, Podman or Buildah. Called by `make images`.
set -euo pipefail
shopt -s inherit_errexit  # a failure in $( ) also ends the script
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

usage() {
  cat <<'END'
usage: environments/docker/images.sh build|bill|scan|push|import [IMAGE ...]

  build   build images
  bill    write what is in them to NAME.cdx.json, a software bill of materials (CycloneDX)
  scan    write the bill, and look for published vulnerabilities of the Python packages in it; exit code 1 where there are any
  push    push images to $REGISTRY under $TAG, and under $MOVING_TAG too, and write NAME.digest
  import  bring what $FROM has under $TAG into $REGISTRY, unchanged, with az; FROM is an address, or, where it is in another
          subscription, the resource id of a registry

IMAGE is the name of a folder beside this script; without any, it is all of them. Set by the environment:

  REGISTRY                  such as example.azurecr.io: where to push or import to
  TAG                       default: the first twelve digits of the commit, with -dirty where files differ from it
  MOVING_TAG                a further tag for what is pushed, such as main
  BASE_IMAGE                Debian with Python 3.11; default: python:3.11-slim-bookworm
  RESULTS                   where bills and digests go; default: outputs/images
  MLOPS_CONTAINER_ENGINE    default: docker, podman or buildah, the first that is installed
  MLOPS_CONTAINER_BUILD_OPTIONS, MLOPS_CONTAINER_PUSH_OPTIONS   more words for the engine's command
  IMAGE_TOOLS               folder of syft and pip-audit, which `make` installs; default: from the PATH
END
}

fail() { printf 'error: %s\n' "$1" >&2; [ -z "${2:-}" ] || printf '  %s\n' "$2" >&2; exit 2; }
say() { printf '%s\n' "$*" >&2; }

# The name of an image in a registry.
declare -A names=(
  [flask_app]=mlops-app
  [inferencing_image]=mlops-inferencing
  [mlops_pipeline_image]=mlops-pipeline
  [training_image]=mlops-training
)
bills=${RESULTS:-outputs/images}

local_name() { printf '%s:%s' "${names[$1]}" "$tag"; }

find_engine() {
  local name
  if [ -n "${MLOPS_CONTAINER_ENGINE:-}" ]; then
    read -ra engine <<<"$MLOPS_CONTAINER_ENGINE"
    command -v "${engine[0]}" >/dev/null || fail "${engine[0]} is not installed" "MLOPS_CONTAINER_ENGINE names it"
    return
  fi
  for name in docker podman buildah; do
    if command -v "$name" >/dev/null; then engine=("$name"); return; fi
  done
  fail "no container engine: none of docker, podman and buildah is installed" "install one, or set MLOPS_CONTAINER_ENGINE"
}

find_tool() {
  tool=$(PATH="${IMAGE_TOOLS:+$IMAGE_TOOLS:}$PATH" command -v "$1") || fail "$1 is not installed" "make images-bill installs it: requirements/images.txt"
}

# The same commit gives the same image: it does not contain the date of the build.
build() {
  local options=() more=()
  read -ra more <<<"${MLOPS_CONTAINER_BUILD_OPTIONS:-}"
  SOURCE_DATE_EPOCH=$(git log -1 --format=%ct)
  export SOURCE_DATE_EPOCH
  options+=(--build-arg "SOURCE_DATE_EPOCH=$SOURCE_DATE_EPOCH" --label "org.opencontainers.image.revision=$(git rev-parse HEAD)")
  [ -z "${BASE_IMAGE:-}" ] || options+=(--build-arg "BASE_IMAGE=$BASE_IMAGE")
  case ${engine[0]##*/} in
    docker) ;;
    *) options+=(--timestamp "$SOURCE_DATE_EPOCH" --format docker) ;;  # the OCI format has no health check
  esac
  "${engine[@]}" build "${options[@]}" "${more[@]}" -f "environments/docker/$1/Dockerfile" -t "$(local_name "$1")" .
}

bill() {
  find_tool syft
  archive=$(mktemp -d)
  case ${engine[0]##*/} in
    buildah) "${engine[@]}" push -q "$(local_name "$1")" "docker-archive:$archive/image.tar" ;;
    *) "${engine[@]}" save -o "$archive/image.tar" "$(local_name "$1")" ;;
  esac
  SYFT_CHECK_FOR_APP_UPDATE=false "$tool" scan -q --source-name "${names[$1]}" --source-version "$tag" \
    "docker-archive:$archive/image.tar" -o cyclonedx-json="$archive/bill.json"
  mv "$archive/bill.json" "$bills/${names[$1]}.cdx.json"
  rm -rf "$archive"
  say "$bills/${names[$1]}.cdx.json"
}

scan() {
  bill "$1"
  find_tool pip-audit
  python3 - "$bills/${names[$1]}.cdx.json" >"$bills/${names[$1]}.requirements.txt" <<'END'
import json, sys
pythons = {c["purl"].removeprefix("pkg:pypi/").partition("?")[0] for c in json.load(open(sys.argv[1]))["components"] if c.get("purl", "").startswith("pkg:pypi/")}
print("\n".join(sorted(p.replace("@", "==") for p in pythons if not p.startswith("vision-mlops@"))))
END
  say "scanning $(wc -l <"$bills/${names[$1]}.requirements.txt") Python packages of ${names[$1]}"
  "$tool" --progress-spinner off --disable-pip --no-deps --requirement "$bills/${names[$1]}.requirements.txt"
}

# push_as IMAGE TAG: the digest is the last word that is printed.
push_as() {
  local more=() name=${REGISTRY%/}/${names[$1]}
  read -ra more <<<"${MLOPS_CONTAINER_PUSH_OPTIONS:-}"
  "${engine[@]}" tag "$(local_name "$1")" "$name:$2" >&2
  case ${engine[0]##*/} in
    docker)
      "${engine[@]}" push "${more[@]}" "$name:$2" >&2
      "${engine[@]}" image inspect --format '{{range .RepoDigests}}{{println .}}{{end}}' "$name:$2" \
        | grep --max-count=1 --fixed-strings "$name@" ;;
    *)
      "${engine[@]}" push "${more[@]}" --digestfile "$bills/.digest" "$name:$2" >&2
      printf '%s@%s\n' "$name" "$(cat "$bills/.digest")"
      rm "$bills/.digest" ;;
  esac
}

push() {
  local digest
  [ -n "${REGISTRY:-}" ] || fail "no registry to push to" "REGISTRY=example.azurecr.io make images-push"
  rm -f "$bills/${names[$1]}.digest"
  digest=$(push_as "$1" "$tag")
  [ -z "${MOVING_TAG:-}" ] || push_as "$1" "$MOVING_TAG" >/dev/null
  printf '%s\n' "$digest" >"$bills/${names[$1]}.digest"
  say "$digest"
}

import() {
  [ -n "${REGISTRY:-}" ] && [ -n "${FROM:-}" ] || fail "FROM and REGISTRY say from where to where" "see --help"
  command -v az >/dev/null || fail "the Azure CLI is not installed" "install it, then: az login"
  local source=(--source "${FROM%/}/$(local_name "$1")")
  case $FROM in /subscriptions/*) source=(--registry "$FROM" --source "$(local_name "$1")") ;; esac
  az acr import --name "${REGISTRY%%.*}" "${source[@]}" --image "$(local_name "$1")" --force
}

case ${1:-} in
  build | bill | scan | push | import) verb=$1; shift ;;
  --help | -h) usage; exit ;;
  *) fail "unknown command '${1:-}'" "see --help" ;;
esac
mapfile -t known < <(printf '%s\n' "${!names[@]}" | sort)
[ $# -gt 0 ] || set -- "${known[@]}"
for image in "$@"; do
  [ -n "${names[$image]:-}" ] || fail "unknown image '$image'" "one of ${known[*]}"
done
tag=${TAG:-$(git rev-parse --short=12 HEAD)$(git diff --quiet HEAD || printf -- -dirty)}
engine=() archive=""
trap '[ -z "$archive" ] || rm -rf "$archive"' EXIT
[ "$verb" = import ] || find_engine
mkdir -p "$bills"
for image in "$@"; do "$verb" "$image"; done
