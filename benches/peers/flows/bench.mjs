// The chain card → branch → card as a DBOS workflow, each step durable. Usage: node bench.mjs <url> <count>
// Prints one line of JSON: how many workflows were done, and in how many seconds.
import { DBOS } from '@dbos-inc/dbos-sdk';
import pg from 'pg';

const [url, count] = [process.argv[2], Number(process.argv[3])];
const AT_ONCE = 64;

const cards = new pg.Pool({ connectionString: url, max: 16 });
await cards.query('CREATE TABLE IF NOT EXISTS peer_cards (run text, step text, body jsonb, PRIMARY KEY (run, step))');

const send = (step) => async (run, amount) => {
  await cards.query('INSERT INTO peer_cards VALUES ($1, $2, $3) ON CONFLICT DO NOTHING', [run, step, { amount }]);
};
const sendOffer = send('offer');
const sendThanks = send('thanks');

async function chain(amount) {
  const run = DBOS.workflowID;
  await DBOS.runStep(() => sendOffer(run, amount), { name: 'offer' });
  const path = await DBOS.runStep(async () => (amount >= 10 ? 'some' : 'default'), { name: 'choose' });
  if (path === 'some') await DBOS.runStep(() => sendThanks(run, amount), { name: 'thanks' });
}
const workflow = DBOS.registerWorkflow(chain, { name: 'chain' });

DBOS.setConfig({ name: 'cardwire-peer', systemDatabaseUrl: url, logLevel: 'error', runAdminServer: false });
await DBOS.launch();
const once = async () => (await DBOS.startWorkflow(workflow)(12)).getResult();
await Promise.all(Array.from({ length: AT_ONCE }, once));

let left = count;
const began = process.hrtime.bigint();
await Promise.all(
  Array.from({ length: AT_ONCE }, async () => {
    while (left-- > 0) await once();
  }),
);
const seconds = Number(process.hrtime.bigint() - began) / 1e9;
console.log(JSON.stringify({ count, seconds }));
await DBOS.shutdown();
await cards.end();
