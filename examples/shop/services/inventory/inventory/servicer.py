"""The gRPC interface of the inventory service."""

from __future__ import annotations

import grpc

from chassis.database import Row
from contracts import inventory_pb2 as pb
from contracts.inventory_pb2_grpc import InventoryServicer as Contract
from inventory.shelves import OutOfStock, Shelves


class InventoryServicer(Contract):
    def __init__(self, shelves: Shelves) -> None:
        self._shelves = shelves

    def List(self, request: pb.ListRequest, context: grpc.ServicerContext) -> pb.ListReply:
        rows = self._shelves.products(request.category or None)
        return pb.ListReply(products=[_product(row) for row in rows])

    def Get(self, request: pb.GetRequest, context: grpc.ServicerContext) -> pb.Product:
        row = self._shelves.find(request.sku)
        if row is None:
            context.abort(grpc.StatusCode.NOT_FOUND, f"there is no product {request.sku!r}")
        return _product(row)

    def Reserve(self, request: pb.ReserveRequest, context: grpc.ServicerContext) -> pb.Reservation:
        wanted = [(item.sku, item.quantity) for item in request.items]
        for sku, quantity in wanted:
            if self._shelves.find(sku) is None:
                context.abort(grpc.StatusCode.NOT_FOUND, f"there is no product {sku!r}")
            if quantity <= 0:
                context.abort(grpc.StatusCode.INVALID_ARGUMENT, f"quantity of {sku!r} must be positive")
        try:
            return pb.Reservation(id=self._shelves.reserve(wanted))
        except OutOfStock as problem:
            context.abort(grpc.StatusCode.FAILED_PRECONDITION, str(problem))

    def Release(self, request: pb.Reservation, context: grpc.ServicerContext) -> pb.ReleaseReply:
        return pb.ReleaseReply(released=self._shelves.release(request.id))


def _product(row: Row) -> pb.Product:
    return pb.Product(**row)
