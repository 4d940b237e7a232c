
# What follows is the test's: it writes until its standard input ends, and says how that went.
import json, sys, threading, time

stop = threading.Event()
threading.Thread(target=lambda: (sys.stdin.read(), stop.set()), daemon=True).start()
tried, failed, longest, errors = 0, 0, 0.0, {}
while not stop.is_set():
    begun = time.monotonic()
    tried += 1
    try:
        client.set(sys.argv[1], tried)
    except Exception as e:
        failed += 1
        errors[str(e)] = errors.get(str(e), 0) + 1
    longest = max(longest, time.monotonic() - begun)
    if tried == 1:
        print("ready", flush=True)
    time.sleep(0.01)
print(json.dumps({"tried": tried, "failed": failed, "longest": longest, "errors": errors, "last": int(client.get(sys.argv[1]))}))
