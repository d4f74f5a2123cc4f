"""Whether the TLS files that a configuration names hold what they are named for, and fit each other."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

from sidecar.config.problem import Finding, Severity

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from sidecar.core.config import Config


@dataclass(frozen=True, slots=True)
class TlsFiles:
    """The paths of a certificate chain, its private key, and the authorities to trust."""

    cert: str | None = None
    key: str | None = None
    authorities: str | None = None


@dataclass(frozen=True, slots=True)
class TlsFault:
    """Which of the `TlsFiles` (by the name of its field) is at fault, and how, in words that follow its path."""

    file: str
    message: str


TlsJudge: TypeAlias = "Callable[[TlsFiles], TlsFault | None]"


def tls_findings(config: Config, judge: TlsJudge) -> Iterator[Finding]:
    """What is wrong with the files of the proxy listener, and of each upstream."""
    if (tls := config.proxy.tls) is not None:
        files = TlsFiles(tls.cert_file, tls.key_file, tls.client_ca_file)
        yield from _finding("", "", "proxy.tls", files, judge)
    for upstream in config.upstreams:
        own = upstream.tls
        if bool(own.cert_file) == bool(own.key_file):
            yield from _finding(
                "upstream", upstream.name, "tls", TlsFiles(own.cert_file, own.key_file, own.ca_file), judge
            )


def _finding(kind: str, name: str, block: str, files: TlsFiles, judge: TlsJudge) -> Iterator[Finding]:
    fault = None if files == TlsFiles() else judge(files)
    if fault is not None:
        authorities = "ca_file" if kind else "client_ca_file"
        setting = authorities if fault.file == "authorities" else f"{fault.file}_file"
        message = f"{setting}: {getattr(files, fault.file)!r} {fault.message}"
        hint = "name a PEM file" if setting == authorities else "name a PEM certificate chain and its own key"
        yield Finding(kind, name, f"{block}.{setting}", message, hint, Severity.ERROR)
