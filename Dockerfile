# A node in a container. The base is any Linux with Python 3.11 or newer and its venv module:
#
#   make image                            with the base below
#   make image BASE=registry.local/python:3.12
#
# `make image` first fills build/wheels for the base's Python, so that nothing is downloaded in here. State is in the volume /home/skerry/node:
# its keys, its records, its agents. Who loses it, loses the node.
ARG BASE=python:3.12-slim
FROM ${BASE}

ARG EXTRAS=""

RUN --mount=type=bind,source=build/wheels,target=/wheels \
    python3 -m venv /opt/skerry \
    && /opt/skerry/bin/pip install --no-cache-dir --no-index --find-links /wheels "skerry${EXTRAS:+[$EXTRAS]}" \
    && ln -s /opt/skerry/bin/skerry /usr/local/bin/skerry \
    && useradd --uid 10001 --user-group --create-home --shell /usr/sbin/nologin skerry \
    && install --directory --owner skerry --group skerry --mode 0700 /home/skerry/node

# A log collector reads stderr; the log in the home stays small by itself.
ENV SKERRY_HOME=/home/skerry/node \
    SKERRY_LOG_FORMAT=json \
    PYTHONUNBUFFERED=1

USER skerry
WORKDIR /home/skerry
VOLUME /home/skerry/node
# The DHT, where the node takes part in one, is at 7422/udp.
EXPOSE 7420 7422/udp

# The door is on the container's own loopback, where `ready.json` says; whoever is in the container may ask whether the node is alive.
HEALTHCHECK --interval=30s --timeout=5s --start-period=30s --retries=3 \
    CMD ["/opt/skerry/bin/python", "-c", "import json, os, urllib.request as r; at = json.load(open(os.environ['SKERRY_HOME'] + '/run/ready.json'))['http']; r.urlopen(f'http://{at}/healthz', timeout=4)"]

ENTRYPOINT ["/opt/skerry/bin/skerry"]
CMD ["up"]
