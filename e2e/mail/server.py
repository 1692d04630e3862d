"""The mail server of the scenarios: keeps every message that it took, and misbehaves as it is told to.

SMTP is aiosmtpd's, on port 1025. On port 8025 HTTP in JSON: GET /state, GET /messages?after=N, PUT /behaviour.

A behaviour is {"away": false, "login": {"username": …, "password": …} or null, "rules": [RULE, …]} and replaces the one
before; sessions that a rule holds go on. A RULE strikes at one point of a session and does what it says, in this order:

  at         CONNECT, EHLO, AUTH, MAIL, RCPT, DATA: before the command is answered;
             BODY: the content is there and not kept; REPLY: the message is kept and not yet acknowledged
  to         only recipients that match this regular expression (from RCPT on)
  every      only every n-th time that it fits
  first      only the first n times for each recipient (from RCPT on)
  times      only n times in all
  delay      seconds to wait
  hold       true: wait until there is another behaviour
  reply      answer this instead, e.g. "451 4.3.0 {to} come back later", where {to} is the recipient
  drop       true: cut the connection instead of answering
"""

import asyncio
import json
import logging
import re
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
OF_A_RECIPIENT = ("RCPT", "DATA", "BODY", "REPLY")
KEYS = {"at", "to", "every", "first", "times", "delay", "hold", "reply", "drop"}


class Rule:
    def __init__(self, told):
        unknown = set(told) - KEYS
        if unknown or told.get("at") not in POINTS:
            raise ValueError(f"no such rule: {told}")
        if told["at"] not in OF_A_RECIPIENT and ("to" in told or "first" in told):
            raise ValueError(f"nobody's address is known at {told['at']}: {told}")
        self.told = told
        self.to = re.compile(told.get("to", ""))
        self.fitted = self.struck = 0
        self.by_recipient = {}

    def strikes(self, point, recipient):
        if point != self.told["at"] or not self.to.search(recipient):
            return False
        self.fitted += 1
        if self.fitted % self.told.get("every", 1) or self.struck >= self.told.get("times", float("inf")):
            return False
        times = self.by_recipient.get(recipient, 0)
        if times >= self.told.get("first", float("inf")):
            return False
        self.by_recipient[recipient] = times + 1
        self.struck += 1
        return True


class Behaviour:
    def __init__(self, told):
        unknown = set(told) - {"away", "login", "rules"}
        if unknown:
            raise ValueError(f"no such behaviour: {unknown}")
        self.away = bool(told.get("away"))
        self.login = told.get("login")
        self.rules = [Rule(rule) for rule in told.get("rules", [])]
        self.over = asyncio.Event()


class Message:
    def __init__(self, number, envelope):
        self.number, self.at = number, time.time_ns() // 1_000_000
        self.sender, self.recipients, self.content = envelope.mail_from, list(envelope.rcpt_tos), envelope.content
        # Not known while the session is at it.
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


class Post:
    """What all sessions share."""

    def __init__(self):
        self.instance = uuid.uuid4().hex
        self.behaviour = Behaviour({})
        self.messages = []
        self.sessions, self.opened, self.most = set(), 0, 0
        self.held = dict.fromkeys(POINTS, 0)
        self.struck = dict.fromkeys(POINTS, 0)
        self.listener = None

    async def behave(self, told):
        behaviour = Behaviour(told)
        self.behaviour.over.set()
        self.behaviour = behaviour
        if behaviour.away and self.listener is not None:
            self.listener.close()
            self.listener = None
            for session in list(self.sessions):
                session.transport.abort()
        elif not behaviour.away and self.listener is None:
            await self.listen()

    async def listen(self):
        loop = asyncio.get_running_loop()
        self.listener = await loop.create_server(lambda: Session(self, loop), "0.0.0.0", SMTP_PORT, reuse_address=True)

    def state(self):
        return {
            "instance": self.instance,
            "away": self.listener is None,
            "sessions": len(self.sessions),
            "opened": self.opened,
            "most": self.most,
            "held": self.held,
            "struck": self.struck,
            "messages": len(self.messages),
        }

    def after(self, number):
        return [message.as_json() for message in self.messages[number:]]


