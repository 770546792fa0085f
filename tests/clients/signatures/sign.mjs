// Signs requests with the packages of their senders, has each posted as it is and with every byte changed in turn,
// and fails unless exactly the unchanged ones are taken.
import { createHmac } from "node:crypto";
import { createInterface } from "node:readline";
import { sign } from "@octokit/webhooks-methods";
import Stripe from "stripe";

const { now } = JSON.parse(process.argv[2]);
const lines = createInterface({ input: process.stdin })[Symbol.asyncIterator]();
const ask = async (question) => {
  process.stdout.write(JSON.stringify(question) + "\n");
  return JSON.parse((await lines.next()).value);
};

const body = JSON.stringify({ targetUserIds: "a", variables: { amount: 1 } });
const hmac = (key, text, digest) => createHmac("sha256", key).update(text).digest(digest);
const stripe = new Stripe("sk_test_x");

const senders = {
  stripe: {
    settings: {
      secret: "whsec_stripe", algorithm: "sha256", digest: "hex", toleranceSeconds: 300,
      signature: { header: "stripe-signature", parsePrefix: "v1=" },
      timestamp: { header: "stripe-signature", parsePrefix: "t=" },
      template: "[timestamp].[payload]",
    },
    headers: {
      "stripe-signature": stripe.webhooks.generateTestHeaderString({ payload: body, secret: "whsec_stripe", timestamp: now }),
    },
  },
  github: {
    settings: {
      secret: "hub", algorithm: "sha256", digest: "hex",
      signature: { header: "x-hub-signature-256", parsePrefix: "sha256=" }, template: "[payload]",
    },
    headers: { "x-hub-signature-256": await sign("hub", body) },
  },
  // These two publish packages that verify and none that signs: the scheme is theirs, the code is Node's.
  slack: {
    settings: {
      secret: "slack", algorithm: "sha256", digest: "hex", toleranceSeconds: 300,
      signature: { header: "x-slack-signature", parsePrefix: "v0=" },
      timestamp: { header: "x-slack-request-timestamp" }, template: "v0:[timestamp]:[payload]",
    },
    headers: {
      "x-slack-signature": `v0=${hmac("slack", `v0:${now}:${body}`, "hex")}`,
      "x-slack-request-timestamp": String(now),
    },
  },
  shopify: {
    settings: {
      secret: "shop", algorithm: "sha256", digest: "base64",
      signature: { header: "x-shopify-hmac-sha256" }, template: "[payload]",
    },
    headers: { "x-shopify-hmac-sha256": hmac("shop", body, "base64") },
  },
};

const changed = (text, place) => {
  const other = text[place] === "0" ? "1" : "0";
  return text.slice(0, place) + other + text.slice(place + 1);
};
const wrong = [];
const expect = async (status, what, request) => {
  const found = await ask({ do: "post", ...request });
  if (found !== status) wrong.push(`${what}: ${found}`);
};

for (const [sender, { settings, headers }] of Object.entries(senders)) {
  await ask({ do: "set", settings });
  await expect(202, sender, { headers, body });
  for (let place = 0; place < body.length; place++) {
    await expect(401, `${sender}, byte ${place} of the body`, { headers, body: changed(body, place) });
  }
  for (const [name, value] of Object.entries(headers)) {
    for (let place = 0; place < value.length; place++) {
      const request = { headers: { ...headers, [name]: changed(value, place) }, body };
      await expect(401, `${sender}, byte ${place} of ${name}`, request);
    }
  }
}
if (wrong.length > 0) {
  console.error(wrong.join("\n"));
  process.exit(1);
}
process.exit(0);
