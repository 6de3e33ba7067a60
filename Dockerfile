# The version is the one of rust-toolchain.toml; deploy/replay-dockerfile checks that.
FROM rust:1.95.0-slim-bookworm AS build
WORKDIR /src
# .dockerignore lets only the sources in, so there is no repository to ask for these.
ARG TIDEGATE_COMMIT=unknown
ARG SOURCE_DATE_EPOCH=
COPY . .
RUN cargo build --locked --release --bin tidegate

FROM debian:12.11-slim
COPY --from=build /src/target/release/tidegate /usr/local/bin/tidegate
COPY config.toml /etc/tidegate/config.toml
RUN install -d -o 65532 -g 65532 /var/lib/tidegate
USER 65532:65532
# store.path is relative to this.
WORKDIR /var/lib/tidegate
VOLUME /var/lib/tidegate
# Loopback would be the container's own. The admin listener stays there until it has a token.
ENV TIDEGATE__SERVER__LISTEN=0.0.0.0:8000
# A long line lies in huge pages: fewer page walks, quicker polls. Queues of a rush, each of more than
# a MiB, are given back to the system after it.
ENV GLIBC_TUNABLES=glibc.malloc.hugetlb=1:glibc.malloc.mmap_threshold=1048576
EXPOSE 8000
ENTRYPOINT ["/usr/local/bin/tidegate", "--config", "/etc/tidegate/config.toml"]
