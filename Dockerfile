ARG PYTHON_IMAGE=python:3.11-slim-bookworm

FROM ${PYTHON_IMAGE} AS build
WORKDIR /build
ENV PYTHONDONTWRITEBYTECODE=1 PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_REQUIRE_VIRTUALENV=1
RUN python -m venv /opt/build && python -m venv --without-pip /opt/sidecar
COPY requirements-build.lock ./
RUN /opt/build/bin/pip install --no-deps --only-binary :all: --require-hashes -r requirements-build.lock \
    && /opt/build/bin/pip check
# With the client for a fleet: 4 MB of disk, and no memory where no `redis:` is configured.
COPY requirements-redis.lock ./
RUN /opt/build/bin/pip --python /opt/sidecar/bin/python \
    install --no-compile --no-deps --only-binary :all: --require-hashes -r requirements-redis.lock
COPY LICENSE README.md pyproject.toml ./
COPY sidecar ./sidecar
RUN /opt/build/bin/pip wheel --no-deps --no-build-isolation --wheel-dir /wheels . \
    && /opt/build/bin/pip --python /opt/sidecar/bin/python install --no-compile --no-deps /wheels/*.whl \
    && /opt/build/bin/pip --python /opt/sidecar/bin/python check
# A layer does not keep the times of the files that the bytecode was made from, so it must not depend on them.
RUN python -m compileall -q --invalidation-mode unchecked-hash /opt/sidecar/lib

FROM ${PYTHON_IMAGE}
# Slim images bring no bytecode of the standard library, and a read-only root never gets it.
RUN python -m compileall -q --invalidation-mode unchecked-hash \
    -x '/(ensurepip|idlelib|lib2to3|test|tests|tkinter|turtledemo|site-packages|dist-packages)/' \
    "$(python -c 'import sysconfig; print(sysconfig.get_path("stdlib"))')"
COPY --from=build /opt/sidecar /opt/sidecar
ENV PATH=/opt/sidecar/bin:$PATH PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1 \
    SIDECAR_CONFIG=/etc/sidecar/sidecar.yaml
USER 65532:65532
EXPOSE 4100 4102
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=3s --start-period=5s --retries=3 CMD ["sidecar", "healthcheck"]
ENTRYPOINT ["sidecar"]
CMD ["run"]
