# The image: one static binary, the public certificate authorities, and nothing else.
#
#   docker build -t orginvite-operator .    builds the binary in a container
#   make image                              builds it with the toolchain at hand, and pulls no base image

FROM scratch AS base
ARG REVISION=unknown
LABEL org.opencontainers.image.title="orginvite-operator" \
      org.opencontainers.image.description="Keeps the members of an Astro organization in Git: one OrgInvite, one invitation, one e-mail." \
      org.opencontainers.image.version="0.1.0" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.licenses="Apache-2.0"
# A number, so that Kubernetes can tell that it is not root.
USER 65532:65532
ENTRYPOINT ["/orginvite-operator"]

# From what `make static` left in the build context. Before the build stage: a builder that runs every stage up to
# the wanted one need not build here.
FROM base AS prebuilt
COPY target/image/ /

FROM docker.io/library/rust:1.95-slim-bookworm AS build
RUN apt-get update \
 && apt-get install --yes --no-install-recommends ca-certificates make musl-tools \
 && rm -rf /var/lib/apt/lists/*
WORKDIR /src
COPY Cargo.toml Cargo.lock Makefile ./
COPY src src
COPY tests/support tests/support
RUN make static

FROM base
COPY --from=build /src/target/image/ /
