"""What every service of the shop stands on: HTTP in and out, gRPC in and out, a database file, trace context."""
