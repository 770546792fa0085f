// The reference client of graphql-transport-ws: it reconnects by itself and subscribes again with what the app holds.
import assert from 'node:assert/strict';
import { createClient } from 'graphql-ws';
import WebSocket from 'ws';
import { FEED, Mirror, RENEW, ask, input, main, wsUrl } from './harness.mjs';

await main(async () => {
  const mirror = new Mirror();
  const closed = [];
  let expiring;
  const expires = new Promise((resolve) => (expiring = resolve));
  const client = createClient({
    url: wsUrl,
    webSocketImpl: WebSocket,
    connectionParams: async () => ({ apiKey: input.apiKey, authToken: await ask('token'), platform: 'Web' }),
    retryAttempts: 100,
    shouldRetry: () => true,
    retryWait: () => new Promise((resolve) => setTimeout(resolve, 20)),
    on: {
      closed: (event) => closed.push(event.code),
      ping: (received, payload) => received && payload?.type === 'tokenExpiring' && expiring(payload.expiresAt),
    },
  });
  const variables = { c: input.container, t: null };
  const sink = {
    next: (result) => {
      assert.equal(result.errors, undefined);
      mirror.apply(result.data.feed);
      // The client sends this object again when it comes back.
      variables.t = mirror.token;
    },
    error: (error) => main(() => Promise.reject(error)),
    complete: () => main(() => Promise.reject(new Error('the subscription ended'))),
  };
  client.subscribe({ query: FEED, variables }, sink);
  await mirror.next('FeedSnapshot');
  const first = await ask('send', { name: 'a' });
  assert.equal((await mirror.next('FeedPatch')).upserts[0].card.id, first);

  // The wire is cut; what happens meanwhile comes as one patch.
  await ask('cut');
  await ask('send', { name: 'b' });
  await ask('dismiss', { card: first });
  await ask('mend');
  const missed = await mirror.next('FeedPatch');
  assert.deepEqual([missed.upserts.length, missed.removals], [1, [{ cardId: first, reason: 'DISMISS' }]]);
  await mirror.agrees();
  assert.ok(closed.length >= 1, 'the connection was lost');

  // The token ends soon; the client is told, and keeps its connection with a new one.
  const run = (query, variables) =>
    new Promise((resolve, reject) => client.subscribe({ query, variables }, { next: resolve, error: reject, complete() {} }));
  const before = closed.length;
  await ask('advance', { seconds: 3570 });
  await run('{ __typename }');
  await expires;
  const renewed = await run(RENEW, { t: await ask('token') });
  assert.equal(renewed.data.renewConnection.ok, true);
  await ask('advance', { seconds: 1800 });
  await run('{ __typename }');
  await ask('send', { name: 'c' });
  await mirror.next('FeedPatch');
  await mirror.agrees();
  assert.equal(closed.length, before, 'the renewed connection lives');

  // A token that is not renewed ends the connection; the client fetches another and resumes.
  await ask('advance', { seconds: 3600 });
  await run('{ __typename }').catch(() => {});
  await mirror.next('FeedPatch');
  assert.equal(closed.at(-1), 4403);
  await ask('send', { name: 'd' });
  await mirror.next('FeedPatch');
  await mirror.agrees();
});
