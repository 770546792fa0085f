// The audits of the package graphql-http: GraphQL over HTTP as its specification says. Every one must pass.
import { serverAudits } from 'graphql-http';
import { httpUrl, main } from './harness.mjs';

await main(async () => {
  const failed = [];
  const audits = serverAudits({ url: httpUrl, fetchFn: fetch });
  for (const audit of audits) {
    const result = await audit.fn();
    if (result.status !== 'ok') failed.push(`${result.status} ${audit.id} ${audit.name}: ${result.reason}`);
  }
  if (audits.length < 60) throw new Error(`only ${audits.length} audits`);
  if (failed.length) throw new Error(`${failed.length} of ${audits.length}\n${failed.join('\n')}`);
});
