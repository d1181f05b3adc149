"""Find the reports of a period without reading them all.

Revision ID: 0002
Revises: 0001
"""

from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_index("ix_weather_reports_report_time", "weather_reports", ["report_time"])


def downgrade() -> None:
    op.drop_index("ix_weather_reports_report_time", table_name="weather_reports")
