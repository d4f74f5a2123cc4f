"""A real nginx that serves a folder, as the judge of what a static origin answers."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from tests.support.client import connect
from tests.support.wire import PATIENCE

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from tests.support.messages import WireResponse

CONFIG = """
master_process off;
pid {folder}/nginx.pid;
error_log stderr crit;
events {{ worker_connections 64; }}
http {{
    access_log off;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    types {{ text/plain txt; text/html html; }}
    default_type application/octet-stream;
    server {{
        listen unix:{socket};
        root {files};
        if_modified_since before;
        {server}
    }}
}}
"""


class Nginx:
    """Listens on the Unix socket `path` and serves the folder `files`."""

    def __init__(self, folder: Path) -> None:
        self.files = folder / "files"
        self.path = str(folder / "nginx.sock")
        self.url = f"unix:{self.path}"

    async def exchange(self, data: bytes, method: str = "GET") -> WireResponse:
        """One request on a connection of its own."""
        client = await connect(self.path)
        try:
            return await client.exchange(data, method)
        finally:
            client.transport.abort()


@asynccontextmanager
async def nginx(folder: Path, server: str = "") -> AsyncIterator[Nginx]:
    """Run it for `folder`/files with these directives added to its server block."""
    served = Nginx(folder)
    served.files.mkdir()
    config = folder / "nginx.conf"
    config.write_text(CONFIG.format(folder=folder, socket=served.path, files=served.files, server=server))
    process = await asyncio.create_subprocess_exec("nginx", "-p", folder, "-c", config, "-g", "daemon off;")
    try:
        await _listening(served)
        yield served
    finally:
        process.kill()
        await process.wait()


async def _listening(served: Nginx) -> None:
    async with asyncio.timeout(PATIENCE):
        while True:
            try:
                client = await connect(served.path)
            except (FileNotFoundError, ConnectionRefusedError):
                await asyncio.sleep(0.01)
            else:
                client.transport.abort()
                return
