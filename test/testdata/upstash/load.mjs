// Counts up by @upstash/redis in every way that must not happen twice, until
// standard input ends; then reads everything back. Prints "going" when the
// first hundred are answered, "gone on" when two hundred more are after
// something came on standard input, and at the end one line of JSON.
import { Redis } from "@upstash/redis";

const { ENTRY: url, WRITER: token } = process.env;
const options = { url, token, retry: false, enableTelemetry: false, enableAutoPipelining: false };
const plain = new Redis(options);
const auto = new Redis({ ...options, enableAutoPipelining: true });
const script = plain.createScript("return redis.call('INCR', KEYS[1])");

// Each takes a key, counts it up by one and answers the number.
const ways = {
  command: (key) => plain.incr(key),
  automatic: (key) => auto.incr(key),
  pipeline: async (key) => (await plain.pipeline().set(`${key}:x`, "y").incr(key).exec())[1],
  transaction: async (key) => (await plain.multi().set(`${key}:x`, "y").incr(key).exec())[1],
  script: (key) => script.exec([key], []),
};

const result = { requests: 0, failed: [], wrong: [], longest: 0 };
const say = new Map([[100, "going"]]); // at how many requests

let going = true;
process.stdin.on("data", () => say.set(result.requests + 200, "gone on")).on("end", () => (going = false));

const counters = [];

async function worker(way, key) {
  const c = { key, tried: 0, acknowledged: 0 };
  counters.push(c);
  while (going) {
    c.tried++;
    const began = performance.now();
    try {
      const n = await ways[way](key);
      if (n <= c.acknowledged || n > c.tried) result.wrong.push(`${key}: ${n} after ${c.acknowledged} of ${c.tried}`);
      c.acknowledged++;
    } catch (e) {
      result.failed.push(`${way}: ${e.message}`);
    }
    result.longest = Math.max(result.longest, performance.now() - began);
    if (say.has(++result.requests)) console.log(say.get(result.requests));
    await new Promise((done) => setTimeout(done, 20));
  }
}

const workers = Object.keys(ways).flatMap((way) => Array.from({ length: 8 }, (_, i) => worker(way, `${way}-${i}`)));
await Promise.all(workers);
for (const { key, tried, acknowledged } of counters) {
  const n = Number(await plain.get(key));
  if (n < acknowledged || n > tried) result.wrong.push(`${key} is ${n}: ${acknowledged} acknowledged, ${tried} sent`);
}
console.log(JSON.stringify(result));
process.exit(0);
