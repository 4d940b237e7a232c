# The source's web application: two routes on one Redis client.
import os

import redis
from flask import Flask, request

app = Flask(__name__)
store = redis.Redis(host=os.environ["REDIS_HOST"], port=int(os.environ["REDIS_PORT"]), db=0)


@app.route("/set")
def set_value():
    key, value = request.args.get("key"), request.args.get("value")
    if key is None or value is None:
        return "OOps, the key or value is NULL"
    store.set(key, value)
    return "OK. We have set " + key + " to be " + value


@app.route("/get")
def get_value():
    key = request.args.get("key")
    return "OOps, the key is null" if key is None else store.get(key)


if __name__ == "__main__":
    app.run(host=os.environ["HOST"], port=int(os.environ["PORT"]))
