// What users of @upstash/redis do, through the entry of a stack. Each check is
// run with replies in base64 and without. ENTRY is the stack's address, WRITER
// and READER are tokens of a read-write and of a read-only user.
import assert from "node:assert/strict";
import { Redis } from "@upstash/redis";

const { ENTRY: url, WRITER: writer, READER: reader } = process.env;
const open = (options = {}) =>
  new Redis({ url, token: writer, retry: false, enableTelemetry: false, enableAutoPipelining: false, ...options });

// fails checks that a promise is rejected, with words that match.
const fails = (promise, words) => assert.rejects(promise, (e) => words.test(e.message) || assert.fail(`${e.message} lacks ${words}`));

const checks = {
  async strings(r) {
    assert.equal(await r.set("s", "text"), "OK");
    assert.equal(await r.get("s"), "text");
    assert.equal(await r.get("missing"), null);
    for (const value of [0, -1, 1.5, 1e21, true, false, null, "", " ", "0123", "1.0", "OK", "a/b?c=d&e%20", "line\r\nline", "\u0000\u0001\u007f", "grüße 漢字 🚀", "x".repeat(100_000)]) {
      await r.set("s", value);
      const got = await r.get("s");
      assert.deepEqual(got, value, `a value comes back as ${JSON.stringify(got)}`);
    }
    // What a number cannot hold stays the text that it was.
    await r.set("s", "12345678901234567890");
    assert.equal(await r.get("s"), "12345678901234567890");
    assert.equal(await r.set("s", 1, { nx: true }), null);
    assert.equal(await r.set("s", 2, { xx: true, get: true, ex: 100 }), "12345678901234567890");
    assert.ok((await r.ttl("s")) > 90);
    assert.equal(await r.getdel("s"), 2);
    assert.equal(await r.incr("n"), 1);
    assert.equal(await r.incrby("n", 41), 42);
    assert.equal(await r.incrbyfloat("n", 0.5), 42.5);
    assert.equal(await r.append("a", "b"), 1);
    assert.equal(await r.mset({ m1: "1", m2: { two: 2 } }), "OK");
    assert.deepEqual(await r.mget("m1", "none", "m2"), [1, null, { two: 2 }]);
    assert.equal(await r.del("m1", "m2", "none"), 2);
    assert.equal(await r.exists("m1"), 0);
  },
  async json(r) {
    const value = { name: "grüße", list: [1, "two", null, { three: 3 }], deep: { er: { still: true } } };
    await r.set("j", value);
    assert.deepEqual(await r.get("j"), value);
    const plain = open({ automaticDeserialization: false });
    assert.equal(await plain.get("j"), JSON.stringify(value));
  },
  async binary(r) {
    assert.equal(await r.eval("return redis.call('SET', KEYS[1], '\\255\\0\\254a')", ["bin"], []), "OK");
    assert.equal(await r.strlen("bin"), 4);
    // A text of JavaScript has no such bytes: they are shown as U+FFFD.
    assert.equal(await r.get("bin"), "\ufffd\u0000\ufffda");
    const raw = await fetch(`${url}/get/bin`, { headers: { Authorization: `Bearer ${writer}`, "Upstash-Encoding": "base64" } });
    assert.deepEqual([...Buffer.from((await raw.json()).result, "base64")], [255, 0, 254, 97]);
    assert.equal(await r.setbit("bits", 7, 1), 0);
    assert.equal(await r.bitcount("bits", 0, -1), 1);
    assert.deepEqual(await r.bitfield("bits").get("u8", 0).incrby("u8", 0, 1).exec(), [1, 2]);
  },
  async hashes(r) {
    assert.equal(await r.hset("h", { a: 1, b: "two", c: { three: [3] } }), 3);
    assert.deepEqual(await r.hgetall("h"), { a: 1, b: "two", c: { three: [3] } });
    assert.equal(await r.hget("h", "b"), "two");
    assert.deepEqual(await r.hmget("h", "a", "none"), { a: 1, none: null });
    assert.equal(await r.hincrby("h", "a", 2), 3);
    assert.deepEqual((await r.hkeys("h")).sort(), ["a", "b", "c"]);
    assert.equal(await r.hdel("h", "a"), 1);
    assert.equal(await r.hgetall("no-hash"), null);
  },
  // What came after Redis 7.0 is there with a server that has it, and else the server says so.
  async newer(r) {
    const has = async (name) => (await r.exec(["COMMAND", "INFO", name]))[0] !== null;
    await r.hset("h", { a: 1, b: "two", c: 3 });
    if (await has("hexpire")) {
      assert.deepEqual(await r.hexpire("h", ["a", "none"], 100), [1, -2]);
      assert.ok((await r.httl("h", "a"))[0] > 90);
      assert.ok((await r.hpttl("h", "a"))[0] > 90_000);
      assert.deepEqual(await r.hpersist("h", "a"), [1]);
      assert.deepEqual(await r.hpexpire("h", "a", 1), [1]);
      await new Promise((done) => setTimeout(done, 50));
      assert.equal(await r.hget("h", "a"), null);
    } else {
      await fails(r.hexpire("h", "a", 100), /ERR unknown command/);
    }
    if (await has("hgetdel")) {
      assert.equal(await r.exec(["HSETEX", "h", "EX", "100", "FIELDS", "1", "d", "4"]), 1);
      assert.deepEqual(await r.exec(["HGETEX", "h", "PERSIST", "FIELDS", "1", "d"]), [4]);
      assert.deepEqual(await r.exec(["HGETDEL", "h", "FIELDS", "2", "d", "none"]), [4, null]);
      assert.equal(await r.hget("h", "d"), null);
    } else {
      await fails(r.exec(["HGETDEL", "h", "FIELDS", "1", "b"]), /ERR unknown command/);
    }
    await r.set("s", "old");
    const valkey = await has("commandlog"); // of 8.1 or newer
    const [delex, vectors] = [await has("delex"), await has("vadd")];
    const conditional = () => r.exec(["SET", "s", "new", "IFEQ", "old"]);
    if (valkey) {
      assert.equal(await conditional(), "OK");
      assert.equal(await r.exec(["SET", "s", "newer", "IFEQ", "old"]), null);
    } else if (!delex) { // Redis 8.4 has it, too
      await fails(conditional(), /ERR syntax error/);
    }
    await fails(r.exec(["VADD", "v", "VALUES", "1", "1", "x"]), vectors ? /not allowed/ : /ERR unknown command/);
  },
  async sets(r) {
    assert.equal(await r.sadd("set", 1, "two", { three: 3 }), 3);
    assert.equal(await r.scard("set"), 3);
    assert.equal(await r.sismember("set", "two"), 1);
    assert.deepEqual(await r.smismember("set", ["two", "four"]), [1, 0]);
    assert.equal((await r.smembers("set")).length, 3);
    await r.sadd("other", "two");
    assert.deepEqual(await r.sinter("set", "other"), ["two"]);
  },
  async sortedSets(r) {
    assert.equal(await r.zadd("z", { score: 1.5, member: "a" }, { score: 2, member: "b" }, { score: -3, member: { c: 1 } }), 3);
    assert.deepEqual(await r.zrange("z", 0, -1, { withScores: true }), [{ c: 1 }, -3, "a", 1.5, "b", 2]);
    assert.equal(await r.zscore("z", "a"), 1.5);
    assert.equal(await r.zscore("z", "none"), null);
    assert.equal(await r.zincrby("z", 1, "a"), 2.5);
    assert.equal(await r.zrank("z", "a"), 2);
    assert.deepEqual(await r.zrange("z", 2, 3, { byScore: true }), ["b", "a"]);
    assert.deepEqual(await r.zpopmax("z"), ["a", 2.5]);
  },
  async lists(r) {
    assert.equal(await r.rpush("l", 1, "two", { three: 3 }), 3);
    assert.deepEqual(await r.lrange("l", 0, -1), [1, "two", { three: 3 }]);
    assert.equal(await r.lpop("l"), 1);
    assert.deepEqual(await r.lpop("l", 5), ["two", { three: 3 }]);
    assert.equal(await r.lpop("l"), null);
    await r.rpush("l", "a", "b");
    assert.equal(await r.lmove("l", "l2", "left", "right"), "a");
  },
  async streams(r) {
    const id = await r.xadd("x", "*", { field: "value", n: 1 });
    assert.match(id, /^\d+-\d+$/);
    assert.deepEqual(await r.xrange("x", "-", "+"), { [id]: { field: "value", n: 1 } });
    assert.equal(await r.xlen("x"), 1);
    assert.equal(await r.xgroup("x", { type: "CREATE", group: "g", id: "0" }), "OK");
    const read = await r.xreadgroup("g", "me", "x", ">");
    assert.equal(read[0][0], "x");
    assert.equal(read[0][1][0][0], id);
    assert.equal(await r.xack("x", "g", id), 1);
  },
  async scan(r) {
    const p = r.pipeline();
    for (let i = 0; i < 300; i++) p.set(`scan:${i}`, i);
    await p.exec();
    const seen = new Set();
    let cursor = "0";
    do {
      const [next, keys] = await r.scan(cursor, { match: "scan:*", count: 50 });
      for (const k of keys) seen.add(k);
      cursor = next;
    } while (cursor !== "0");
    assert.equal(seen.size, 300);
    // A cursor is a number, too, and an exact one.
    await r.sadd("sscan", ...Array.from({ length: 1000 }, (_, i) => `member ${i}`));
    const members = new Set();
    cursor = 0;
    do {
      const [next, found] = await r.sscan("sscan", cursor, { count: 100 });
      for (const m of found) members.add(m);
      cursor = Number(next);
    } while (cursor !== 0);
    assert.equal(members.size, 1000);
    await fails(r.sscan("sscan", 12345), /invalid cursor.*begin again/);
    await r.hset("hscan", { a: 1 });
    assert.deepEqual(await r.hscan("hscan", 0), ["0", ["a", 1]]);
    assert.equal(await r.unlink(...seen), 300);
  },
  async pipelines(r) {
    const p = r.pipeline().set("p", 1).incr("p").get("p").hset("ph", { a: "b" }).hgetall("ph");
    assert.equal(p.length(), 5);
    assert.deepEqual(await p.exec(), ["OK", 2, 2, 1, { a: "b" }]);
    const mixed = await r.pipeline().set("p", "text").incr("p").get("p").exec({ keepErrors: true });
    assert.deepEqual([mixed[0].result, mixed[2].result], ["OK", "text"]);
    assert.match(mixed[1].error, /not an integer/);
    await fails(r.pipeline().incr("p").exec(), /not an integer/);
  },
  async transactions(r) {
    assert.deepEqual(await r.multi().set("t", 1).incr("t").get("t").exec(), ["OK", 2, 2]);
    await fails(r.multi().set("t", "text").incr("t").exec(), /not an integer/);
    assert.equal(await r.get("t"), "text"); // what stood before the error is done
  },
  async scripts(r) {
    assert.deepEqual(await r.eval("return {KEYS[1], ARGV[1], 3, false, {'x'}}", ["k"], ["v"]), ["k", "v", 3, null, ["x"]]);
    const body = `return redis.call('INCRBY', KEYS[1], ARGV[1]) -- ${Math.random()}`;
    const script = r.createScript(body);
    await fails(script.evalsha(["script"], ["1"]), /NOSCRIPT/);
    await r.del("script");
    for (let i = 1; i <= 10; i++) assert.equal(await script.exec(["script"], ["2"]), 2 * i);
    assert.equal(await script.evalsha(["script"], ["2"]), 22);
    assert.equal(await r.evalRo("return redis.call('GET', KEYS[1])", ["script"], []), 22);
    await fails(r.eval("return redis.error_reply('ERR of my own')", [], []), /ERR of my own/);
  },
  async autoPipelining(r, options) {
    const auto = open({ ...options, enableAutoPipelining: true });
    const sets = await Promise.all(Array.from({ length: 200 }, (_, i) => auto.set(`auto:${i}`, i)));
    assert.ok(sets.every((answer) => answer === "OK"));
    const values = await Promise.all(Array.from({ length: 200 }, (_, i) => auto.get(`auto:${i}`)));
    assert.deepEqual(values, Array.from({ length: 200 }, (_, i) => i));
    const counts = await Promise.all(Array.from({ length: 200 }, () => auto.incr("auto-counter")));
    assert.deepEqual(counts.sort((a, b) => a - b), Array.from({ length: 200 }, (_, i) => i + 1));
    assert.ok(auto.pipelineCounter < 30, `${auto.pipelineCounter} requests for 600 commands`);
    const settled = await Promise.allSettled([auto.get("auto:7"), auto.hget("auto:7", "x"), auto.get("auto:8")]);
    assert.deepEqual(settled.map((s) => s.status), ["fulfilled", "rejected", "fulfilled"]);
    assert.match(settled[1].reason.message, /WRONGTYPE/);
    await auto.del(...Array.from({ length: 200 }, (_, i) => `auto:${i}`));
  },
  async readYourWrites(_, options) {
    const r = open(options);
    r.client.headers["Holdfast-Read"] = "replica";
    let last = "";
    for (let i = 0; i < 50; i++) {
      await r.set("ryw", i);
      assert.notEqual(r.client.upstashSyncToken, "");
      assert.notEqual(r.client.upstashSyncToken, last);
      last = r.client.upstashSyncToken;
      assert.equal(await r.get("ryw"), i);
    }
    const answer = await fetch(`${url}/get/ryw`, {
      headers: { Authorization: `Bearer ${writer}`, "Holdfast-Read": "replica", "Upstash-Sync-Token": last },
    });
    assert.match(answer.headers.get("Holdfast-Read"), /^replica; /);
    assert.equal((await answer.json()).result, "49");
  },
  async errors(r, options) {
    await r.set("e", "text");
    await fails(r.lpush("e", 1), /WRONGTYPE Operation against a key holding the wrong kind of value/);
    await fails(r.exec(["NO-SUCH-COMMAND", "x"]), /ERR unknown command/);
    await fails(r.exec(["GET"]), /wrong number of arguments/);
    await fails(r.json.set("doc", "$", {}), /ERR unknown command/); // this Redis has no JSON
    await fails(r.flushall(), /not allowed/);
    await fails(open({ ...options, token: "guessed" }).get("e"), /WRONGPASS/);
    const look = open({ ...options, token: reader });
    assert.equal(await look.get("e"), "text");
    await fails(look.set("e", "other"), /NOPERM/);
    await fails(look.pipeline().get("e").set("e", "other").exec(), /NOPERM/);
    await fails(look.eval("return redis.call('SET', 'e', 'other')", [], []), /NOPERM/);
    assert.equal(await r.get("e"), "text");
  },
  async pubsub(r) {
    const heard = [];
    const subscriber = r.subscribe(["news", "other"]);
    const patterns = r.psubscribe(["new*"]);
    const errors = [];
    for (const s of [subscriber, patterns]) s.on("error", (e) => errors.push(e));
    await Promise.all([count(subscriber, "subscribe", 2), count(patterns, "psubscribe", 1)]);
    const all = new Promise((done) => {
      const add = (m) => heard.push(m) === 5 && done();
      subscriber.on("message", ({ channel, message }) => add([channel, message]));
      patterns.on("pmessage", ({ pattern, channel, message }) => add([pattern, channel, message]));
    });
    assert.equal(await r.publish("news", "\"one\""), 2);
    await r.publish("news", { two: [2, "grüße, 🚀"] });
    await r.publish("other", 3);
    await within(all, "five messages");
    const text = heard.map((m) => JSON.stringify(m)).sort();
    assert.deepEqual(text, [
      ["new*", "news", "one"], ["new*", "news", { two: [2, "grüße, 🚀"] }],
      ["news", "one"], ["news", { two: [2, "grüße, 🚀"] }], ["other", 3],
    ].map((m) => JSON.stringify(m)).sort());
    await subscriber.unsubscribe();
    await patterns.unsubscribe();
    assert.deepEqual(errors, []);
    for (const end = Date.now() + 5000; (await r.publish("news", "x")) !== 0; ) {
      assert.ok(Date.now() < end, "an ended subscription lives on");
    }
  },
  async idempotentRetry(r, options) {
    const once = open(options);
    once.client.headers["Idempotency-Key"] = `once-${Math.random()}`;
    await r.del("once");
    const answers = await Promise.all(Array.from({ length: 5 }, () => once.incr("once")));
    answers.push(await once.incr("once"));
    assert.deepEqual(answers, [1, 1, 1, 1, 1, 1]);
    assert.equal(await r.get("once"), 1);
    // With another command the key is another key.
    assert.equal(await once.incrby("once", 2), 3);
    assert.equal(await once.incr("once"), 1);
    assert.equal(await r.get("once"), 3);
  },
};

// count waits until an event was heard so often.
function count(subscriber, event, times) {
  return within(new Promise((done) => subscriber.on(event, () => --times === 0 && done())), event);
}

function within(promise, what) {
  let timer;
  const late = new Promise((_, fail) => {
    timer = setTimeout(() => fail(new Error(`not within 10 s: ${what}`)), 10_000);
  });
  return Promise.race([promise, late]).finally(() => clearTimeout(timer));
}

let failed = 0;
for (const responseEncoding of ["base64", false]) {
  for (const [name, check] of Object.entries(checks)) {
    const r = open({ responseEncoding });
    try {
      const [, keys] = await r.scan(0, { count: 10_000 });
      if (keys.length > 0) await r.del(...keys);
      await check(r, { responseEncoding });
      console.log(`ok ${name}, ${responseEncoding || "plain"}`);
    } catch (e) {
      failed++;
      console.log(`not ok ${name}, ${responseEncoding || "plain"}: ${e.stack}`);
    }
  }
}
process.exit(failed > 0 ? 1 : 0);
