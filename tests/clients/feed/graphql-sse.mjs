// The reference client of GraphQL over server-sent events, one connection for each operation.
import assert from 'node:assert/strict';
import { createClient } from 'graphql-sse';
import { FEED, Mirror, ask, httpUrl, input, main } from './harness.mjs';

await main(async () => {
  const mirror = new Mirror();
  let connected = 0;
  const client = createClient({
    url: httpUrl,
    headers: async () => ({
      authorization: `Bearer ${await ask('token')}`,
      'x-cardwire-api-key': input.apiKey,
      'x-cardwire-platform': 'Web',
    }),
    retryAttempts: 100,
    retry: () => new Promise((resolve) => setTimeout(resolve, 20)),
    on: { connected: () => connected++ },
  });
  const variables = { c: input.container, t: null };
  client.subscribe(
    { query: FEED, variables },
    {
      next: (result) => {
        assert.equal(result.errors, undefined);
        mirror.apply(result.data.feed);
        variables.t = mirror.token;
      },
      error: (error) => main(() => Promise.reject(error)),
      complete: () => main(() => Promise.reject(new Error('the subscription ended'))),
    },
  );
  await mirror.next('FeedSnapshot');
  const first = await ask('send', { name: 'a' });
  await mirror.next('FeedPatch');

  await ask('cut');
  await ask('send', { name: 'b' });
  await ask('dismiss', { card: first });
  await ask('mend');
  const missed = await mirror.next('FeedPatch');
  assert.deepEqual([missed.upserts.length, missed.removals.length], [1, 1]);
  await mirror.agrees();

  // When its token ends the stream breaks off; the client fetches another and resumes.
  const before = connected;
  await ask('advance', { seconds: 3601 });
  await ask('send', { name: 'c' });
  await mirror.next('FeedPatch');
  await ask('send', { name: 'd' });
  while (mirror.cards.length < 3) await mirror.next('FeedPatch');
  await mirror.agrees();
  assert.ok(connected > before, 'a new stream was opened');

  // Queries and mutations give one result and end.
  const one = (query) =>
    new Promise((resolve, reject) => {
      const results = [];
      client.subscribe({ query }, { next: (result) => results.push(result), error: reject, complete: () => resolve(results) });
    });
  assert.deepEqual((await one('{ me { userId } }')).map((result) => result.data.me.userId), ['user-123']);
  const refused = await one('{ nothing }');
  assert.equal(refused[0].errors[0].extensions.code, 'bad_request');
});
