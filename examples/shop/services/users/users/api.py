"""The HTTP interface of the users service."""

from __future__ import annotations

from chassis.refusal import Refusal
from chassis.web import Answer, App, Request
from users.store import User, UserStore


def create_app(store: UserStore) -> App:
    app = App("users")

    @app.route("GET", "/versions")
    def versions(request: Request) -> Answer:
        return Answer({"versions": ["v1"]})

    @app.route("GET", "/v1/users/{user_id}")
    def show(request: Request, user_id: str) -> Answer:
        return Answer(_v1(_find(store, user_id)), headers={"deprecation": "true"})

    @app.route("GET", "/v1/users")
    def search(request: Request) -> Answer:
        users = store.all(email=request.query.get("email"))
        return Answer({"users": [_v1(user) for user in users]}, headers={"deprecation": "true"})

    return app


def _find(store: UserStore, user_id: str) -> User:
    user = store.find(int(user_id)) if user_id.isdecimal() else None
    if user is None:
        raise Refusal(404, f"there is no user {user_id}")
    return user


def _v1(user: User) -> dict[str, object]:
    return {
        "id": user.id,
        "name": f"{user.given_name} {user.family_name}",
        "email": user.email,
        "currency": user.currency,
    }
