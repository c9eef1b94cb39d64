"""What a program does with redis-py, in both versions of the protocol."""

import os
import sys
import threading

import redis


def work(client):
    client.flushall()
    assert client.ping() is True
    blob = os.urandom(300_000)
    assert client.set("blob", blob) and client.get("blob") == blob
    assert client.set("once", 1, nx=True) and client.set("once", 2, nx=True) is None
    assert client.set("once", 3, xx=True, get=True) == b"1"
    assert client.incrby("n", 41) == 41 and client.incrbyfloat("f", 0.5) == 0.5
    assert client.append("text", "ab") == 2 and client.getrange("text", 1, 1) == b"b"
    assert client.expire("text", 100) and 0 < client.ttl("text") <= 100
    assert client.ttl("nothing") == -2 and client.get("nothing") is None
    assert client.mset({f"key:{n}": n for n in range(500)})
    assert len(set(client.scan_iter("key:*", count=50))) == 500
    assert client.mget("key:1", "nothing", "key:2") == [b"1", None, b"2"]

    with client.pipeline(transaction=False) as pipe:
        for n in range(1000):
            pipe.set(f"p{n}", n)
            pipe.get(f"p{n}")
        assert pipe.execute()[1::2] == [str(n).encode() for n in range(1000)]

    def count(pipe):
        now = int(pipe.get("counter") or 0)
        pipe.multi()
        pipe.set("counter", now + 1)

    def many():
        for _ in range(50):
            client.transaction(count, "counter")

    threads = [threading.Thread(target=many) for _ in range(4)]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    assert client.get("counter") == b"200"

    try:
        client.incr("blob")
        raise AssertionError("a blob is no number")
    except redis.ResponseError as error:
        assert "not an integer" in str(error), error
    try:
        client.lpush("list", 1)
        raise AssertionError("there are no lists")
    except redis.ResponseError as error:
        assert "unknown command" in str(error), error
    assert client.info("keyspace")["db0"]["keys"] == client.dbsize()
    assert client.delete("blob", "once", "nothing") == 2


for protocol in (2, 3):
    work(redis.Redis(unix_socket_path=sys.argv[1], protocol=protocol))
