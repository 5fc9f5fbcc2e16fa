"""Runs that can be taken up again: claims with a fence, wishes, attempts, counters, workers."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    with op.batch_alter_table("runs") as table:
        table.add_column(sa.Column("options", sa.Text(), nullable=False, server_default="{}"))
        table.add_column(sa.Column("wish", sa.String(), nullable=False, server_default=""))
        table.add_column(sa.Column("limits", sa.Text(), nullable=False, server_default="{}"))
        table.add_column(sa.Column("revision", sa.Integer(), nullable=False, server_default="0"))
    with op.batch_alter_table("agents") as table:
        table.add_column(sa.Column("attempt", sa.Integer(), nullable=False, server_default="1"))
        table.add_column(sa.Column("wish", sa.String(), nullable=False, server_default=""))
        table.add_column(sa.Column("holder", sa.String(), nullable=True))
        table.add_column(sa.Column("generation", sa.Integer(), nullable=False, server_default="0"))
        table.add_column(sa.Column("lease_ends", sa.Float(), nullable=True))
        table.add_column(sa.Column("not_before", sa.Float(), nullable=False, server_default="0"))
        table.add_column(sa.Column("failed_verdicts", sa.Integer(), nullable=False, server_default="0"))
        table.add_column(sa.Column("faults", sa.Integer(), nullable=False, server_default="0"))
        table.add_column(sa.Column("nudges", sa.Integer(), nullable=False, server_default="0"))
        table.add_column(sa.Column("worked_s", sa.Float(), nullable=False, server_default="0"))
        table.add_column(sa.Column("environment", sa.Boolean(), nullable=False, server_default=sa.false()))
    op.create_table(
        "attempts",
        sa.Column("run", sa.String(), primary_key=True),
        sa.Column("ticket", sa.String(), primary_key=True),
        sa.Column("attempt", sa.Integer(), primary_key=True),
        sa.Column("state", sa.String(), nullable=False),
        sa.Column("reason", sa.String(), nullable=False),
        sa.Column("model_calls", sa.Integer(), nullable=False),
        sa.Column("tokens", sa.Integer(), nullable=False),
        sa.Column("cost_usd", sa.Float(), nullable=False),
        sa.Column("document", sa.Text(), nullable=False),
    )
    op.create_table(
        "workers",
        sa.Column("id", sa.String(), primary_key=True),
        sa.Column("run", sa.String(), nullable=False),
        sa.Column("host", sa.String(), nullable=False),
        sa.Column("pid", sa.Integer(), nullable=False),
        sa.Column("born", sa.Float(), nullable=False),
        sa.Column("leads", sa.Boolean(), nullable=False),
        sa.Column("seen_at", sa.Float(), nullable=False),
        sa.Column("ended_at", sa.Float(), nullable=True),
    )
    op.create_index("ix_workers_run", "workers", ["run"])
