"""What the listeners' and the store's keys accept; that each field is a key is shown in test_keys.py."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from sidecar.config.keys import block_of
from sidecar.config.value_types import ListType, ScalarType
from sidecar.core.config import (
    Address,
    AdminSettings,
    CacheStoreSettings,
    ClientLimits,
    ForwardedMode,
    ProxySettings,
    ServerTls,
    TelemetrySettings,
)

if TYPE_CHECKING:
    from sidecar.config.keys import Block

PROXY = block_of(ProxySettings, "proxy")
LIMITS = block_of(ClientLimits, "limits")
SERVER_TLS = block_of(ServerTls, "tls")
ADMIN = block_of(AdminSettings, "admin")
TELEMETRY = block_of(TelemetrySettings, "telemetry")
STORE = block_of(CacheStoreSettings, "cache")


def read(block: Block[Any], name: str, text: str) -> object:
    kind = block.by_name[name].type
    if isinstance(kind, ListType):
        return kind.collect([kind.item.parse(text)])
    assert isinstance(kind, ScalarType)
    return kind.parse(text)


@pytest.mark.parametrize(
    ("block", "name", "text", "value"),
    [
        (PROXY, "listen", "127.0.0.1:4100", (Address("127.0.0.1", 4100),)),
        (PROXY, "listen", "unix:/run/sidecar.sock", (Address(unix_path="/run/sidecar.sock"),)),
        (PROXY, "via", "edge-1", "edge-1"),
        (PROXY, "forwarded", "x-forwarded", ForwardedMode.X_FORWARDED),
        (PROXY, "drain_timeout", "0s", 0.0),
        (LIMITS, "head_size", "1KiB", 1024),
        (LIMITS, "target_size", "16", 16),
        (LIMITS, "keep_alive", "0s", 0.0),
        (ADMIN, "listen", "[::1]:4101", (Address("::1", 4101),)),
        (TELEMETRY, "listen", "0.0.0.0:4102", (Address("0.0.0.0", 4102),)),
        (STORE, "max_size", "64KiB", 65536),
        (STORE, "max_variants", "1", 1),
    ],
)
def test_a_value_is_read(block: Block[Any], name: str, text: str, value: object) -> None:
    assert read(block, name, text) == value


@pytest.mark.parametrize(
    ("block", "name", "text"),
    [
        (PROXY, "listen", "4100:localhost"),
        (PROXY, "via", "1sidecar"),
        (PROXY, "via", "side car"),
        (PROXY, "forwarded", "on"),
        (LIMITS, "head_size", "1023"),
        (LIMITS, "target_size", "15"),
        (LIMITS, "header_count", "0"),
        (LIMITS, "pipeline_depth", "0"),
        (LIMITS, "head_timeout", "0s"),
        (LIMITS, "tunnel_idle", "0s"),
        (STORE, "max_size", "63KiB"),
        (STORE, "max_variants", "0"),
        (STORE, "max_variants", "10001"),
    ],
)
def test_a_value_that_would_make_a_listener_useless_is_refused(block: Block[Any], name: str, text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        read(block, name, text)


def test_a_tls_listener_needs_its_certificate_and_key() -> None:
    assert SERVER_TLS.required == {"cert_file", "key_file"}


@pytest.mark.parametrize("block", [PROXY, ADMIN, TELEMETRY], ids=lambda block: block.name)
def test_a_listener_listens_somewhere(block: Block[Any]) -> None:
    kind = block.by_name["listen"].type
    assert isinstance(kind, ListType)
    assert not kind.may_be_empty
