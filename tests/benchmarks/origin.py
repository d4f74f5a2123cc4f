"""The origin of every benchmark: nginx with one worker, answering from the page cache over keep-alive connections.

`/no-store/*` must be fetched each time, `/fresh/*` may be kept for an hour, `/brief/*` for one second; each holds the
bodies `1k`, `100k`, `10m` and (sparse) `1g`. `/echo?text` answers about 1 KB that begins with the text. Below
`/private/` everything is 1 KB of JSON that must not be stored and carries the request's own id; below `/public/` it may
be stored for an hour and below `/brief-public/` for a second, for each Accept-Encoding.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from tests.benchmarks.processes import free_port

if TYPE_CHECKING:
    from pathlib import Path

    from tests.benchmarks.processes import PinnedProcess, Processes

SIZES = {"1k": 1 << 10, "100k": 100 << 10, "10m": 10 << 20, "1g": 1 << 30}
STORED_URLS = 1000
"""How many URLs the loads ask for that caches answer."""
AS_ROOT = "user root;" if os.geteuid() == 0 else ""

NGINX_TOP = f"""\
{AS_ROOT}
daemon off;
worker_processes 1;
pid {{folder}}/nginx.pid;
error_log stderr error;
events {{{{ worker_connections 8192; }}}}
"""
NGINX_HTTP = """\
  access_log off;
  client_body_temp_path {folder}/body;
  proxy_temp_path {folder}/proxy;
  fastcgi_temp_path {folder}/fastcgi;
  uwsgi_temp_path {folder}/uwsgi;
  scgi_temp_path {folder}/scgi;
  keepalive_requests 1000000000;
  keepalive_timeout 300s;
"""
CONFIG = """\
http {{
{http}
  sendfile on;
  tcp_nopush on;
  default_type application/octet-stream;
  open_file_cache max=64 inactive=1h;
  server {{
    listen 127.0.0.1:{port} backlog=4096;
    location /no-store/ {{ alias {folder}/files/; add_header Cache-Control no-store; }}
    location /fresh/ {{ alias {folder}/files/; add_header Cache-Control max-age=3600; }}
    location /brief/ {{ alias {folder}/files/; add_header Cache-Control max-age=1; }}
    location /private/ {{
      default_type application/json; add_header Cache-Control no-store; add_header X-Request-Id $http_x_request_id;
      return 200 '["{padding}"]';
    }}
    location /public/ {{
      default_type application/json; add_header Cache-Control max-age=3600; add_header Vary Accept-Encoding;
      add_header ETag '"abc"'; return 200 '["{padding}"]';
    }}
    location /brief-public/ {{
      default_type application/json; add_header Cache-Control max-age=1; add_header Vary Accept-Encoding;
      add_header ETag '"abc"'; return 200 '["{padding}"]';
    }}
    location = /echo {{ add_header Cache-Control no-store; return 200 "$args {padding}"; }}
  }}
}}
"""


class Origin:
    """A running origin; `port` on loopback."""

    def __init__(self, processes: Processes, folder: Path, core: int) -> None:
        self.port = free_port()
        _write_files(folder / "files")
        config = CONFIG.format(
            http=NGINX_HTTP.format(folder=folder), port=self.port, folder=folder, padding="x" * (SIZES["1k"] - 16)
        )
        self.process = start_nginx(processes, folder, config, core)
        self.process.wait_listening(self.port)


def start_nginx(processes: Processes, folder: Path, config: str, core: int) -> PinnedProcess:
    """Run nginx on `config` (its `http` block) with everything that it writes below `folder`."""
    path = folder / "nginx.conf"
    path.write_text(NGINX_TOP.format(folder=folder) + config, "utf-8")
    return processes.start(["nginx", "-p", folder, "-c", path, "-e", "stderr"], core, folder / "log")


def _write_files(folder: Path) -> None:
    folder.mkdir(parents=True)
    for name, size in SIZES.items():
        with (folder / name).open("wb") as file:
            # The largest is a hole: it costs no disk, and its pages are zeros.
            file.write(b"" if name == "1g" else os.urandom(size))
            file.truncate(size)
