"""The driver program of the lab: a PySpark application that is told what to do line by line.

argv[1] is the job as JSON (see Job in job.go). Commands come in on stdin, one JSON object per line;
answers go out on descriptor 3, so that nothing that Spark prints can get between them.
Everything is made from a seed: the right answer is computed here, without the cluster.
"""
import hashlib
import json
import os
import random
import sys
import time
import zlib

from pyspark import SparkConf, SparkContext, StorageLevel

MASK = (1 << 64) - 1
MIB = 1 << 20
out = os.fdopen(3, "w", buffering=1)


def say(**message):
    out.write(json.dumps(message) + "\n")


def chunks(job, shuffle, m):
    """The records (reducer, bytes) of one map task: what it yields and what is expected of it."""
    if job["emptyEvery"] and m % job["emptyEvery"] == job["emptyEvery"] - 1:
        return
    rng = random.Random(job["seed"] * 1000003 + shuffle * 10007 + m)
    reduces = job["reduces"]
    if m == 0 and job["bigMiB"]:
        block = rng.randbytes(MIB - 8)
        for i in range(job["bigMiB"]):
            yield i % reduces, i.to_bytes(8, "big") + block
        return
    size = job["kibPerMap"] * 1024 // reduces
    for r in range(reduces):
        yield r, rng.randbytes(size)


def digest(records):
    """An order-free exact summary of records: count, bytes, sum of (reducer+1) * crc32."""
    count = size = total = 0
    for r, data in records:
        count += 1
        size += len(data)
        total = (total + (r + 1) * zlib.crc32(data)) & MASK
    return count, size, total


def add(sums):
    count = size = total = 0
    for c, s, t in sums:
        count, size, total = count + c, size + s, (total + t) & MASK
    return [count, size, total]


def warm(sc, slots):
    sc.parallelize(range(slots), slots).barrier().mapPartitions(lambda records: [1]).collect()
    return {}


class RDDJob:
    """Maps write one shuffle; every round reduces all of it again."""

    def __init__(self, sc, job):
        self.sc, self.job, self.shuffle = sc, job, -1
        self.maps_run = sc.accumulator(0)
        self.cache_run = sc.accumulator(0)
        self.cache = None
        self.data = self.want = self.before = None
        self.newest = -1
        self.fresh()

    def previous(self):
        """Goes back to the dataset before, and keeps this one for the next time."""
        now = self.shuffle, self.data, self.want
        self.shuffle, self.data, self.want = self.before
        self.before = now
        return {}

    def fresh(self):
        """A new dataset: the next round runs its maps."""
        self.before = self.shuffle, self.data, self.want
        self.newest += 1
        self.shuffle = self.newest
        job, shuffle, maps_run = self.job, self.shuffle, self.maps_run

        def run_map(m, _):
            slow = job["slowEvery"] and m % job["slowEvery"] == job["slowEvery"] - 1
            time.sleep(job["msPerMap"] / (100 if slow else 1000))
            yield from chunks(job, shuffle, m)
            maps_run.add(1)

        source = self.sc.parallelize(range(job["maps"]), job["maps"])
        self.data = source.mapPartitionsWithIndex(run_map).partitionBy(job["reduces"], int)
        self.want, self.slow = None, True
        return {}

    def expect(self):
        if self.want is None:
            job = self.job
            self.want = add(digest(chunks(job, self.shuffle, m)) for m in range(job["maps"]))

    def round(self):
        job, before = self.job, self.maps_run.value
        pause = self.slow * job["msPerReduce"] / 1000 / job["maps"]
        self.slow = False

        def slowly(records):
            for record in records:
                time.sleep(pause)
                yield record

        def run_reduce(records):
            yield digest(slowly(records) if pause else records)

        got = add(self.data.mapPartitions(run_reduce).collect())
        return {"result": got, "want": self.want, "counted": self.maps_run.value - before}

    def cached(self):
        """Reads the cached RDD (the first time: fills it) and says how many partitions were computed."""
        job, cache_run, before = self.job, self.cache_run, self.cache_run.value
        if self.cache is None:

            def fill(m, _):
                yield from chunks(job, 7777, m)
                cache_run.add(1)

            source = self.sc.parallelize(range(job["maps"]), job["maps"])
            self.cache = source.mapPartitionsWithIndex(fill).persist(StorageLevel.MEMORY_AND_DISK)
        got = add(self.cache.mapPartitions(lambda records: [digest(records)]).collect())
        want = add(digest(chunks(job, 7777, m)) for m in range(job["maps"]))
        return {"result": got, "want": want, "counted": self.cache_run.value - before}


