"""A container engine that writes down what it is asked, and the tools that list and scan an image: programs for a PATH.

Each call of the engine is a line in the file that the variable CALLS names; the bill of materials is the variable BILL.
"""

from __future__ import annotations

import json

DIGEST = "sha256:" + "0" * 64
# An image that is saved is an empty file, one that is pushed has a digest, as with the engine itself.
ENGINE = f"""#!/usr/bin/env bash
printf '%s\\n' "$(basename "$0") $*" >> "$CALLS"
for word in "$@"; do
  case $previous in --digestfile) printf '{DIGEST}' > "$word" ;; -o) : > "$word" ;; esac
  case $word in docker-archive:*) : > "${{word#docker-archive:}}" ;; esac
  previous=$word
done
case $* in
  *FAIL*) exit 3 ;;
  *"image inspect"*) printf 'other.example/mlops-app@{DIGEST}\\n%s@{DIGEST}\\n' "${{previous%:*}}" ;;
esac
"""
SYFT = """#!/usr/bin/env bash
for word in "$@"; do case $word in docker-archive:*) test -f "${word#docker-archive:}" || exit 4 ;; esac; done
last=${!#}
case $last in cyclonedx-json=*) printf '%s' "$BILL" > "${last#cyclonedx-json=}" ;; *) exit 5 ;; esac
"""
AUDIT = """#!/usr/bin/env bash
cat "${!#}"
"""
BILL = json.dumps(
    {
        "bomFormat": "CycloneDX",
        "components": [
            {"purl": "pkg:pypi/pillow@12.0.0"},
            {"purl": "pkg:pypi/flask@3.1.2?package-id=0"},
            {"purl": "pkg:deb/debian/openssl@3.0"},
            {"purl": "pkg:pypi/vision-mlops@0.1.0"},
            {"name": "python"},
        ],
    }
)
