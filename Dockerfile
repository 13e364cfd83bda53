# The image of mendix-mesh: Python, the locked libraries, the package; no pip, no compiler, nothing
# that is setuid. Two builds of the same sources are the same, byte by byte, if the engine fixes the
# timestamps.
#
# PYTHON is any image with Python 3.11, or later, and its pip in /usr/local, as the official ones
# have them. Releases name it by its digest.
ARG PYTHON=python:3.11-slim-bookworm

# The system: that image without what serves to install more, or to become somebody else. Its own
# modules come without bytecode, which a read-only container would make again at each start.
FROM ${PYTHON} AS system
RUN set -eu; \
    lib=$(python3 -c 'import sysconfig; print(sysconfig.get_path("stdlib"))'); \
    rm -rf "$lib"/site-packages/* "$lib"/ensurepip "$lib"/idlelib "$lib"/lib2to3 \
        "$lib"/pydoc_data "$lib"/test "$lib"/tkinter "$lib"/turtledemo "$lib"/config-* \
        /usr/local/include /usr/local/share/man /usr/local/bin/pip* /usr/local/bin/wheel* \
        /usr/local/bin/idle* /usr/local/bin/2to3*; \
    find "$lib" -name __pycache__ -prune -exec rm -rf {} +; \
    python3 -m compileall -q -j 1 --invalidation-mode unchecked-hash "$lib"; \
    echo 'nonroot:x:65532:65532::/:/usr/sbin/nologin' >> /etc/passwd; \
    echo 'nonroot:x:65532:' >> /etc/group; \
    find / -xdev -type f -perm /6000 -exec chmod ug-s {} +

# The libraries that the server needs, and no others, each with the hash that the lock file names.
# The lock file leaves out requirements/unused.txt, so pip must not ask for dependencies. Of the
# Kubernetes client, webhook.cluster.api uses only the login: the generated API and the asynchronous
# client are most of it.
FROM ${PYTHON} AS package
ARG PIP_INDEX_URL
COPY requirements/runtime.txt /src/requirements/
RUN set -eu; \
    python3 -m venv --without-pip /opt/mendix-mesh; \
    python3 -m pip --python /opt/mendix-mesh/bin/python install --no-cache-dir --no-compile \
        --no-deps --require-hashes --only-binary :all: -r /src/requirements/runtime.txt; \
    libraries=$(echo /opt/mendix-mesh/lib/python3*/site-packages); \
    kubernetes=$libraries/kubernetes; \
    rm -rf "$kubernetes"/aio "$kubernetes"/client/api "$kubernetes"/client/apis; \
    find "$kubernetes"/client/models -name '*.py' ! -name __init__.py -delete; \
    find "$libraries" -depth -type d '(' -name test -o -name tests ')' -exec rm -rf {} +; \
    python3 -m compileall -q -j 1 --invalidation-mode unchecked-hash /opt/mendix-mesh/lib

# The package itself. What builds it stays out of the image.
COPY requirements/build.txt /src/requirements/
RUN python3 -m pip install --no-cache-dir --target /build --require-hashes --only-binary :all: \
        -r /src/requirements/build.txt
COPY LICENSE README.md pyproject.toml /src/
COPY webhook /src/webhook
COPY docs/*.md docs/rbac.yaml /src/docs/
RUN set -eu; \
    PYTHONPATH=/build python3 -m pip --python /opt/mendix-mesh/bin/python install --no-cache-dir \
        --no-compile --no-index --no-deps --no-build-isolation /src; \
    python3 -m compileall -q -j 1 --invalidation-mode unchecked-hash \
        /opt/mendix-mesh/lib/python3*/site-packages/webhook; \
    rm -rf /opt/mendix-mesh/include; \
    find /opt/mendix-mesh/bin -mindepth 1 ! -name 'python*' ! -name mendix-mesh -exec rm {} +

# From scratch, because what a stage removes from its base would still be in the base's layers.
FROM scratch
LABEL org.opencontainers.image.title="mendix-mesh" \
      org.opencontainers.image.description="Every pod in a Mendix namespace joins the service mesh, and a pod that did not join does not start." \
      org.opencontainers.image.licenses="Apache-2.0"
# hadolint ignore=DL3067
COPY --from=system / /
COPY --from=package /opt/mendix-mesh /opt/mendix-mesh
ENV PATH=/opt/mendix-mesh/bin:/usr/local/bin:/usr/bin:/bin \
    LANG=C.UTF-8 \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1
USER 65532:65532
EXPOSE 10250
ENTRYPOINT ["mendix-mesh"]
CMD ["--help"]