class SQLJob:
    """A sort-merge join, some of its rows and an aggregation of all, with adaptive execution. Collecting the
    same DataFrame again runs the final stage only; that reads all shuffle files, those of the join too."""

    GROUPS = 13

    def __init__(self, sc, job):
        from pyspark.sql import SparkSession

        self.job, self.shuffle = job, -1
        self.spark = SparkSession(sc)
        self.fresh()

    def rows(self):
        return self.job["maps"] * self.job["kibPerMap"] * 1024 // 80

    def fresh(self):
        self.shuffle += 1
        start = self.shuffle * self.rows()
        self.span = range(start, start + self.rows())
        fact = self.spark.range(start, start + self.rows(), 1, self.job["maps"])
        if self.job["msPerMap"]:
            # Not deterministic for Spark: it gives a query up rather than run such a map again.
            first = "monotonically_increasing_id() % 8589934592 = 0"  # of the rows of a task
            sleep = f"java_method('java.lang.Thread', 'sleep', {self.job['msPerMap']}L)"
            fact = fact.where(f"not ({first}) or {sleep} is not null")
        fact = fact.selectExpr("id % 997 as k", "sha2(cast(id as string), 256) as payload")
        dim = self.spark.range(997).selectExpr("id as k", f"id % {self.GROUPS} as g")
        joined = fact.join(dim, "k")
        groups = joined.groupBy("g").agg({"*": "count", "payload": "max"})
        picked = joined.where("substr(payload, 1, 2) = lpad(lower(hex(g)), 2, '0')")  # of both sides: after the join
        self.frame = groups.selectExpr("g", "`count(1)` as n", "`max(payload)` as top").union(
            picked.selectExpr("g", "-1L as n", "payload as top"))
        self.want = None
        return {}

    def expect(self):
        if self.want is not None:
            return
        groups, picked = [[g, 0, ""] for g in range(self.GROUPS)], []
        for i in self.span:
            g, payload = i % 997 % self.GROUPS, hashlib.sha256(str(i).encode()).hexdigest()
            groups[g][1] += 1
            groups[g][2] = max(groups[g][2], payload)
            if int(payload[:2], 16) == g:
                picked.append([g, -1, payload])
        self.want = sorted(groups + picked)

    def round(self):
        got = sorted([r["g"], r["n"], r["top"]] for r in self.frame.collect())
        return {"result": got, "want": self.want, "counted": -1}


def run(sc, kind, command):
    if command["cmd"] == "warm":
        return warm(sc, command["arg"])
    if command["cmd"] == "change":
        kind.job = command["arg"]
        return kind.fresh()
    return getattr(kind, command["cmd"])()


def main():
    job = json.loads(sys.argv[1])
    sc = SparkContext(conf=SparkConf())
    kind = {"rdd": RDDJob, "sql": SQLJob}[job["kind"]](sc, job)
    say(id=0, app=sc.applicationId, rest=sc.uiWebUrl)
    for line in sys.stdin:
        command = json.loads(line)
        if command["cmd"] == "quit":
            break
        try:
            kind.expect()
            start = time.monotonic()
            answer = run(sc, kind, command)
            seconds = time.monotonic() - start
            # What REST says is complete only when the listeners have seen all that happened.
            sc._jsc.sc().listenerBus().waitUntilEmpty()
            say(id=command["id"], seconds=seconds, **answer)
        except Exception as error:  # the test is told, and decides
            say(id=command["id"], error=str(error)[:4000])
    sc.stop()


if __name__ == "__main__":
    main()
