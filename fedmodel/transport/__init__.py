"""A Grid and a site's end of it over gRPC with mutual TLS; gRPC is imported in this room alone."""

import os

# Else gRPC writes each refused handshake to stderr in its own words, between the lines of the log.
os.environ.setdefault("GRPC_VERBOSITY", "ERROR")
