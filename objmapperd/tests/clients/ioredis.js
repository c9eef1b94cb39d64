// What a program does with ioredis.
const assert = require("node:assert");
const { randomBytes } = require("node:crypto");
const Redis = require("ioredis");

async function main() {
  const redis = new Redis({ path: process.argv[2] });
  assert.equal(await redis.set("greeting", "hello"), "OK");
  assert.equal(await redis.get("greeting"), "hello");
  const blob = randomBytes(300_000);
  await redis.set("blob", blob);
  assert.ok(blob.equals(await redis.getBuffer("blob")));
  assert.equal(await redis.set("once", 1, "EX", 100, "NX"), "OK");
  assert.equal(await redis.set("once", 2, "NX"), null);
  assert.ok((await redis.pttl("once")) > 0);

  const pipeline = redis.pipeline();
  for (let n = 0; n < 1000; n++) pipeline.set(`key:${n}`, n).get(`key:${n}`);
  const replies = await pipeline.exec();
  assert.deepEqual(replies.filter((_, i) => i % 2).map(([, value]) => Number(value)), [...Array(1000).keys()]);

  const results = await redis.multi().incr("n").incr("n").get("n").exec();
  assert.deepEqual(results, [[null, 1], [null, 2], [null, "2"]]);
  const other = redis.duplicate();
  await redis.watch("n");
  await other.incr("n");
  assert.equal(await redis.multi().incr("n").exec(), null);

  const found = new Set();
  for await (const keys of redis.scanStream({ match: "key:*", count: 100 })) keys.forEach((key) => found.add(key));
  assert.equal(found.size, 1000);
  await assert.rejects(redis.lpush("list", 1), /unknown command/);
  await Promise.all([redis.quit(), other.quit()]);
}

main().catch((error) => {
  console.error(error);
  process.exit(1);
});
