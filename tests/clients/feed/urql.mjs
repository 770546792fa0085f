// urql: queries over HTTP, subscriptions over graphql-ws.
import assert from 'node:assert/strict';
import { Client, fetchExchange, subscriptionExchange } from '@urql/core';
import { createClient } from 'graphql-ws';
import WebSocket from 'ws';
import { FEED, Mirror, RENEW, ask, httpUrl, input, main, wsUrl } from './harness.mjs';

await main(async () => {
  const mirror = new Mirror();
  let token = await ask('token');
  const sockets = createClient({
    url: wsUrl,
    webSocketImpl: WebSocket,
    connectionParams: async () => ({ apiKey: input.apiKey, authToken: await ask('token'), platform: 'Web' }),
    retryAttempts: 0,
  });
  const headers = () => ({ authorization: `Bearer ${token}`, 'x-cardwire-api-key': input.apiKey, 'x-cardwire-platform': 'Web' });
  const client = new Client({
    url: httpUrl,
    preferGetMethod: false,
    fetchOptions: () => ({ headers: headers() }),
    exchanges: [
      subscriptionExchange({
        isSubscriptionOperation: (operation) =>
          operation.kind === 'subscription' || JSON.stringify(operation.query).includes('renewConnection'),
        forwardSubscription: (request) => ({
          subscribe: (sink) => ({ unsubscribe: sockets.subscribe({ ...request, query: request.query ?? '' }, sink) }),
        }),
      }),
      fetchExchange,
    ],
  });
  const follow = () => {
    let lost;
    const ended = new Promise((resolve) => (lost = resolve));
    client.subscription(FEED, { c: input.container, t: mirror.token }).subscribe((result) => {
      if (result.error) lost(result.error);
      else if (result.data) mirror.apply(result.data.feed);
    });
    return ended;
  };
  const ended = follow();
  await mirror.next('FeedSnapshot');
  const first = await ask('send', { name: 'a' });
  await mirror.next('FeedPatch');

  await ask('cut');
  await ended;
  await ask('send', { name: 'b' });
  await ask('dismiss', { card: first });
  await ask('mend');
  follow();
  const missed = await mirror.next('FeedPatch');
  assert.deepEqual([missed.upserts.length, missed.removals.length], [1, 1]);
  await mirror.agrees();

  const page = await client.query('query Page($c: ID!) { feed(containerId: $c) { cards { id } } }', { c: input.container });
  assert.deepEqual(page.data.feed.cards.map((card) => card.id), mirror.cards);

  await ask('advance', { seconds: 3000 });
  const renewed = await client.mutation(RENEW, { t: await ask('token') });
  assert.equal(renewed.data?.renewConnection.ok, true, String(renewed.error));
  await ask('advance', { seconds: 3000 });
  await ask('send', { name: 'c' });
  await mirror.next('FeedPatch');
  await mirror.agrees();
});
