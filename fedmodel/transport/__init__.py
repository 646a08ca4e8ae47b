"""A Grid and a site's end of it over gRPC with mutual TLS; gRPC is imported in this room alone."""
