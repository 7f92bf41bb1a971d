"""What the operator may rely on: ports, paths, file names, labels and the app document.

Standard library only: the operator's image installs nothing of the worker's.
"""

from __future__ import annotations

PUBLIC_PORT = 8080
"""Port of the public HTTP API, unless `spec.serving.port` names another."""
OPS_PORT = 9090
"""Port of the probes, the metrics and `/state`; never published by the Service."""

LIVE_PATH = "/livez"
READY_PATH = "/readyz"
STARTED_PATH = "/startedz"
METRICS_PATH = "/metrics"
STATE_PATH = "/state"

CONFIG_DIR = "/etc/dspy/config"
"""Where the pod finds the app document; the ConfigMap that the operator writes."""
APP_FILE = "app.json"
"""The app document in `CONFIG_DIR`: what `contract.app.worker_document` returns."""
SOURCE_DIR = "/etc/dspy/source"
"""Where the pod finds the user's Python files (`spec.program.source.configMapRef`)."""
KEYS_DIR = "/etc/dspy/keys"
"""LM keys: one folder per model name; the key is in the file named `KEY_FILE`."""
KEY_FILE = "key"
CONNECTIONS_DIR = "/etc/dspy/connections"
"""URLs of Redis and PostgreSQL: one folder per connection; the URL is in the file `URL_FILE`."""
URL_FILE = "url"
DATA_DIR = "/var/lib/dspy-worker"
"""What a worker keeps on disk: answers, and predictions that PostgreSQL does not have yet."""
OPS_TOKEN_DIR = "/etc/dspy/ops"  # noqa: S105 - a folder's name, not a password
OPS_TOKEN_FILE = "token"  # noqa: S105 - a file's name, not a password

TERMINATION_LOG = "/dev/termination-log"
"""A worker whose program cannot be loaded writes the reason here as JSON and exits.

The JSON object has `reason` (CamelCase) and `message` (one sentence for a person)."""
EXIT_PROGRAM_FAILED = 78
"""Exit code of a worker that cannot load its document or program (EX_CONFIG of sysexits.h)."""
