// Apollo Client over its websocket link: the app subscribes anew with its token when the connection was lost.
import assert from 'node:assert/strict';
import { ApolloClient, InMemoryCache, gql } from '@apollo/client/core/index.js';
import { GraphQLWsLink } from '@apollo/client/link/subscriptions/index.js';
import { createClient } from 'graphql-ws';
import WebSocket from 'ws';
import { FEED, Mirror, RENEW, ask, input, main, wsUrl } from './harness.mjs';

await main(async () => {
  const mirror = new Mirror();
  const link = new GraphQLWsLink(
    createClient({
      url: wsUrl,
      webSocketImpl: WebSocket,
      connectionParams: async () => ({ apiKey: input.apiKey, authToken: await ask('token'), platform: 'Web' }),
      retryAttempts: 0,
    }),
  );
  const client = new ApolloClient({ link, cache: new InMemoryCache() });
  const follow = () => {
    let lost;
    const ended = new Promise((resolve) => (lost = resolve));
    const variables = { c: input.container, t: mirror.token };
    client.subscribe({ query: gql(FEED), variables, fetchPolicy: 'no-cache' }).subscribe({
      next: (result) => mirror.apply(result.data.feed),
      error: lost,
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
  const again = follow();
  const missed = await mirror.next('FeedPatch');
  assert.deepEqual([missed.upserts.length, missed.removals.length], [1, 1]);
  await mirror.agrees();

  const renewed = await client.mutate({ mutation: gql(RENEW), variables: { t: await ask('token') } });
  assert.equal(renewed.data.renewConnection.ok, true);
  await ask('advance', { seconds: 3000 });
  const mutated = await client.mutate({ mutation: gql(RENEW), variables: { t: await ask('token') } });
  assert.equal(mutated.data.renewConnection.ok, true);
  await ask('advance', { seconds: 3000 });
  await ask('send', { name: 'c' });
  await mirror.next('FeedPatch');
  await mirror.agrees();
  const still = await Promise.race([again, Promise.resolve('alive')]);
  assert.equal(still, 'alive');
});
