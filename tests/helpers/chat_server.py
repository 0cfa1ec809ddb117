"""A chat-completions endpoint in a thread, whose every response a test decides."""

from __future__ import annotations

import contextlib
import http.server
import json
import threading
from collections.abc import Callable, Iterator


def completion(text, finish_reason="stop", usage=(10, 5)):
    """The body of a chat completion."""
    return json.dumps(
        {
            "choices": [
                {
                    "message": {"role": "assistant", "content": text},
                    "finish_reason": finish_reason,
                }
            ],
            "usage": dict(
                zip(("prompt_tokens", "completion_tokens"), usage, strict=True)
            ),
        }
    ).encode()


class ChatServer(http.server.ThreadingHTTPServer):
    """`respond(prompt, n)` answers request n (from 0): a status, headers and a body.

    A status of None closes the connection without a response. The body may come in
    pieces, then the headers have its length. requests: the decoded
    bodies and the headers of all requests so far. most: requests at one time.
    """

    daemon_threads = True

    def __init__(self, respond: Callable) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.respond = respond
        self.requests: list[dict] = []
        self.headers: list[dict] = []
        self.lock = threading.Lock()
        self.now = self.most = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/v1"

    @property
    def prompts(self) -> list[str]:
        return [body["messages"][0]["content"] for body in self.requests]

    def handle_error(self, request, client_address) -> None:
        pass  # a client that went away


class _Handler(http.server.BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        server = self.server
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        assert self.path == "/v1/chat/completions"
        with server.lock:
            number = len(server.requests)
            server.requests.append(body)
            server.headers.append(dict(self.headers))
            server.now += 1
            server.most = max(server.most, server.now)
        try:
            prompt = body["messages"][0]["content"]
            status, headers, content = server.respond(prompt, number)
        finally:
            with server.lock:
                server.now -= 1
        if status is None:
            self.close_connection = True
            return
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        if "Content-Length" not in headers:
            self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        for piece in [content] if isinstance(content, bytes) else content:
            self.wfile.write(piece)

    def log_message(self, *_) -> None:
        pass


@contextlib.contextmanager
def serving(respond: Callable) -> Iterator[ChatServer]:
    """A server that runs while the context is open."""
    server = ChatServer(respond)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
