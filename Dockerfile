# Two images, each with what it needs, pinned by hash, and nothing of the sandbox, the tests or the build:
#   docker build .                        the operator
#   docker build --target keyservice .    the key service
# Name the base image by digest in a build that you release, so that it is the one that you have checked:
#   docker build --build-arg PYTHON=docker.io/library/python:3.13-slim@sha256:… .
ARG PYTHON=docker.io/library/python:3.13-slim

FROM ${PYTHON} AS build
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
WORKDIR /build
COPY requirements/operator.lock requirements/build.lock requirements/
RUN python -m venv /opt/cmk-operator \
 && /opt/cmk-operator/bin/pip install --no-deps --require-hashes -r requirements/operator.lock \
 && python -m venv /opt/build \
 && /opt/build/bin/pip install --no-deps --require-hashes -r requirements/build.lock
COPY pyproject.toml README.md ./
COPY operator operator
RUN PATH="/opt/build/bin:$PATH" pip wheel --no-deps --no-build-isolation --wheel-dir dist . \
 && /opt/cmk-operator/bin/pip install --no-deps dist/*.whl \
 && /opt/cmk-operator/bin/pip uninstall --yes pip

FROM build AS build-keyservice
COPY requirements/keyservice.lock requirements/
RUN python -m venv /opt/cmk-keyservice \
 && /opt/cmk-keyservice/bin/pip install --no-deps --require-hashes -r requirements/keyservice.lock \
 && /opt/cmk-keyservice/bin/pip install --no-deps dist/*.whl \
 && /opt/cmk-keyservice/bin/pip uninstall --yes pip

FROM ${PYTHON} AS keyservice
LABEL org.opencontainers.image.title="cmk-keyservice" \
      org.opencontainers.image.description="Encrypts and decrypts for services, under the organization's own key"
ENV PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1
COPY --from=build-keyservice /opt/cmk-keyservice /opt/cmk-keyservice
USER 65532:65532
WORKDIR /tmp
EXPOSE 8443 9090
ENTRYPOINT ["/opt/cmk-keyservice/bin/cmk-keyservice"]
CMD ["serve"]

# The last one is built if no target is named.
FROM ${PYTHON} AS operator
LABEL org.opencontainers.image.title="cmk-operator" \
      org.opencontainers.image.description="Keeps a vendor's Azure data encrypted with its customers' own keys"
# The root file system may be read-only: everything is compiled already, and nothing is written but to /tmp by libraries.
ENV PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1
COPY --from=build /opt/cmk-operator /opt/cmk-operator
USER 65532:65532
WORKDIR /tmp
EXPOSE 8080
ENTRYPOINT ["/opt/cmk-operator/bin/cmk-operator"]
