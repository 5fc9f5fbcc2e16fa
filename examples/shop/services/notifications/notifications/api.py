"""The HTTP interface of the notifications service."""

from __future__ import annotations

from chassis.refusal import Refusal
from chassis.web import Answer, App, Request
from notifications.outbox import Outbox


def create_app(outbox: Outbox) -> App:
    app = App("notifications")

    @app.route("POST", "/messages")
    def send(request: Request) -> Answer:
        body = request.json
        receiver, template = str(body.get("to", "")), str(body.get("template", ""))
        if "@" not in receiver:
            raise Refusal(422, "message refused", f"'to' must be an e-mail address, got {receiver!r}")
        text = outbox.template(template)
        if text is None:
            known = ", ".join(outbox.template_names())
            raise Refusal(422, "message refused", f"there is no template {template!r}; there are: {known}")
        try:
            rendered = text.format(**body.get("data", {}))
        except KeyError as missing:
            raise Refusal(422, "message refused", f"template {template!r} needs {missing} in 'data'") from None
        return Answer({"id": outbox.put(receiver, template, rendered), "text": rendered}, 202)

    @app.route("GET", "/messages")
    def sent(request: Request) -> Answer:
        return Answer({"messages": outbox.sent_to(request.query.get("to", ""))})

    return app
