from __future__ import annotations

import os
from pathlib import Path

from chassis.database import open_database
from notifications.api import create_app
from notifications.outbox import Outbox

outbox = Outbox(open_database("notifications", Path(__file__).parents[1]))
create_app(outbox).serve(int(os.environ.get("PORT", "8085")))
