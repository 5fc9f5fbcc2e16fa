from __future__ import annotations

import os
from pathlib import Path

from chassis.database import open_database
from loyalty.api import create_app
from loyalty.members import Members

members = Members(open_database("loyalty", Path(__file__).parents[1]))
create_app(members).serve(int(os.environ.get("PORT", "8084")))
