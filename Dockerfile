# The server in an image: docker build -t slipway .
#
# It runs as a user of its own. The engine stays the machine's: its socket is mounted, and the user joins its group.
# compose.yaml starts it, with the proxy in a container beside it.
ARG BASE=debian:bookworm-slim

FROM ${BASE} AS programs
# What the base has already is not fetched.
RUN missing=; \
    for each in git:git haproxy:haproxy python3:python3 setcap:libcap2-bin; do \
        command -v "${each%%:*}" >/dev/null || missing="$missing ${each#*:}"; \
    done; \
    [ -z "$missing" ] || { apt-get update && \
        apt-get install --yes --no-install-recommends ca-certificates $missing && rm -rf /var/lib/apt/lists/*; }
# So that the proxy, which is nobody's root, may have ports 80 and 443.
RUN setcap cap_net_bind_service=+ep "$(command -v haproxy)"

FROM programs AS environment
RUN python3 -c 'import ensurepip' 2>/dev/null || { apt-get update && \
        apt-get install --yes --no-install-recommends python3-venv && rm -rf /var/lib/apt/lists/*; }
# Where packages come from, if not from the usual index, for example: --no-index --find-links=wheels
ARG PIP_OPTIONS=
WORKDIR /opt/slipway
COPY . .
RUN python3 -m venv .venv && \
    .venv/bin/python -m pip install --no-cache-dir --no-input --require-hashes $PIP_OPTIONS -r requirements.lock && \
    .venv/bin/python -m pip install --no-cache-dir --no-input --no-deps --no-build-isolation $PIP_OPTIONS .

FROM programs
COPY --from=environment /opt/slipway/.venv /opt/slipway/.venv
RUN echo 'slipway:x:10001:10001:slipway:/var/lib/slipway:/usr/sbin/nologin' >>/etc/passwd && \
    echo 'slipway:x:10001:' >>/etc/group && \
    install -d -o 10001 -g 10001 -m 700 /var/lib/slipway
ENV PATH=/opt/slipway/.venv/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \
    LANG=C.UTF-8 PYTHONUNBUFFERED=1 SLIPWAY_DATA=/var/lib/slipway SLIPWAY_LOG=json
USER slipway
WORKDIR /var/lib/slipway
VOLUME /var/lib/slipway
EXPOSE 2222 8422
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=30s --timeout=30s --start-period=60s CMD ["slipway", "ready"]
ENTRYPOINT ["slipway"]
CMD ["serve"]
