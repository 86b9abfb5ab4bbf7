# What the scripts share: messages, options, and commands that are shown before they run. Sourced, not run.
# shellcheck shell=bash

dry_run=false
yes=false

say() { printf '%s\n' "$*" >&2; }

# fail MESSAGE [HINT] [CODE]
fail() {
  say "error: $1"
  [ -z "${2:-}" ] || say "  $2"
  exit "${3:-2}"
}

# Show a command that changes something, and run it unless this is a dry run. Commands that only read are called directly.
run() {
  printf '+' >&2
  printf ' %q' "$@" >&2
  printf '\n' >&2
  "$dry_run" || "$@"
}

# value OPTION [VALUE]: print the value of an option, which must have one.
value() {
  [ -n "${2:-}" ] || fail "$1 needs a value" "see --help"
  printf '%s' "$2"
}

# needs COMMAND HINT
needs() {
  command -v "$1" >/dev/null || fail "$1 is not installed" "$2"
}

signed_in() {
  needs az "install the Azure CLI, 2.75 or later, then: az login"
  subscription=$(az account show --query id --output tsv 2>/dev/null) || fail "not signed in to Azure" "az login"
  say "subscription $subscription ($(az account show --query name --output tsv))"
}

group_exists() {
  [ "$(az group exists --name "$1")" = true ]
}

# confirm WHAT WORD: continue only if the word is typed, or with --yes.
confirm() {
  if "$dry_run" || "$yes"; then return; fi
  local answer=""
  [ -t 0 ] || fail "$1 needs a confirmation" "give --yes; --dry-run only shows what would be done"
  read -r -p "$1. Type $2 to continue: " answer || true
  [ "$answer" = "$2" ] || fail "not confirmed: nothing was deleted" "" 1
}

# list_ids: print the names of the resources whose ids are on standard input, one per line.
list_ids() {
  local id
  while read -r id; do [ -z "$id" ] || say "  ${id##*/providers/}"; done
}

# Seconds between two attempts, and their number; tests shorten the wait.
wait_seconds=${MLOPS_WAIT_SECONDS:-15}
wait_tries=${MLOPS_WAIT_TRIES:-40}

# wait_until WHAT COMMAND...: wait until the command succeeds; if the time is up, show its last output.
wait_until() {
  local what=$1 try said=""
  shift
  if "$dry_run"; then
    say "(would wait until $what)"
    return
  fi
  for ((try = 1; try <= wait_tries; try++)); do
    if said=$("$@" 2>&1); then return; fi
    [ "$try" -gt 1 ] || say "waiting until $what"
    sleep "$wait_seconds"
  done
  fail "$what: not within $((wait_tries * wait_seconds)) s: ${said##*$'\n'}" "run the same command again: it continues where it stopped" 1
}

# me: print the object id of who is signed in, a person or a service principal.
me() {
  local name
  name=$(az account show --query user.name --output tsv)
  if [ "$(my_type)" = User ]; then
    az ad signed-in-user show --query id --output tsv
  else
    az ad sp show --id "$name" --query id --output tsv
  fi
}

# my_type: print the principal type of who is signed in.
my_type() {
  if [ "$(az account show --query user.type --output tsv)" = user ]; then echo User; else echo ServicePrincipal; fi
}

# assign PRINCIPAL TYPE ROLE SCOPE: assign a role that is missing. Assigning it twice is no error, but needs a permission that
# not everybody has who may read assignments.
assign() {
  local found
  found=$(az role assignment list --assignee-object-id "$1" --role "$3" --scope "$4" --include-inherited --query "[].id" --output tsv)
  if [ -n "$found" ]; then
    say "role $3 is assigned"
  else
    run az role assignment create --assignee-object-id "$1" --assignee-principal-type "$2" --role "$3" --scope "$4" --output none
  fi
}

# ensure_group GROUP LOCATION [TAG...]: create a resource group that does not exist.
ensure_group() {
  if ! group_exists "$1"; then
    run az group create --name "$1" --location "$2" --tags project=vision-mlops "${@:3}" --output none
  fi
}

# read_options NAMES ARGUMENT...: set a variable for each option of a script, with _ for -. In NAMES, NAME= takes a value, NAME is
# a flag, and ENVIRONMENT is the one argument that is not an option.
read_options() {
  local names=" dry-run $1 " option given
  shift
  while [ $# -gt 0 ]; do
    option=${1#--}
    case $1 in
      --help | -h) usage; exit ;;
      -*)
        if [[ $names == *" $option= "* ]]; then
          given=$(value "$@")
          shift
        elif [[ $names == *" $option "* ]]; then
          given=true
        else
          fail "unknown option $1" "see --help"
        fi
        printf -v "${option//-/_}" %s "$given"
        ;;
      *)
        [[ $names == *" ENVIRONMENT "* ]] || fail "unknown option $1" "see --help"
        [ -z "$environment" ] || fail "more than one environment: $environment and $1"
        environment=$1
        ;;
    esac
    shift
  done
}
