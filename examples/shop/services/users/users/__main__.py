from __future__ import annotations

import os
from pathlib import Path

from chassis.database import open_database
from users.api import create_app
from users.store import UserStore

store = UserStore(open_database("users", Path(__file__).parents[1]))
create_app(store).serve(int(os.environ.get("PORT", "8081")))
