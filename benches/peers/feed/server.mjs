// The peer of the benches: graphql-ws over graphql-js. POST /publish pushes one patch to every subscription, from memory.
import { writeFileSync } from 'node:fs';
import { createServer } from 'node:http';
import { buildSchema } from 'graphql';
import { useServer } from 'graphql-ws/use/ws';
import { WebSocketServer } from 'ws';

const schema = buildSchema(`
  scalar JSON
  type Query { ok: Boolean }
  type Card { id: ID! topCard: JSON! }
  type Upsert { position: Int! reason: String! card: Card! }
  type Removal { cardId: ID! reason: String! }
  type FeedSnapshot { resumeToken: String! totalCount: Int! cards: [Card!]! }
  type FeedPatch { from: Int! to: Int! resumeToken: String! totalCount: Int! upserts: [Upsert!]! removals: [Removal!]! }
  union FeedUpdate = FeedSnapshot | FeedPatch
  type Subscription { feed(containerId: ID!, resumeToken: String): FeedUpdate! }
`);

const topCard = {
  elements: [
    { id: 'h', type: 'headline', attributes: { text: 'Hello there' } },
    { id: 't', type: 'text', attributes: { text: 'You have 12.00 to spend.' } },
  ],
};
const card = { id: 'card_1', topCard };
let version = 1;
let waiting = [];

async function* feed() {
  yield { feed: { __typename: 'FeedSnapshot', resumeToken: 'x'.repeat(80), totalCount: 1, cards: [card] } };
  for (;;) yield await new Promise((resolve) => waiting.push(resolve));
}

const http = createServer((request, response) => {
  if (request.url === '/publish') {
    const upserts = [{ position: 0, reason: 'LIMIT', card }];
    const patch = { __typename: 'FeedPatch', from: version, to: ++version, resumeToken: 'x'.repeat(80), totalCount: 1, upserts, removals: [] };
    const told = waiting;
    waiting = [];
    for (const tell of told) tell({ feed: patch });
    response.writeHead(204).end();
  } else {
    response.writeHead(404).end();
  }
});
useServer({ schema, roots: { subscription: { feed } } }, new WebSocketServer({ server: http, path: '/graphql' }));
http.listen(0, '127.0.0.1', () => writeFileSync(process.argv[2], String(http.address().port)));
