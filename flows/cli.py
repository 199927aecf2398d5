"""`prism ...`: the flows for a terminal, and the views of the store.

Results go to standard output, progress and errors to standard error. Exit code 0: done; 1: failed; 2: what was
asked for cannot be done as asked, with a sentence that names the value, the rule and the next step.
"""

import logging
import os
import sys

# they add their commands to the application
from flows import alerting, holdings, keeping, looking, proving, running, serving  # noqa: F401
from flows.options import app
from storage.errors import InputError, NoDataError, PrismError
from storage.settings import made_cache


def main() -> None:
    """Run a command; every error that PRISM raises on purpose is one sentence."""
    os.environ.setdefault("PREFECT_LOGGING_LEVEL", "CRITICAL")  # Prefect's tracebacks; PRISM's own lines stay
    _show_progress()
    try:
        made_cache()
        app(standalone_mode=True)
    except PrismError as error:
        sys.stderr.write(f"prism: {error}\n")
        sys.exit(2 if isinstance(error, (InputError, NoDataError)) else 1)
    except KeyboardInterrupt:
        sys.stderr.write("prism: stopped; run the same command again and it goes on\n")
        sys.exit(1)
    finally:
        logging.getLogger("prism").handlers.clear()


def _show_progress() -> None:
    """PRISM's own log, a line each, on standard error."""
    handler, log = logging.StreamHandler(), logging.getLogger("prism")
    handler.setFormatter(logging.Formatter("%(asctime)s  %(message)s", "%H:%M:%S"))
    log.handlers, log.propagate = [handler], False  # Prefect's handler of the root would print each line again
    log.setLevel(logging.INFO)
