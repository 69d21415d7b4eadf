"""Does an exported SavedModel serve 2,000 requests of 8 clients without error or leak?

Command: python experiments/benchmarks/serving_load.py --model=FOLDER --images='GLOB'
Expected time: 2 min for yolov8_tiny at 160 px. Expected numbers: 0 errors, and at most 5 % more
memory after the last request than after the warm-up (the first 400).

TensorFlow Serving's server is in no package index this was written with, so a small HTTP server
stands in: a process of its own around tf.saved_model.load, one thread per connection, which
understands the one request of Serving's REST interface that the README shows. Nothing is
batched across requests. Every tenth request sends an image that is cut in half, and must be
answered with a status, not with an error.
"""

import base64
import concurrent.futures
import http.client
import http.server
import json
import multiprocessing
import os
import time
import urllib.request

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

from absl import app, flags

FLAGS = flags.FLAGS
flags.DEFINE_string("model", None, "Folder of an exported SavedModel.", required=True)
flags.DEFINE_string("images", None, "Glob of image files.", required=True)
flags.DEFINE_integer("requests", 2000, "After the warm-up.")
flags.DEFINE_integer("warm_up", 400, "Requests before memory counts.")
flags.DEFINE_integer("clients", 8, "Threads that send requests.")

_PATH = "/v1/models/detector:predict"


def _serve(folder: str, port: multiprocessing.Queue) -> None:
    """Runs the server until its process is ended; puts its port into the queue."""
    import tensorflow as tf

    model = tf.saved_model.load(folder)

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            files = [base64.b64decode(row["image_bytes"]["b64"]) for row in body["instances"]]
            found = model.signatures["serving_default"](image_bytes=tf.constant(files))
            status = [text.decode() for text in found["status"].numpy()]
            counts = found["num_detections"].numpy().tolist()
            self._answer({"status": status, "num_detections": counts})

        def do_GET(self) -> None:
            self._answer({"memory_bytes": _memory_bytes()})

        def _answer(self, values: dict) -> None:
            content = json.dumps(values).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: object) -> None:
            """Says nothing: 2,400 lines help nobody."""

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    port.put(server.server_address[1])
    server.serve_forever()


def _memory_bytes() -> int:
    """Resident memory of this process (Linux)."""
    # Not through kd_tf.files: TensorFlow's reader trusts the stated length, which is 0 here.
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def _ask(connection: http.client.HTTPConnection, encoded: bytes) -> str:
    row = {"image_bytes": {"b64": base64.b64encode(encoded).decode()}}
    connection.request("POST", _PATH, json.dumps({"instances": [row]}))
    answer = connection.getresponse()
    content = answer.read()
    if answer.status != 200:
        raise RuntimeError(f"HTTP {answer.status}: {content[:200]!r}")
    return json.loads(content)["status"][0]


def load(port: int, files: list[bytes], *, num_requests: int, clients: int) -> dict[str, int]:
    """Sends requests from several clients; returns how often each status came back."""

    def client(first: int) -> dict[str, int]:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        seen: dict[str, int] = {}
        for number in range(first, num_requests, clients):
            encoded = files[number % len(files)]
            status = _ask(connection, encoded[: len(encoded) // 2] if number % 10 == 9 else encoded)
            seen[status] = seen.get(status, 0) + 1
        return seen

    total: dict[str, int] = {}
    with concurrent.futures.ThreadPoolExecutor(clients) as pool:
        for seen in pool.map(client, range(clients)):
            for status, count in seen.items():
                total[status] = total.get(status, 0) + count
    return total


def measure(folder: str, files: list[bytes], *, warm_up: int, requests: int, clients: int) -> dict:
    """Starts a server, warms it up, loads it, and ends it.

    Returns:
        "statuses" (status to count), "memory_growth" (fraction), "requests_per_s".
    """
    context = multiprocessing.get_context("spawn")
    queue = context.Queue()
    process = context.Process(target=_serve, args=(folder, queue), daemon=True)
    process.start()
    try:
        port = queue.get(timeout=120)
        memory = f"http://127.0.0.1:{port}/memory"
        load(port, files, num_requests=warm_up, clients=clients)
        before = json.load(urllib.request.urlopen(memory))["memory_bytes"]
        start = time.perf_counter()
        statuses = load(port, files, num_requests=requests, clients=clients)
        seconds = time.perf_counter() - start
        after = json.load(urllib.request.urlopen(memory))["memory_bytes"]
    finally:
        process.terminate()
        process.join()
    return {
        "statuses": statuses,
        "memory_before_bytes": before,
        "memory_growth": round(after / before - 1.0, 4),
        "requests_per_s": round(requests / seconds, 1),
    }


def main(argv: list[str]) -> None:
    """Prints what came back, the growth of memory and the rate."""
    del argv
    from kd_tf import files

    encoded = [files.read_bytes(path) for path in files.find(FLAGS.images)]
    limits = {"warm_up": FLAGS.warm_up, "requests": FLAGS.requests, "clients": FLAGS.clients}
    print(json.dumps(measure(FLAGS.model, encoded, **limits), indent=2))


if __name__ == "__main__":
    app.run(main)
