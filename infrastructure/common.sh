# What the scripts share: messages, options, and commands that are shown before they are run. Sourced, not run.
# shellcheck shell=bash

dry_run=false
assume_yes=false

say() { printf '%s\n' "$*" >&2; }

# fail MESSAGE [HINT] [CODE]
fail() {
  say "error: $1"
  [ -z "${2:-}" ] || say "  $2"
  exit "${3:-2}"
}

# A command that changes something: shown, and run unless this is a dry run. What only looks is called as it is.
run() {
  printf '+' >&2
  printf ' %q' "$@" >&2
  printf '\n' >&2
  "$dry_run" || "$@"
}

# value OPTION [VALUE]: the value that an option must have.
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

# confirm WHAT WORD: go on only where the word is typed, or with --yes.
confirm() {
  if "$dry_run" || "$assume_yes"; then return; fi
  local answer=""
  [ -t 0 ] || fail "$1 needs a confirmation" "--yes gives it; --dry-run only shows what would be done"
  read -r -p "$1. Type $2 to go on: " answer || true
  [ "$answer" = "$2" ] || fail "not confirmed: nothing was deleted" "" 1
}

# list_ids: names of the resources whose ids are read, one a line.
list_ids() {
  local id
  while read -r id; do [ -z "$id" ] || say "  ${id##*/providers/}"; done
}

# Seconds between two looks, and how many looks; tests shorten the wait.
wait_seconds=${MLOPS_WAIT_SECONDS:-15}
wait_tries=${MLOPS_WAIT_TRIES:-40}

# wait_until WHAT COMMAND...: until the command succeeds; what it says at last is shown where the time is up.
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
  fail "$what: not within $((wait_tries * wait_seconds)) s: ${said##*$'\n'}" "run the same command again: it goes on where it stopped" 1
}

# me: object id of who is signed in, whether a person or a service principal.
me() {
  local name
  name=$(az account show --query user.name --output tsv)
  if [ "$(az account show --query user.type --output tsv)" = user ]; then
    az ad signed-in-user show --query id --output tsv
  else
    az ad sp show --id "$name" --query id --output tsv
  fi
}

# assign PRINCIPAL TYPE ROLE SCOPE: give a role where it is missing. Assigning twice is no error, but takes a right that not
# everybody has who may look.
assign() {
  local found
  found=$(az role assignment list --assignee-object-id "$1" --role "$3" --scope "$4" --include-inherited --query "[].id" --output tsv)
  if [ -n "$found" ]; then
    say "role $3 is assigned"
  else
    run az role assignment create --assignee-object-id "$1" --assignee-principal-type "$2" --role "$3" --scope "$4" --output none
  fi
}

# read_delete_options ARGUMENT...: set $group, $name, $dry_run and $assume_yes from the options of a script that deletes.
read_delete_options() {
  while [ $# -gt 0 ]; do
    case $1 in
      --help | -h) usage; exit ;;
      --dry-run) dry_run=true; shift; continue ;;
      --yes) assume_yes=true; shift; continue ;;
      --group) group=$(value "$@") ;;
      --name) name=$(value "$@") ;;
      *) fail "unknown option $1" "see --help" ;;
    esac
    shift 2
  done
  [ -n "$group" ] && [ -n "$name" ] || fail "--group and --name are needed" "see --help"
}
