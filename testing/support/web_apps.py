"""Small web apps for the emulator's App Service: a few lines of Python in a zip, without requirements."""

from __future__ import annotations

from testing.support.archives import zip_of

STARTUP = "sh startup.sh"
_APP = """
import http.server, json, os, sys

HEALTH, PAGE, FRONT, TEXT, EXIT = {health}, {page}, {front}, {text!r}, {code}
if EXIT:
    print("no module named anything; key", os.environ.get("MLOPS_APP_ENDPOINT_KEY"), flush=True)
    sys.exit(EXIT)


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # else each body waits 40 ms for the acknowledgement of its head

    def do_GET(self):
        shown = {{"text": TEXT, "headers": dict(self.headers), "settings": {{k: v for k, v in os.environ.items()}}}}
        path = self.path.partition("?")[0]
        if path == "/health":
            status, body = HEALTH, {{"status": "ok", "release": os.environ.get("MLOPS_RELEASE", "")}}
        else:
            page = FRONT if os.environ.get("PLACE") == "front" else PAGE
            status, body = (page, shown) if path in ("/", "/warm") else (404, {{}})
        content = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "text/html")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *words):
        pass


print("listening", flush=True)
http.server.ThreadingHTTPServer(("127.0.0.1", int(os.environ["PORT"])), Handler).serve_forever()
"""


def small_app(
    text: str, *, health: int = 200, page: int = 200, front: int = 200, code: int = 0, requirements: str = ""
) -> bytes:
    """The zip of an app.

    Args:
        text: What its pages hold.
        health: Status of ``/health``.
        page: Status of ``/``.
        front: The same where the setting PLACE is ``front``.
        code: Exit code that it ends with at once; 0 to serve.
        requirements: Content of ``requirements.txt``.
    """
    source = _APP.format(health=health, page=page, front=front, text=text, code=code)
    files = {"app.py": source, "requirements.txt": requirements, "startup.sh": "exec python app.py\n"}
    return zip_of({name: content.encode() for name, content in files.items()})