class Session(SMTP):
    def __init__(self, post, loop):
        self.post = post
        super().__init__(
            Keeper(),
            hostname="mail.example.net",
            ident="ready",
            auth_required=post.behaviour.login is not None,
            auth_require_tls=False,
            authenticator=self.logs_in,
            loop=loop,
        )

    def connection_made(self, transport):
        super().connection_made(transport)
        self.post.sessions.add(self)
        self.post.opened += 1
        self.post.most = max(self.post.most, len(self.post.sessions))

    def connection_lost(self, error):
        self.post.sessions.discard(self)
        super().connection_lost(error)

    def logs_in(self, _server, _session, _envelope, _mechanism, data):
        login = self.post.behaviour.login or {}
        right = (login.get("username", "").encode(), login.get("password", "").encode())
        return AuthResult(success=(data.login, data.password) == right, handled=False)

    async def passes(self, point, recipient=""):
        """Whether the session goes on at this point as if nothing were."""
        behaviour = self.post.behaviour
        rule = next((rule for rule in behaviour.rules if rule.strikes(point, recipient)), None)
        if rule is None:
            return True
        told = rule.told
        self.post.struck[point] += 1
        if "delay" in told:
            await asyncio.sleep(told["delay"])
        if told.get("hold"):
            self.post.held[point] += 1
            try:
                await behaviour.over.wait()
            finally:
                self.post.held[point] -= 1
        if told.get("drop"):
            self.transport.abort()
            raise asyncio.CancelledError
        if "reply" in told:
            await self.push(told["reply"].replace("{to}", recipient))
            # A server that says that it goes away goes away.
            if told["reply"].startswith("421") or point == "CONNECT":
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

    async def keeps(self, envelope):
        """Takes a message. Where a rule has answered already, there is nothing left to say."""
        recipient = self.recipient()
        if not await self.passes("BODY", recipient):
            return SAID
        message = Message(len(self.post.messages) + 1, envelope)
        self.post.messages.append(message)
        try:
            if not await self.passes("REPLY", recipient):
                return SAID
            message.acknowledged = True
        finally:
            message.acknowledged = message.acknowledged or False
        return f"250 2.0.0 kept as {message.number}"

    async def push(self, status):
        if status is not SAID:
            await super().push(status)


SAID = object()


class Keeper:
    async def handle_DATA(self, session, _session, envelope):
        return await session.keeps(envelope)


def answering(post, loop):
    class Answers(BaseHTTPRequestHandler):
        def do_GET(self):
            url = urlparse(self.path)
            if url.path == "/state":
                self.answer(200, post.state())
            elif url.path == "/messages":
                self.answer(200, post.after(int(parse_qs(url.query).get("after", ["0"])[0])))
            else:
                self.answer(404, {"error": f"there is no {url.path}"})

        def do_PUT(self):
            if self.path != "/behaviour":
                return self.answer(404, {"error": f"there is no {self.path}"})
            try:
                told = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                asyncio.run_coroutine_threadsafe(post.behave(told), loop).result(10)
            except (ValueError, TypeError, KeyError) as error:
                return self.answer(400, {"error": str(error)})
            self.answer(200, post.state())

        def answer(self, code, value):
            content = json.dumps(value).encode()
            self.send_response(code)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_):
            pass

    return Answers


async def main():
    # It says for each session that logins without TLS are not for the world.
    warnings.simplefilter("ignore", UserWarning)
    logging.getLogger("mail.log").setLevel(logging.ERROR)
    post = Post()
    await post.listen()
    server = ThreadingHTTPServer(("0.0.0.0", HTTP_PORT), answering(post, asyncio.get_running_loop()))
    Thread(target=server.serve_forever, daemon=True).start()
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main())
