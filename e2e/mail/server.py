"""The mail server of the tests: keeps every message that it accepts, and fails as its rules say.

    server.py FOLDER

SMTP on port 1025, implemented by aiosmtpd. HTTP with JSON on port 8025: GET /state, GET /messages?after=N, PUT /behaviour.
Messages and the behaviour are written to FOLDER/journal.jsonl and survive a restart.

A behaviour is {"offline": false, "login": {"username": ..., "password": ...} or null, "rules": [RULE, ...]}. It replaces
the behaviour before it; sessions that an earlier rule holds continue. A RULE applies at one point of a session and has
these effects, in this order:

  at         CONNECT, EHLO, AUTH, MAIL, RCPT, DATA: before the command is answered;
             BODY: the content is received and not kept; REPLY: the message is kept and not acknowledged
  to         applies only to recipients that match this regular expression (from RCPT on)
  every      applies only every n-th time that it matches
  first      applies only the first n times for each recipient (from RCPT on)
  times      applies only n times in total
  delay      waits this many seconds
  hold       true: waits until the behaviour is replaced
  reply      answers this instead, e.g. "451 4.3.0 {to} come back later", where {to} is the recipient
  drop       true: aborts the connection instead of answering
"""

import asyncio
import base64
import json
import logging
import os
import re
import sys
import time
import uuid
import warnings
from email import message_from_bytes, policy
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from urllib.parse import parse_qs, urlparse

from aiosmtpd.smtp import SMTP, AuthResult

SMTP_PORT, HTTP_PORT = 1025, 8025
POINTS = ("CONNECT", "EHLO", "AUTH", "MAIL", "RCPT", "DATA", "BODY", "REPLY")
RECIPIENT_POINTS = ("RCPT", "DATA", "BODY", "REPLY")
KEYS = {"at", "to", "every", "first", "times", "delay", "hold", "reply", "drop"}


class Rule:
    def __init__(self, spec):
        unknown = set(spec) - KEYS
        if unknown or spec.get("at") not in POINTS:
            raise ValueError(f"invalid rule: {spec}")
        if spec["at"] not in RECIPIENT_POINTS and ("to" in spec or "first" in spec):
            raise ValueError(f"the recipient is not known at {spec['at']}: {spec}")
        self.spec = spec
        self.to = re.compile(spec.get("to", ""))
        self.matched = self.applied = 0
        self.by_recipient = {}

    def applies(self, point, recipient):
        if point != self.spec["at"] or not self.to.search(recipient):
            return False
        self.matched += 1
        if self.matched % self.spec.get("every", 1) or self.applied >= self.spec.get("times", float("inf")):
            return False
        times = self.by_recipient.get(recipient, 0)
        if times >= self.spec.get("first", float("inf")):
            return False
        self.by_recipient[recipient] = times + 1
        self.applied += 1
        return True


class Behaviour:
    def __init__(self, spec):
        unknown = set(spec) - {"offline", "login", "rules"}
        if unknown:
            raise ValueError(f"unknown fields of the behaviour: {unknown}")
        self.offline = bool(spec.get("offline"))
        self.login = spec.get("login")
        self.rules = [Rule(rule) for rule in spec.get("rules", [])]
        self.replaced = asyncio.Event()


class Message:
    def __init__(self, number, at, sender, recipients, content):
        self.number, self.at = number, at
        self.sender, self.recipients, self.content = sender, recipients, content
        # None until the session has decided.
        self.acknowledged = None
        self.parsed = None

    def as_json(self):
        if self.parsed is None:
            mail = message_from_bytes(self.content, policy=policy.default)
            body = lambda kind: part.get_content() if (part := mail.get_body((kind,))) is not None else None
            self.content = None
            self.parsed = {
                "headers": [[name, str(value)] for name, value in mail.items()],
                "type": mail.get_content_type(),
                "text": body("plain"),
                "html": body("html"),
            }
        return {
            "number": self.number,
            "at": self.at,
            "from": self.sender,
            "to": self.recipients,
            "acknowledged": self.acknowledged,
            **self.parsed,
        }


