# The binary is built outside (make image does both): it is static and needs nothing of its base but CA
# certificates.
ARG BASE=scratch
FROM ${BASE}
ARG VERSION=dev
LABEL org.opencontainers.image.title="lifeboat" \
      org.opencontainers.image.description="Moves Apache Spark shuffle data off a spot node before it goes" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}"
COPY bin/lifeboat /usr/bin/lifeboat
# Reading the files and signalling the processes of other containers takes root on the node.
USER 0:0
ENTRYPOINT ["/usr/bin/lifeboat"]
CMD ["agent"]
