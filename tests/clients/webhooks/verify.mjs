// Receives webhooks and verifies them with code of others: the standardwebhooks package, Node's createHmac as in the
// documentation, and access tokens of an authorization server from npm. Every changed byte must be noticed.
import assert from "node:assert/strict";
import { createHmac, timingSafeEqual } from "node:crypto";
import { createServer } from "node:http";
import { createInterface } from "node:readline";
import { createRemoteJWKSet, jwtVerify } from "jose";
import { OAuth2Server } from "oauth2-mock-server";
import { Webhook } from "standardwebhooks";

const { now } = JSON.parse(process.argv[2]);
// The server under test lives at another time.
const started = Date.now();
const real = Date.now;
Date.now = () => now * 1000 + (real() - started);

const lines = createInterface({ input: process.stdin })[Symbol.asyncIterator]();
const ask = async (question) => {
  process.stdout.write(JSON.stringify(question) + "\n");
  return JSON.parse((await lines.next()).value);
};

const bodyOf = async (request) => {
  const pieces = [];
  for await (const piece of request) pieces.push(piece);
  return Buffer.concat(pieces);
};
const serve = (answer) =>
  new Promise((resolve) => {
    const server = createServer(answer);
    server.listen(0, "127.0.0.1", () => resolve(`http://127.0.0.1:${server.address().port}`));
  });

let came = [];
const receiver = await serve(async (request, response) => {
  came.push({ headers: request.headers, body: await bodyOf(request) });
  response.end("ok");
});
const subscribe = (more = {}) => ask({ do: "subscribe", more: { url: `${receiver}/hook`, types: ["card-published"], ...more } });
const receive = async () => {
  came = [];
  await ask({ do: "record" });
  assert.equal(came.length, 1);
  return came[0];
};

// As receivers are told to check the platform's own header.
const documented = (secret, body, signature) => {
  const expected = Buffer.from(createHmac("sha256", secret).update(body).digest("hex"));
  const given = Buffer.from(signature);
  return expected.length === given.length && timingSafeEqual(expected, given);
};
const standard = (secret, { headers, body }, options) => {
  try {
    new Webhook(secret, options).verify(body.toString(), headers);
    return true;
  } catch {
    return false;
  }
};
const changed = (buffer, place) => {
  const copy = Buffer.from(buffer);
  copy[place] ^= 1;
  return copy;
};

const steps = {
  async "a generated secret signs in both ways"() {
    const { id, secret } = await subscribe();
    const request = await receive();
    assert.ok(standard(secret, request));
    assert.ok(documented(secret, request.body, request.headers["x-cardwire-signature"]));
    for (let place = 0; place < request.body.length; place++) {
      const body = changed(request.body, place);
      assert.ok(!documented(secret, body, request.headers["x-cardwire-signature"]), `byte ${place}`);
      assert.ok(!standard(secret, { ...request, body }), `byte ${place}`);
    }
    for (const name of ["webhook-id", "webhook-timestamp", "webhook-signature"]) {
      const value = Buffer.from(request.headers[name]);
      for (let place = 0; place < value.length; place++) {
        const headers = { ...request.headers, [name]: changed(value, place).toString("latin1") };
        assert.ok(!standard(secret, { ...request, headers }), `byte ${place} of ${name}`);
      }
    }
    const { secret: next } = await ask({ do: "rotate", id });
    const rotating = await receive();
    assert.ok(standard(secret, rotating) && standard(next, rotating), "both secrets sign while a rotation lasts");
    assert.ok(documented(secret, rotating.body, rotating.headers["x-cardwire-signature"]));
    assert.ok(documented(next, rotating.body, rotating.headers["x-cardwire-signature-next"]));
    await ask({ do: "finish", id });
    const after = await receive();
    assert.ok(!standard(secret, after) && standard(next, after));
    await ask({ do: "disable", id });
  },
  async "an own secret signs with its bytes"() {
    const own = "a secret of our own, rather long";
    const { id } = await subscribe({ secret: own });
    const request = await receive();
    assert.ok(standard(own, request, { format: "raw" }));
    assert.ok(documented(own, request.body, request.headers["x-cardwire-signature"]));
    await ask({ do: "disable", id });
  },
  async "batches and scripts are signed as they are sent"() {
    const mapping = "function map(payload) { return { only: payload.data.id ?? payload.data.length }; }";
    for (const more of [{ isBatched: true }, { mapping }]) {
      const { id, secret } = await subscribe(more);
      const request = await receive();
      assert.ok(standard(secret, request));
      await ask({ do: "disable", id });
    }
  },
  async "an authorization server's tokens are carried, in each scheme"() {
    const identity = new OAuth2Server();
    await identity.issuer.keys.generate("RS256");
    await identity.start(0, "127.0.0.1");
    const asked = [];
    identity.service.on("beforeTokenSigning", (token, request) => {
      asked.push(request.body);
      token.payload.client = request.body.client_id;
    });
    const server = `http://127.0.0.1:${identity.address().port}`;
    const endpoint = `${server}/token`;
    // The package takes forms alone: what stands in the query is handed on as one.
    const seen = [];
    const front = await serve(async (request, response) => {
      const { searchParams } = new URL(request.url, "http://front");
      seen.push({ method: request.method, body: await bodyOf(request) });
      const granted = await fetch(endpoint, { method: "POST", body: new URLSearchParams(searchParams) });
      response.setHeader("content-type", "application/json");
      response.end(await granted.text());
    });
    const keys = createRemoteJWKSet(new URL(`${server}/jwks`));
    for (const [scheme, identityUrl, method] of [["body", endpoint], ["query-get", front, "GET"], ["query-post", front, "POST"]]) {
      const credentialId = await ask({ do: "credential", scheme, identityUrl });
      const { id } = await subscribe({ credentialId });
      const { headers } = await receive();
      const token = headers.authorization.replace(/^Bearer /, "");
      const { payload } = await jwtVerify(token, keys, { currentDate: new Date(Date.now()) });
      assert.equal(payload.client, "our id");
      const { grant_type, client_id, client_secret, scope } = asked.at(-1);
      assert.deepEqual([grant_type, client_id, client_secret, scope], ["client_credentials", "our id", "our&secret", "cards:write"]);
      if (method) {
        assert.equal(seen.at(-1).method, method);
        assert.equal(seen.at(-1).body.length, 0);
      }
      const before = asked.length;
      await receive();
      assert.equal(asked.length, before, "one token serves until it ends");
      await ask({ do: "disable", id });
    }
    await identity.stop();
  },
};

for (const [name, step] of Object.entries(steps)) {
  try {
    await step();
  } catch (error) {
    console.error(`${name}: ${error.stack}`);
    process.exit(1);
  }
}
process.exit(0);
