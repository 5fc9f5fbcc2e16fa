"""The HTTP interface of the loyalty service."""

from __future__ import annotations

from chassis.refusal import Refusal
from chassis.web import Answer, App, Request
from loyalty.members import Members


def create_app(members: Members) -> App:
    app = App("loyalty")

    @app.route("GET", "/members/{member_id}")
    def show(request: Request, member_id: str) -> Answer:
        if not member_id.isdecimal():
            raise Refusal(404, f"there is no member {member_id}")
        member = members.find(int(member_id))
        return Answer(
            {
                "id": member.id,
                "points": member.points,
                "tier": member.tier,
                "discount_percent": member.discount_percent,
            }
        )

    return app
