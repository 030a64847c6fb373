"""An Ollama that has models loaded, as far as hotseat asks it."""

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class FakeOllama(ThreadingHTTPServer):
    """Answers `/api/ps` and lets go of a model for an empty request with `keep_alive` 0."""

    def __init__(self, *models, answer=None, unloaded=lambda: None):
        super().__init__(("127.0.0.1", 0), _Handler)
        self.models = dict(models)
        self.answer = answer
        self.asked = []
        self.unloaded = unloaded

    @property
    def ps(self):
        if self.answer is not None:
            return self.answer
        rows = [{"name": n, "model": n, "size": s, "size_vram": s} for n, s in self.models.items()]
        return json.dumps({"models": rows}).encode()

    def __enter__(self):
        threading.Thread(target=self.serve_forever, args=(0.01,), daemon=True).start()
        return self

    def __exit__(self, *_):
        self.shutdown()
        self.server_close()


class _Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        self.server.asked.append(self.path)
        self._say(self.server.ps)

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        assert (self.path, body["keep_alive"]) == ("/api/generate", 0)
        self.server.models.pop(body["model"], None)
        self.server.unloaded()
        self._say(b'{"done": true, "done_reason": "unload"}')

    def _say(self, body):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass
