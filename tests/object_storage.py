"""S3 on this machine: moto in a process of its own, on a free port, which it prints.

Each request is served alone, so that a condition and its write are one step, as S3 promises. A first argument is the
share of requests that fail with 500 or 503, half of them after they were done; a second one seeds that choice. The
bucket `denied` refuses everything, and the bucket `careless` knows no conditions.
"""

import random
import sys
import threading
from xml.etree.ElementTree import Element, SubElement, tostring

from moto.server import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import WSGIRequestHandler, make_server


class Storage:
    """moto's application, with answers that fail."""

    def __init__(self, faults, seed):
        self.served = DomainDispatcherApplication(create_backend_app)
        self.faults, self.chosen, self.alone = faults, random.Random(seed), threading.Lock()

    def __call__(self, environ, start_response):
        if environ["PATH_INFO"].startswith("/denied"):
            return failed(start_response, "403 Forbidden", "AccessDenied", AWSAccessKeyId=environ["HTTP_AUTHORIZATION"])
        if environ["PATH_INFO"].startswith("/careless"):
            environ = {name: value for name, value in environ.items() if not name.startswith("HTTP_IF_")}
        with self.alone:
            luck, said = self.chosen.random(), []
            if luck < self.faults / 2:
                return failed(start_response, "503 Service Unavailable", "SlowDown")
            body = b"".join(self.served(environ, lambda *head: said.append(head)))
            if luck < self.faults:
                return failed(start_response, "500 Internal Server Error", "InternalError")
        start_response(*said[0])
        return [body]


def failed(start_response, status, code, **more):
    answer = Element("Error")
    for name, text in {"Code": code, "Message": code, **more}.items():
        SubElement(answer, name).text = text
    start_response(status, [("Content-Type", "application/xml")])
    return [tostring(answer)]


class Quiet(WSGIRequestHandler):
    def log_request(self, code="-", size="-"):
        """Say nothing."""


if __name__ == "__main__":
    rate, seed = float(sys.argv[1]) if len(sys.argv) > 1 else 0.0, int(sys.argv[2]) if len(sys.argv) > 2 else 0
    server = make_server("127.0.0.1", 0, Storage(rate, seed), threaded=True, request_handler=Quiet)
    print(server.server_port, flush=True)
    server.serve_forever()
