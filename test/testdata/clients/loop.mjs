
// What follows is the test's: it writes until its standard input ends, and says how that went.
let stop = false;
process.stdin.on("end", () => (stop = true)).resume();
let tried = 0, failed = 0, longest = 0;
const errors = {};
while (!stop) {
  const begun = performance.now();
  tried++;
  try {
    await client.set(process.argv[2], tried);
  } catch (e) {
    failed++;
    errors[e.message] = (errors[e.message] ?? 0) + 1;
  }
  longest = Math.max(longest, (performance.now() - begun) / 1000);
  if (tried === 1) console.log("ready");
  await new Promise((done) => setTimeout(done, 10));
}
console.log(JSON.stringify({ tried, failed, longest, errors, last: Number(await client.get(process.argv[2])) }));
process.exit(0);
