FROM rust:1.95-bookworm AS build
WORKDIR /src
COPY . .
RUN cargo build --profile dist --locked --bin cardwire

FROM debian:bookworm-slim
RUN apt-get update && apt-get install -y --no-install-recommends ca-certificates && rm -rf /var/lib/apt/lists/* \
    && useradd --create-home --uid 10001 cardwire
COPY --from=build /src/target/dist/cardwire /usr/local/bin/cardwire
USER cardwire
WORKDIR /home/cardwire
EXPOSE 8080
ENTRYPOINT ["cardwire"]
