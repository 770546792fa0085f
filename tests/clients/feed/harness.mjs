// What the scripts share: how they ask the test for things, and what an app keeps of its feed.
import assert from 'node:assert/strict';
import readline from 'node:readline';

export const input = JSON.parse(process.argv[2]);
export const wsUrl = input.origin.replace('http', 'ws') + '/graphql';
export const httpUrl = input.origin + '/graphql';

const answers = readline.createInterface({ input: process.stdin })[Symbol.asyncIterator]();
let asking = Promise.resolve();

/** Asks the test to do something; its answer. Questions are asked one after another. */
export function ask(what, more = {}) {
  const answered = asking.then(async () => {
    process.stdout.write(JSON.stringify({ do: what, ...more }) + '\n');
    return JSON.parse((await answers.next()).value);
  });
  asking = answered;
  return answered;
}

export const FEED = `subscription Feed($c: ID!, $t: String) { feed(containerId: $c, resumeToken: $t) { __typename
  ... on FeedSnapshot { version resumeToken totalCount cards { id topCard } }
  ... on FeedPatch { from to resumeToken totalCount upserts { position reason card { id topCard } } removals { cardId reason } }
  ... on FeedResync { reason } } }`;

export const RENEW = 'mutation Renew($t: String!) { renewConnection(authToken: $t) { ok expiresAt } }';

/** What an app holds, and how it applies messages. */
export class Mirror {
  version = 0;
  cards = [];
  token = null;
  heard = [];
  #waiting = null;

  apply(message) {
    if (message.__typename === 'FeedSnapshot') {
      this.version = message.version;
      this.cards = message.cards.map((card) => card.id);
    } else if (message.__typename === 'FeedPatch') {
      assert.equal(message.from, this.version, 'patches are contiguous');
      this.version = message.to;
      const gone = new Set([...message.removals.map((one) => one.cardId), ...message.upserts.map((one) => one.card.id)]);
      this.cards = this.cards.filter((id) => !gone.has(id));
      for (const upsert of message.upserts) this.cards.splice(upsert.position, 0, upsert.card.id);
    }
    this.token = message.resumeToken ?? this.token;
    this.heard.push(message);
    this.#waiting?.();
  }

  /** The next message that was not asked for yet. */
  async next(type) {
    while (this.heard.length === 0) await new Promise((resolve) => (this.#waiting = resolve));
    const message = this.heard.shift();
    assert.equal(message.__typename, type, JSON.stringify(message));
    return message;
  }

  async agrees() {
    assert.deepEqual(this.cards, await ask('held'));
  }
}

/** Ends the process with success or with the reason of the failure. */
export async function main(work) {
  try {
    await work();
    process.exit(0);
  } catch (error) {
    console.error(error);
    process.exit(1);
  }
}
