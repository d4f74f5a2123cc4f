"""What the log would tell too much of, or never tell."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from sidecar.config.problem import Finding

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sidecar.core.config import Config

SECRET = re.compile(r"auth|cookie|token|secret|api-?key|passw|credential|session")
"""Names of fields whose value is likely a secret."""


def log_findings(config: Config) -> Iterator[Finding]:
    """Secrets that lines would show, and settings for lines that there are not."""
    log = config.log
    for name in log.headers:
        if SECRET.search(name) and name not in log.redact:
            message = f"the log shows the value of {name}, which is likely a secret"
            yield Finding("", "", "log.headers", message, f"add {name} to log.redact")
    if not (log.access and config.proxy.access_log):
        for setting, given in (("sample", log.sample != 1), ("headers", bool(log.headers))):
            if given:
                message = f"{setting} has no effect: there is no access log"
                yield Finding("", "", f"log.{setting}", message, f"remove {setting}, or write access: true")
