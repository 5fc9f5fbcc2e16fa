from __future__ import annotations

import os
from pathlib import Path

from chassis.database import open_database
from payments.api import create_app
from payments.ledger import Ledger

ledger = Ledger(open_database("payments", Path(__file__).parents[1]))
create_app(ledger).serve(int(os.environ.get("PORT", "8083")))
