// Reads the Parquet file of an hour with hyparquet and compares it with the NDJSON file of the same hour.
import assert from 'node:assert/strict';
import { parquetReadObjects } from 'hyparquet';

const input = JSON.parse(process.argv[2]);
const lines = (await (await fetch(input.ndjson)).text()).trimEnd().split('\n');
const rows = await parquetReadObjects({ file: await (await fetch(input.parquet)).arrayBuffer() });

assert.equal(rows.length, lines.length);
assert.deepEqual(Object.keys(rows[0]), ['id', 'name', 'end_user_id', 'timestamp', 'is_test', 'event']);
rows.forEach((row, place) => {
  const event = JSON.parse(lines[place]);
  assert.equal(row.event, lines[place]);
  assert.equal(row.id, event.id);
  assert.equal(row.name, event.analyticsEvent ?? event.eventName);
  assert.equal(row.end_user_id, event.endUserId);
  assert.equal(row.timestamp.toISOString(), event.timestamp);
  assert.equal(row.is_test, event.platformContext.isTest);
});
