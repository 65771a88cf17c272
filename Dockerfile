# Cenote in a container, used as Redis's image is:
#
#   docker build -t cenote .
#   docker run -p 127.0.0.1:6379:6379 cenote --maxmemory 1gb
#   docker run -v ./routes.toml:/etc/cenote/routes.toml:ro cenote --routes /etc/cenote/routes.toml
#   docker run -v ./redis.conf:/etc/cenote/redis.conf:ro cenote /etc/cenote/redis.conf --port 6379
#
# Inside, it listens on all addresses, without a password and without protected mode, unless its arguments or the
# file say otherwise: a container is reached only through what its network publishes. `-p 6379:6379` publishes it to
# everybody, so give it a password then (`requirepass` in a file), or publish it on 127.0.0.1 as above.
# It writes nothing to disk, and runs with a read-only root as well.

FROM rust:1-bookworm AS build
WORKDIR /build
COPY Cargo.toml Cargo.lock ./
COPY src ./src
RUN cargo build --release --locked --bin cenote \
    && install -s target/release/cenote /usr/local/bin/cenote

FROM debian:bookworm-slim
RUN groupadd --system --gid 999 cenote \
    && useradd --system --uid 999 --gid cenote --no-create-home --home-dir /data cenote \
    && install -d -o cenote -g cenote /data
COPY --from=build /usr/local/bin/cenote /usr/local/bin/cenote
COPY --chmod=755 scripts/container-entrypoint /usr/local/bin/container-entrypoint
WORKDIR /data
USER 999:999
EXPOSE 6379
STOPSIGNAL SIGTERM
# With another port, socket or bind: docker run --health-cmd 'cenote ping --port 7000' …
HEALTHCHECK --interval=10s --timeout=5s --start-period=5s --retries=3 CMD ["cenote", "ping"]
ENTRYPOINT ["container-entrypoint"]
