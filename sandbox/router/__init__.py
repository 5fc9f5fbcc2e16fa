"""The router: one Envoy that steers keyed requests into sandboxes and records every hop.

Of use without any driver: give it a system and the addresses of its processes, tell it which key goes where.
"""

from sandbox.router.router import Router
from sandbox.router.table import KeyRoutes, Target

__all__ = ["KeyRoutes", "Router", "Target"]
