# What goes in is built outside (make image does all): the binary is static and needs nothing of its base but CA certificates,
# so scratch is enough where object storage and the API server speak TLS of a certificate that is mounted.
ARG BASE=scratch
FROM ${BASE}
ARG VERSION=dev
ARG REVISION=
LABEL org.opencontainers.image.title="lifeboat" \
      org.opencontainers.image.description="Moves Apache Spark shuffle data off a spot node before it goes" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.source="https://github.com/lifeboat/lifeboat" \
      org.opencontainers.image.documentation="https://github.com/lifeboat/lifeboat/blob/main/docs/install.md" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
COPY LICENSE build/sbom.json /usr/share/lifeboat/
COPY bin/lifeboat /usr/bin/lifeboat
# Reading the files and signalling the processes of other containers takes root on the node, or the user that Spark runs as:
# the chart says which (securityContext.runAsUser).
USER 0:0
ENTRYPOINT ["/usr/bin/lifeboat"]
CMD ["agent"]
