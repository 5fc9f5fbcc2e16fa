"""The gRPC contracts of the shop. `make proto` writes the `_pb2` modules from the `.proto` files."""