class Journal:
    """A file of events, one JSON object in each line. An event is in the file before its effect can be seen."""

    def __init__(self, folder):
        path = os.path.join(folder, "journal.jsonl")
        self.events = []
        if os.path.exists(path):
            with open(path, "rb") as file:
                content = file.read()
            # A server that is killed while it writes leaves half a line, whose effect nobody has seen.
            complete = content.rfind(b"\n") + 1
            os.truncate(path, complete)
            self.events = [json.loads(line) for line in content[:complete].splitlines()]
        self.file = open(path, "ab", buffering=0)

    def write(self, event):
        self.file.write(json.dumps(event).encode() + b"\n")


class MailServer:
    """The state that all sessions share."""

    def __init__(self, journal):
        self.journal = journal
        # Identifies the journal: it changes only if the messages are lost.
        self.data = None
        self.behaviour = Behaviour({})
        self.messages = []
        self.sessions = set()
        self.held = dict.fromkeys(POINTS, 0)
        self.applied = dict.fromkeys(POINTS, 0)
        self.listener = None
        for event in journal.events:
            self.replay(**event)
        if self.data is None:
            self.data = uuid.uuid4().hex
            journal.write({"event": "created", "data": self.data})
        for message in self.messages:
            # Its session ended with the server before it had decided.
            if message.acknowledged is None:
                self.decide(message, False)

    def replay(self, event, **fields):
        if event == "created":
            self.data = fields["data"]
        elif event == "behaviour":
            self.behaviour = Behaviour(fields["spec"])
        elif event == "message":
            content = base64.b64decode(fields.pop("content"))
            self.messages.append(Message(len(self.messages) + 1, content=content, **fields))
        elif event == "decided":
            self.messages[fields["number"] - 1].acknowledged = fields["acknowledged"]

    def keep(self, envelope):
        """Keeps a message that no session has acknowledged yet."""
        event = {"at": time.time_ns() // 1_000_000, "sender": envelope.mail_from, "recipients": list(envelope.rcpt_tos)}
        self.journal.write({"event": "message", **event, "content": base64.b64encode(envelope.content).decode()})
        message = Message(len(self.messages) + 1, content=envelope.content, **event)
        self.messages.append(message)
        return message

    def decide(self, message, acknowledged):
        self.journal.write({"event": "decided", "number": message.number, "acknowledged": acknowledged})
        message.acknowledged = acknowledged

    async def set_behaviour(self, spec):
        behaviour = Behaviour(spec)
        self.journal.write({"event": "behaviour", "spec": spec})
        self.behaviour.replaced.set()
        self.behaviour = behaviour
        if behaviour.offline and self.listener is not None:
            self.listener.close()
            self.listener = None
            for session in list(self.sessions):
                session.transport.abort()
        elif not behaviour.offline and self.listener is None:
            await self.listen()

    async def listen(self):
        loop = asyncio.get_running_loop()
        self.listener = await loop.create_server(lambda: Session(self, loop), "0.0.0.0", SMTP_PORT, reuse_address=True)

    def state(self):
        return {
            "data": self.data,
            "offline": self.listener is None,
            "sessions": len(self.sessions),
            "held": self.held,
            "applied": self.applied,
            "messages": len(self.messages),
        }

    def after(self, number):
        return [message.as_json() for message in self.messages[number:]]


class Session(SMTP):
    def __init__(self, server, loop):
        self.mail_server = server
        super().__init__(
            DataHandler(),
            hostname="mail.example.net",
            ident="ready",
            auth_required=server.behaviour.login is not None,
            auth_require_tls=False,
            authenticator=self.check_login,
            loop=loop,
        )

    def connection_made(self, transport):
        super().connection_made(transport)
        self.mail_server.sessions.add(self)

    def connection_lost(self, error):
        self.mail_server.sessions.discard(self)
        super().connection_lost(error)

    def check_login(self, _server, _session, _envelope, _mechanism, data):
        login = self.mail_server.behaviour.login or {}
        expected = (login.get("username", "").encode(), login.get("password", "").encode())
        return AuthResult(success=(data.login, data.password) == expected, handled=False)

    async def passes(self, point, recipient=""):
        """Applies the rules at this point. Returns whether the session continues normally."""
        behaviour = self.mail_server.behaviour
        rule = next((rule for rule in behaviour.rules if rule.applies(point, recipient)), None)
        if rule is None:
            return True
        spec = rule.spec
        self.mail_server.applied[point] += 1
        if "delay" in spec:
            await asyncio.sleep(spec["delay"])
        if spec.get("hold"):
            self.mail_server.held[point] += 1
            try:
                await behaviour.replaced.wait()
            finally:
                self.mail_server.held[point] -= 1
        if spec.get("drop"):
            self.transport.abort()
            raise asyncio.CancelledError
        if "reply" in spec:
            await self.push(spec["reply"].replace("{to}", recipient))
            # After 421, and after an error as the greeting, the server closes the connection.
            if spec["reply"].startswith("421") or point == "CONNECT":
                self.transport.close()
                raise asyncio.CancelledError
            return False
        return True

    async def _handle_client(self):
        if await self.passes("CONNECT"):
            await super()._handle_client()

    async def smtp_EHLO(self, hostname):
        if await self.passes("EHLO"):
            await super().smtp_EHLO(hostname)

    async def smtp_AUTH(self, arg):
        if await self.passes("AUTH"):
            await super().smtp_AUTH(arg)

    async def smtp_MAIL(self, arg):
        if await self.passes("MAIL"):
            await super().smtp_MAIL(arg)

    async def smtp_RCPT(self, arg):
        if await self.passes("RCPT", (arg or "").partition(":")[2].strip().strip("<>")):
            await super().smtp_RCPT(arg)

    async def smtp_DATA(self, arg):
        if await self.passes("DATA", self.recipient()):
            await super().smtp_DATA(arg)

    def recipient(self):
        return ",".join(self.envelope.rcpt_tos)

    async def accept(self, envelope):
        """Keeps a message and returns the reply, or ALREADY_ANSWERED where a rule has sent one."""
        recipient = self.recipient()
        if not await self.passes("BODY", recipient):
            return ALREADY_ANSWERED
        message = self.mail_server.keep(envelope)
        acknowledged = False
        try:
            acknowledged = await self.passes("REPLY", recipient)
        finally:
            self.mail_server.decide(message, acknowledged)
        return f"250 2.0.0 kept as {message.number}" if acknowledged else ALREADY_ANSWERED

    async def push(self, status):
        if status is not ALREADY_ANSWERED:
            await super().push(status)


ALREADY_ANSWERED = object()


class DataHandler:
    async def handle_DATA(self, session, _session, envelope):
        return await session.accept(envelope)


def http_handler(server, loop):
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            url = urlparse(self.path)
            if url.path == "/state":
                self.answer(200, server.state())
            elif url.path == "/messages":
                self.answer(200, server.after(int(parse_qs(url.query).get("after", ["0"])[0])))
            else:
                self.answer(404, {"error": f"there is no {url.path}"})

        def do_PUT(self):
            if self.path != "/behaviour":
                return self.answer(404, {"error": f"there is no {self.path}"})
            try:
                spec = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                asyncio.run_coroutine_threadsafe(server.set_behaviour(spec), loop).result(10)
            except (ValueError, TypeError, KeyError) as error:
                return self.answer(400, {"error": str(error)})
            self.answer(200, server.state())

        def answer(self, code, value):
            content = json.dumps(value).encode()
            self.send_response(code)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_):
            pass

    return Handler


async def main():
    # aiosmtpd warns in each session that logins without TLS are insecure.
    warnings.simplefilter("ignore", UserWarning)
    logging.getLogger("mail.log").setLevel(logging.ERROR)
    server = MailServer(Journal(sys.argv[1]))
    if not server.behaviour.offline:
        await server.listen()
    http = ThreadingHTTPServer(("0.0.0.0", HTTP_PORT), http_handler(server, asyncio.get_running_loop()))
    Thread(target=http.serve_forever, daemon=True).start()
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main())
