# A node of Aqueduct. Host networking is meant (see docker-compose.yml): a relay with thousands of ports behind a
# port-mapping bridge costs more than it protects.
FROM debian:12-slim AS build
RUN apt-get update && apt-get install -y --no-install-recommends python3-dev python3-venv gcc libc6-dev && rm -rf /var/lib/apt/lists/*
WORKDIR /src
COPY pyproject.toml setup.py README.md ./
COPY proxy proxy
COPY media media
RUN python3 -m venv /opt/aqueduct && /opt/aqueduct/bin/pip install --no-cache-dir '.[uvloop,srtp]'

FROM debian:12-slim
RUN apt-get update && apt-get install -y --no-install-recommends python3 && rm -rf /var/lib/apt/lists/* \
 && useradd --system --home-dir /var/lib/aqueduct --create-home aqueduct
COPY --from=build /opt/aqueduct /opt/aqueduct
USER aqueduct
VOLUME /var/lib/aqueduct
ENTRYPOINT ["/opt/aqueduct/bin/aqueduct"]
CMD ["run", "-c", "/etc/aqueduct/aqueduct.yaml"]
